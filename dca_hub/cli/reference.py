"""docs/cli.md, made from the parsers: `python -m dca_hub.cli.reference > docs/cli.md`."""

import argparse
import os


def markdown() -> str:
    """One section a command, with its help as a terminal of 100 columns shows it."""
    from dca_hub.cli import _parser

    os.environ["COLUMNS"] = "100"  # what argparse asks for the width
    os.environ["NO_COLOR"] = "1"
    parser = _parser()
    [commands] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    parts = ["# Command line", "Made from the commands' own `--help`.", _block(parser)]
    for name, command in commands.choices.items():
        parts += [f"## {name}", _block(command)]
    return "\n\n".join(parts) + "\n"


def _block(parser: argparse.ArgumentParser) -> str:
    return f"```text\n{parser.format_help().strip()}\n```"


if __name__ == "__main__":
    print(markdown(), end="")
