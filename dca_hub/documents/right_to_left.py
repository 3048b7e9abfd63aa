"""What pdfium leaves in the order of the eye where it puts right-to-left lines into the order of reading."""

import re

_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
# A number that ends a sentence, taken for one that begins with the full stop.
_STOP_BEFORE_NUMBER = re.compile(r"(?<=[\u0590-\u08ff] )([.,:;!?])(\d+(?:[.,/]\d+)*)(?!\S)")
_MARK_BEHIND_STOP = re.compile("([.,:;!?\u060c\u061b\u061f])([\u064b-\u065f\u05b0-\u05c7]+)")
_MIRRORED = str.maketrans("()[]{}«»", ")(][}{»«")


def in_logical_order(text: str) -> str:
    """`text` with stops behind the numbers and vowels that they follow, and brackets that open before they close."""
    if not _RIGHT_TO_LEFT.search(text):
        return text
    return "".join(_put_right(line) if _RIGHT_TO_LEFT.search(line) else line for line in text.splitlines(keepends=True))


def _put_right(line: str) -> str:
    line = _MARK_BEHIND_STOP.sub(r"\2\1", _STOP_BEFORE_NUMBER.sub(r"\2\1", line))
    mirrored = line.translate(_MIRRORED)
    return mirrored if _unmatched(mirrored) < _unmatched(line) else line


def _unmatched(line: str) -> int:
    """Brackets that close before they open, or stay open."""
    depth = wrong = 0
    for character in line:
        if character in "([{«":
            depth += 1
        elif character in ")]}»":
            wrong += not depth
            depth = max(0, depth - 1)
    return wrong + depth
