"""Text out of a PDF, page by page, read by pdfium and by pypdf and judged; runs in the worker process.

pdfium is ten times as fast and reads more fonts, so it reads every page. pypdf gives the second reading: of the first
pages, of those that look wrong, and of all once it has been the better one or the two disagreed.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, BinaryIO

import pypdfium2
from pypdf import PasswordType, PdfReader
from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError, WrongPasswordError

from dca_hub.documents import judge
from dca_hub.documents.failures import Reason
from dca_hub.documents.limits import Limits
from dca_hub.documents.pdfium import PageReading, is_xfa, open_document, read_page, refusal
from dca_hub.documents.ranges import parse_pages
from dca_hub.documents.text import clean

_READ_TWICE = 2  # pages at the start that both read, to know whether they agree
_AGREE = 0.9
_MOST_ATTACHMENTS = 5  # names that are passed on
# What a form that only Adobe's programs can draw has for a page.
_PLACEHOLDER = re.compile(r"please wait|may not be able to display|adobe reader|acrobat", re.IGNORECASE)


class Refused(Exception):
    def __init__(self, reason: Reason, **facts: Any) -> None:
        super().__init__(reason.value)
        self.reason, self.facts = reason, facts


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
    read_twice: int = field(default=_READ_TWICE)

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
    def second(self) -> PdfReader:
        return _guarded(lambda: _open(io.BytesIO(self.data), self.password))

    @cached_property
    def is_form(self) -> bool:
        return self.first is not None and is_xfa(self.first)

    def count_pages(self) -> int:
        count = len(self.first) if self.first else 0
        return count or _guarded(lambda: len(self.second.pages))

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
            second = _guarded(lambda: self.second.pages[number - 1].extract_text())
        except Refused:
            if first is None or not (first.text.strip() or first.has_drawings):
                raise
            return _taken(first.text, "pdfium", first)
        if first is None:
            return _taken(second, "pypdf", None)
        if judge.prefers_second(first.text, second, first.rotated):
            self.read_twice += 1
            return _taken(second, "pypdf", first)
        if self.read_twice > 0:
            agrees = judge.agreement(first.text, second) >= _AGREE or judge.badness(second) > judge.badness(first.text)
            self.read_twice -= agrees
        return _taken(first.text, "pdfium", first)

    def _first_reading(self, number: int) -> PageReading | None:
        if self.first is None or number in self.crashed:
            return None
        try:
            return read_page(self.first, number - 1, self.limits.page_characters)
        except (pypdfium2.PdfiumError, ArithmeticError, ValueError):
            return None

    def _wants_second(self, first: PageReading) -> bool:
        if first.is_long(self.limits.page_characters):  # it is cut anyway, and pypdf would take minutes
            return False
        return self.read_twice > 0 or not first.text.strip() or first.rotated or judge.is_suspect(first.text)


def _taken(text: str, reader: str, first: PageReading | None) -> _Taken:
    if text.strip():
        return _Taken(text, reader, "garbage" if judge.badness(text) > judge.GARBAGE else None)
    return _Taken("", reader, "picture" if first and first.has_drawings else None)


def _open(data: BinaryIO, password: str | None) -> PdfReader:
    reader = PdfReader(data, strict=False)
    # An empty password opens files that only restrict printing or copying.
    if reader.is_encrypted and reader.decrypt("") == PasswordType.NOT_DECRYPTED:
        if not password:
            raise Refused(Reason.ENCRYPTED)
        if reader.decrypt(password) == PasswordType.NOT_DECRYPTED:
            raise Refused(Reason.WRONG_PASSWORD)
    return reader


def _guarded(read: Callable[[], Any]) -> Any:
    """The value of `read()`, with what a bad file makes pypdf raise turned into a reason.

    Besides its own errors those are KeyError, TypeError, AttributeError, RecursionError and more, for a file whose
    objects are not what their place asks for: here `Exception` is the honest list.
    """
    try:
        return read()
    except (Refused, MemoryError):
        raise
    except DependencyError as error:
        # Only the library that decrypts is the installation's; a file chooses its filters, such as JBIG2 and Brotli.
        if "cryptography" in str(error):
            raise
        raise Refused(Reason.TOO_COMPLEX) from None
    except (FileNotDecryptedError, WrongPasswordError, NotImplementedError):
        raise Refused(Reason.ENCRYPTED) from None
    except (LimitReachedError, RecursionError):
        raise Refused(Reason.TOO_COMPLEX) from None
    except Exception:
        raise Refused(Reason.DAMAGED) from None
