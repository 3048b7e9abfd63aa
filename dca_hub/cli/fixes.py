"""How the command line words the ways out of an error: the library names an argument, a command has an option."""

import argparse
from collections.abc import Callable

from dca_hub.errors import Fix

# Of each argument, the attributes of the parsed command line that may hold it, with the option of each.
_OPTIONS = {
    "context": {"max_context": "--max-context", "lengths": "--lengths"},
    "branch": {"revision": "--revision"},
    "pull_request": {"create_pr": "--create-pr"},
    "text": {"text": "--text", "haystack": "--haystack"},
    "quantization": {"quantization": "--load-in-{value}"},
    "cache_bits": {"cache_bits": "--cache-in-{value}bit"},
}


def words_for(args: argparse.Namespace) -> Callable[[Fix], str | None]:
    """Puts a way out into the options of the command that was given; None where the command has none for it."""

    def words(fix: Fix) -> str | None:
        spelled = _OPTIONS.get(fix.argument, {fix.argument: f"--{fix.argument.replace('_', '-')}"})
        option = next((option for name, option in spelled.items() if hasattr(args, name)), None)
        if option is None:
            return None
        if fix.value is None:
            return fix.text.format(option.format(value="..."))
        takes_value = "{value}" not in option and not isinstance(fix.value, bool)
        return fix.text.format(option.format(value=fix.value) + (f" {fix.value}" if takes_value else ""))

    return words
