"""Text out of a PDF, page by page, with pypdf; runs in the worker process."""

from collections.abc import Callable
from typing import Any, BinaryIO

from pypdf import PasswordType, PdfReader
from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError, WrongPasswordError

from .failures import Reason
from .limits import Limits
from .ranges import parse_pages
from .text import clean


class Refused(Exception):
    def __init__(self, reason: Reason, **facts: Any) -> None:
        super().__init__(reason.value)
        self.reason, self.facts = reason, facts


def answer(data: BinaryIO, request: dict[str, Any], limits: Limits, send: Callable[..., None]) -> None:
    """Sends "open" and then each page of request["pages"], or "failed"; request["password"] opens the file."""
    try:
        reader = _guarded(lambda: _open(data, request["password"]))
        count = _guarded(lambda: len(reader.pages))
        if count == 0:
            raise Refused(Reason.EMPTY)
        send("open", pages=count, chosen=0)
        numbers = parse_pages(request["pages"], count)
        if len(numbers) > limits.pages:
            raise Refused(Reason.TOO_MANY_PAGES, asked=len(numbers))
        send("open", pages=count, chosen=len(numbers))
        _send_pages(reader, numbers, limits, send)
    except Refused as refusal:
        send("failed", reason=refusal.reason, **refusal.facts)


def _open(data: BinaryIO, password: str | None) -> PdfReader:
    reader = PdfReader(data, strict=False)
    # An empty password opens files that only restrict printing or copying.
    if reader.is_encrypted and reader.decrypt("") == PasswordType.NOT_DECRYPTED:
        if not password:
            raise Refused(Reason.ENCRYPTED)
        if reader.decrypt(password) == PasswordType.NOT_DECRYPTED:
            raise Refused(Reason.WRONG_PASSWORD)
    return reader


def _send_pages(reader: PdfReader, numbers: tuple[int, ...], limits: Limits, send: Callable[..., None]) -> None:
    total = 0
    for number in numbers:
        try:
            raw = _guarded(lambda number=number: reader.pages[number - 1].extract_text())
        except Refused as refusal:
            send("page", number=number, text="", problem=refusal.reason)
            continue
        text = clean(raw[: limits.page_characters])
        total += len(text)
        if total > limits.characters:
            raise Refused(Reason.TOO_MUCH_TEXT, page=number)
        send("page", number=number, text=text, problem="cut" if len(raw) > limits.page_characters else None)


def _guarded(read: Callable[[], Any]) -> Any:
    """The value of `read()`, with what a bad file makes pypdf raise turned into a reason.

    Besides its own errors those are KeyError, TypeError, AttributeError, RecursionError and more, for a file whose
    objects are not what their place asks for: here `Exception` is the honest list.
    """
    try:
        return read()
    except (Refused, MemoryError, DependencyError, ImportError):
        raise
    except (FileNotDecryptedError, WrongPasswordError, NotImplementedError):
        raise Refused(Reason.ENCRYPTED) from None
    except (LimitReachedError, RecursionError):
        raise Refused(Reason.TOO_COMPLEX) from None
    except Exception:
        raise Refused(Reason.DAMAGED) from None
