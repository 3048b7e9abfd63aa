"""The thoughts of reasoning models, which stand before an answer and are no part of it."""

import re
from dataclasses import dataclass
from itertools import pairwise

ROOM = 4096  # tokens that thoughts may take beside the answer
CLOSING = "</think>"
_TAG = r"(?:think|thinking|thought|thoughts|reasoning)"
_OPEN = re.compile(rf"\s*(?:<{_TAG}>|\[THINK\])", re.IGNORECASE)
_CLOSE = re.compile(rf"</{_TAG}>|\[/THINK\]", re.IGNORECASE)


@dataclass(frozen=True)
class Separated:
    """What a model wrote: its `thoughts`, and the `answer` behind them; an answer that was not begun is empty."""

    thoughts: str
    answer: str


def separate(text: str, opened: bool = False) -> Separated:
    """Keeps the thoughts apart that begin a text.

    opened: whether the prompt ends within thoughts, as the chat formats of some models write it, so that the text holds
    their end alone. Tags further on, such as those that a document quotes, are part of the answer.
    """
    begins = _OPEN.match(text)
    if not begins and not opened:
        return Separated("", text)
    start = begins.end() if begins else 0
    ends = _CLOSE.search(text, start)
    if ends is None:
        return Separated(text[start:].strip(), "")
    return Separated(text[start : ends.start()].strip(), text[ends.end() :].lstrip())


def parts(text: str) -> list[str]:
    """A text, taken apart at the tags around the thoughts that begin it: before, opening, thoughts, closing, answer.
    One without such tags is one part; joined, the parts are the text."""
    begins = _OPEN.match(text)
    ends = _CLOSE.search(text, begins.end() if begins else 0)
    found = [match for match in (begins, ends) if match]
    cuts = [0, *(edge for match in found for edge in match.span()), len(text)]
    return [text[start:stop] for start, stop in pairwise(cuts)]


def ends_within(prompt: str) -> bool:
    """Whether a rendered prompt ends within thoughts: they were opened after all else, and not closed."""
    opens = list(re.finditer(rf"<{_TAG}>|\[THINK\]", prompt, re.IGNORECASE))
    return bool(opens) and not prompt[opens[-1].end() :].strip()


def are_written(template: str, prompt: str) -> bool:
    """Whether a model with that chat template is to be expected to think after the prompt rendered by it: it knows
    thoughts, and the prompt does not end with some that are closed."""
    return bool(_CLOSE.search(template)) and not re.search(rf"(?:{_CLOSE.pattern})\s*$", prompt, re.IGNORECASE)
