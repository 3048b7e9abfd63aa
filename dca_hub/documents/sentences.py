"""Where sentences end, in every script that marks it."""

import re
from collections.abc import Iterator

# A full stop ends a sentence before a blank; the marks of Chinese, Japanese, Hindi, Arabic, Khmer and Burmese anywhere.
SENTENCE_END = re.compile(r"[.!?…]+[\"'”’»)\]]*(?=\s|\Z)|[。！？｡]+[\"'”’」』）]*|[।॥؟۔។၊။]+[\"'”’»)]*|\n+")
_ABBREVIATION = re.compile(
    r"(?:\b[^\W\d_]|\b(?:mr|mrs|ms|dr|prof|st|no|nos|fig|vol|sec|cf|vs|approx|pp|resp|incl|eg|ie|ca|bzw|usw|nr|art))\Z",
    re.IGNORECASE,
)


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """The spans of the sentences of `text`, blank ones left out; abbreviations and initials end none."""
    start = 0
    for match in SENTENCE_END.finditer(text):
        if match[0] == "." and _ABBREVIATION.search(text, max(start, match.start() - 8), match.start()):
            continue
        yield from _trimmed(text, start, match.end())
        start = match.end()
    yield from _trimmed(text, start, len(text))


def _trimmed(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    piece = text[start:stop]
    if piece.strip():
        yield start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
