"""The command line: `python -m dca_hub COMMAND` or `dca-hub COMMAND`. One module a command."""

import argparse
import os
import sys
from collections.abc import Sequence

from dca_hub.cli import (
    ask,
    catalogue_publish,
    evaluate,
    finetune,
    models,
    needle,
    package,
    passkey,
    perplexity,
    plot,
    publish,
    publish_space,
    report,
    serve,
    space,
    text,
    verify,
)
from dca_hub.cli.fixes import words_for
from dca_hub.errors import DcaHubError
from dca_hub.processor import settle_threads
from dca_hub.version import VERSION

COMMANDS = (
    *(models, package, verify, publish, space, publish_space, catalogue_publish, ask, text, serve),
    *(perplexity, passkey, needle, evaluate, plot, report, finetune),
)

DESCRIPTION = """\
Dual Chunk Attention (DCA) lets a trained RoPE model read 8 times its length and more, without training.
"""
EPILOG = """\
examples:
  dca-hub models                                       what can be loaded by name
  dca-hub ask demo --pdf paper.pdf "What is ...?"      ask about a PDF; the demo model needs no network
  dca-hub package Qwen/Qwen2.5-0.5B-Instruct --out qwen-dca
  dca-hub verify qwen-dca
  dca-hub needle demo --lengths 512,2k,8k --plain --out needle.jsonl     what it finds, by depth and length

threads on a CPU: one for each core that this process may use within its cgroup's limit, not counting hyper-threads;
OMP_NUM_THREADS=N sets another number

exit codes: 0 done, 1 a check failed, 2 wrong usage or input (the message says what to do), 130 stopped with Ctrl-C
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code."""
    args = _parser().parse_args(argv)
    settle_threads()
    try:
        return args.run(args)
    except DcaHubError as error:
        print(f"dca-hub: {error.told(words_for(args))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ndca-hub: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dca-hub", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"dca-hub {VERSION}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(subparsers)
    return parser
