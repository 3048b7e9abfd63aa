"""Text out of a PDF, page by page, read by pdfium and by pypdf and judged; runs in the worker process.

pdfium is ten times as fast and reads more fonts, so it reads every page. pypdf gives the second reading: of pages that
look wrong, of rotated text, and of pages without text.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO

import pypdfium2

from dca_hub.documents import judge
from dca_hub.documents.failures import Reason, Refused
from dca_hub.documents.limits import Limits
from dca_hub.documents.pdfium import PageReading, is_xfa, open_document, read_page, refusal
from dca_hub.documents.ranges import parse_pages
from dca_hub.documents.text import clean

if TYPE_CHECKING:
    from dca_hub.documents.pypdf_reading import PypdfReading

_SECOND_READING = 10.0  # seconds of processor time that one page may take with pypdf
_FRUITLESS = 3  # second readings in a row that were not taken; from then on every fourth page that wants one gets it
_MOST_ATTACHMENTS = 5  # names that are passed on
# What a form that only Adobe's programs can draw has for a page.
_PLACEHOLDER = re.compile(r"please wait|may not be able to display|adobe reader|acrobat", re.IGNORECASE)


def answer(data: BinaryIO, request: dict[str, Any], limits: Limits, send: Callable[..., None]) -> None:
    """Sends "open" and then each page of request["pages"], or "failed"; request["password"] opens the file.

    A worker that follows one which died gets request["begin"], the page to go on from, and request["crashed"], pages
    that pypdf alone is to read, since pdfium died of them.
    """
    try:
        reading = _Readings(data.read(), request["password"], limits, frozenset(request.get("crashed", ())))
        count = reading.count_pages()
        if count == 0:
            raise Refused(Reason.EMPTY)
        send("open", pages=count, chosen=0)
        numbers = parse_pages(request["pages"], count)
        if len(numbers) > limits.pages:
            raise Refused(Reason.TOO_MANY_PAGES, asked=len(numbers))
        send("open", pages=count, chosen=len(numbers), **reading.facts())
        begin = request.get("begin", 1)
        _send_pages(reading, [number for number in numbers if number >= begin], limits, send)
    except Refused as refused:
        send("failed", reason=refused.reason, **refused.facts)


def _send_pages(reading: "_Readings", numbers: list[int], limits: Limits, send: Callable[..., None]) -> None:
    total = 0
    for number in numbers:
        send("begin", number=number)
        try:
            page = reading.page(number)
        except Refused as refused:
            send("page", number=number, text="", problem=refused.reason)
            continue
        text = clean(page.text[: limits.page_characters])
        total += len(text)
        if total > limits.characters:
            raise Refused(Reason.TOO_MUCH_TEXT, page=number)
        problem = "cut" if len(page.text) > limits.page_characters else page.problem
        if reading.is_form and reading.count_pages() == 1 and _is_placeholder(text):
            raise Refused(Reason.XFA)
        send("page", number=number, text=text, problem=problem, reader=page.reader)


def _is_placeholder(text: str) -> bool:
    return not text or (len(text) < 3000 and _PLACEHOLDER.search(text) is not None)


@dataclass(frozen=True)
class _Taken:
    """The reading that was taken, whose it is, and what is wrong with it: picture, garbage, or None."""

    text: str
    reader: str
    problem: str | None


@dataclass
class _Readings:
    data: bytes
    password: str | None
    limits: Limits
    crashed: frozenset[int] = frozenset()
    fruitless: int = 0

    @cached_property
    def first(self) -> pypdfium2.PdfDocument | None:
        """pdfium's document; None where pdfium cannot open it."""
        try:
            return open_document(io.BytesIO(self.data), self.password)
        except pypdfium2.PdfiumError as error:
            reason = refusal(error, self.password)
            if reason is not Reason.DAMAGED:
                raise Refused(reason) from None
            return None

    @cached_property
    def second(self) -> "PypdfReading":
        """pypdf's document. Raises Refused where pypdf cannot open it."""
        from dca_hub.documents.pypdf_reading import PypdfReading  # a third of the worker's start, for few files

        return PypdfReading(io.BytesIO(self.data), self.password, min(_SECOND_READING, self.limits.seconds / 4))

    @cached_property
    def is_form(self) -> bool:
        return self.first is not None and is_xfa(self.first)

    def count_pages(self) -> int:
        count = len(self.first) if self.first else 0
        return count or self.second.count_pages()

    def facts(self) -> dict[str, Any]:
        """What the file is besides its pages: names of attached files, and whether it is an XFA form."""
        attached = self.first.count_attachments() if self.first else 0
        names = [self.first.get_attachment(index).get_name() for index in range(min(attached, _MOST_ATTACHMENTS))]
        return {"attached": attached, "names": names, "form": self.is_form}

    def page(self, number: int) -> _Taken:
        """Page `number`, by whoever reads it better. Raises Refused where neither can."""
        first = self._first_reading(number)
        if first is not None and not self._wants_second(first):
            return _taken(first.text, "pdfium", first)
        try:
            second = self.second.text(number - 1)
        except Refused:
            if first is None or not (first.text.strip() or first.has_drawings):
                raise
            return _taken(first.text, "pdfium", first)
        if first is None:
            return _taken(second, "pypdf", None)
        if judge.prefers_second(first.text, second, first.rotated):
            self.fruitless = 0
            return _taken(second, "pypdf", first)
        return _taken(first.text, "pdfium", first)

    def _first_reading(self, number: int) -> PageReading | None:
        if self.first is None or number in self.crashed:
            return None
        try:
            return read_page(self.first, number - 1, self.limits.page_characters, self._hidden_layers)
        except (pypdfium2.PdfiumError, ArithmeticError, ValueError):
            return None

    def _hidden_layers(self) -> frozenset[str]:
        try:
            return self.second.hidden_layers()
        except Refused:
            return frozenset()

    def _wants_second(self, first: PageReading) -> bool:
        if first.is_long(self.limits.page_characters):  # it is cut anyway, and pypdf would take minutes
            return False
        if not (first.rotated or judge.is_suspect(first.text)):
            return not first.text.strip()
        self.fruitless += 1
        return self.fruitless <= _FRUITLESS or self.fruitless % 4 == 0


def _taken(text: str, reader: str, first: PageReading | None) -> _Taken:
    if text.strip():
        return _Taken(text, reader, "garbage" if judge.badness(text) > judge.GARBAGE else None)
    return _Taken("", reader, "picture" if first and first.has_drawings else None)
