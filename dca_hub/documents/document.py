"""A document as the rest of the product sees it: numbered pages of text, and one text with page marks."""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from dca_hub.documents.words import fold


def page_mark(number: int) -> str:
    """The line that stands before a page's text, by which an answer can name the page."""
    return f"[page {number}]"


@dataclass(frozen=True)
class Page:
    """One page.

    number: counts from 1 in the file, whatever range was read. text: empty without a text layer. reader: whose reading
    it is, "pdfium" or "pypdf"; empty for a text file.
    """

    number: int
    text: str
    reader: str = ""


@dataclass(frozen=True)
class Document:
    """The pages that were read.

    name: the file's name, fit to be shown.
    pages: those asked for, ascending, empty ones included.
    page_count: pages in the file.
    notes: sentences on what is missing (pages without text, cut or unreadable pages).
    """

    name: str
    pages: tuple[Page, ...]
    page_count: int
    notes: tuple[str, ...] = ()

    @cached_property
    def _parts(self) -> tuple[tuple[int, str], ...]:
        return tuple((p.number, f"{page_mark(p.number)}\n{p.text}\n\n") for p in self.pages if p.text)

    @cached_property
    def folded(self) -> tuple[str, ...]:
        """Each page's text as `words.fold` leaves it: what citations search in, folded once for all questions."""
        return tuple(fold(page.text) for page in self.pages)

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(len(part) for _, part in self._parts)]

    @cached_property
    def text(self) -> str:
        """Every page that has text, each under its page mark."""
        return "".join(part for _, part in self._parts)

    def page_at(self, offset: int) -> int:
        """The number of the page that holds character `offset` of `text`; a mark belongs to its page.

        Raises IndexError outside 0 <= offset < len(text).
        """
        if not 0 <= offset < self._starts[-1]:
            raise IndexError(f"offset {offset} is outside the text of {self._starts[-1]} characters")
        return self._parts[bisect_right(self._starts, offset) - 1][0]
