"""Page ranges as people write them: `3-7,9`, `12-` (to the end)."""

import re
from collections.abc import Iterable

_PART = re.compile(r"\s*(\d{1,9})\s*(?:([-–])\s*(\d{1,9})?)?\s*", re.ASCII)
_LONGEST = 1000


class BadRange(ValueError):
    """Not a page range of this document; `asked` is the part at fault, cut to a length that can be shown."""

    def __init__(self, asked: str) -> None:
        self.asked = "".join(c if c.isprintable() else "?" for c in asked.strip()[:40]) or "An empty text"
        super().__init__(self.asked)


def parse_pages(pages: str | None, count: int) -> tuple[int, ...]:
    """The page numbers (1-based, ascending, each once) that `pages` names in a document of `count` pages.

    None or blank means all of them. Raises BadRange for anything else that is not a range within 1..count.
    """
    if pages is None or not pages.strip():
        return tuple(range(1, count + 1))
    if len(pages) > _LONGEST:
        raise BadRange(pages)
    chosen: set[int] = set()
    for part in pages.split(","):
        chosen.update(_numbers(part, count))
    return tuple(sorted(chosen))


def _numbers(part: str, count: int) -> range:
    match = _PART.fullmatch(part)
    if match is None:
        raise BadRange(part)
    first = int(match[1])
    last = int(match[3]) if match[3] else count if match[2] else first
    # Bounds before the range is walked: 1-999999999 must cost nothing.
    if not 1 <= first <= last <= count:
        raise BadRange(part)
    return range(first, last + 1)


def spoken(numbers: Iterable[int]) -> str:
    """`3-5, 9` for 3, 4, 5, 9 (ascending)."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def range_advice(count: int) -> str:
    """What to write in place of a bad page range of a document of so many pages."""
    if count <= 1:
        return "leave the pages out"
    return f"write pages from 1 to {count}, such as " + (f"1-{count}" if count < 9 else "3-7,9")
