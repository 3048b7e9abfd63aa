"""The library's exception: a failure that the person who called can do something about."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Fix:
    """A way out that concerns an argument of the call: `text` with {} where the argument is named, and the `value` that
    it should have, where there is one.

    From Python the argument is `context=4096`, on the command line `--max-context 4096`, and in the browser a control.
    """

    text: str
    argument: str
    value: object = None


def python_words(fix: Fix) -> str:
    """A way out as someone who called from Python needs it."""
    return fix.text.format(fix.argument if fix.value is None else f"{fix.argument}={fix.value!r}")


class DcaHubError(Exception):
    """A failure that the caller can fix.

    The message is one sentence that says what is wrong and names the fix; the command line and the browser show it
    without a traceback. Everything else that is raised is a defect of this library.

    Args:
        problem: the sentence; without its full stop where `fixes` follow.
        fixes: ways out, the best one first. A `Fix` is put into words by whoever shows the error.
    """

    def __init__(self, problem: str, *fixes: Fix | str):
        self.problem, self.fixes = problem, fixes
        super().__init__(self.told())

    def told(self, words: Callable[[Fix], str | None] = python_words) -> str:
        """The message with its ways out as `words` puts them; a way for which it gives None is left out."""
        ways = [way for way in (words(fix) if isinstance(fix, Fix) else fix for fix in self.fixes) if way]
        if not self.fixes:
            return self.problem
        return f"{self.problem}: {', or '.join(ways)}." if ways else f"{self.problem}."


class DoesNotFit(DcaHubError):
    """Memory does not hold what was asked for. `tokens` of context would fit; 0 if not even the weights do."""

    def __init__(self, problem: str, *fixes: Fix | str, tokens: int = 0):
        super().__init__(problem, *fixes)
        self.tokens = tokens


def one_line(error: Exception) -> str:
    """A library's message, which may span several lines, as part of a sentence."""
    return " ".join(str(error).split())
