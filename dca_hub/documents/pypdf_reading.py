"""What pypdf reads of a PDF; imported for the files alone that pdfium does not read well."""

import signal
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from pypdf import PasswordType, PdfReader
from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError, WrongPasswordError

from dca_hub.documents.failures import Reason, Refused

_RING_AGAIN = 0.1  # seconds of processor time


class _OutOfTime(BaseException):
    """Not an Exception, which pypdf catches in many places."""


class PypdfReading:
    """An open document; opening it, and each page, may take `seconds` of processor time.

    Raises Refused where it cannot be opened, here and in every method.
    """

    def __init__(self, data: BinaryIO, password: str | None, seconds: float) -> None:
        self._seconds = seconds
        self._reader = self._bounded(lambda: _open(data, password))

    def count_pages(self) -> int:
        return self._bounded(lambda: len(self._reader.pages))

    def text(self, index: int) -> str:
        return self._bounded(lambda: self._reader.pages[index].extract_text())

    def hidden_layers(self) -> frozenset[str]:
        """The names of the layers that are off when the file is opened."""
        return self._bounded(lambda: frozenset(_layers_off(self._reader)))

    def _bounded(self, read: Callable[[], Any]) -> Any:
        """One page must not take the time of all others. Windows has no such timer: there the call's limit is all."""
        if not hasattr(signal, "setitimer"):
            return _guarded(read)
        signal.signal(signal.SIGVTALRM, _ring)
        try:
            try:
                # Rings again and again: an exception is swallowed where it meets a destructor.
                signal.setitimer(signal.ITIMER_VIRTUAL, self._seconds, _RING_AGAIN)
                return _guarded(read)
            finally:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        except _OutOfTime:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)  # again: the ring may have come before the line above
            raise Refused(Reason.TOO_COMPLEX) from None


def _ring(signal_number: int, frame: Any) -> None:
    raise _OutOfTime


def _layers_off(reader: PdfReader) -> Iterator[str]:
    layers = reader.root_object.get("/OCProperties", {})
    usual = layers.get("/D", {})
    off = {item.get_object()["/Name"] for item in usual.get("/OFF", [])}
    if usual.get("/BaseState") == "/OFF":
        off |= {item.get_object()["/Name"] for item in layers.get("/OCGs", [])}
        off -= {item.get_object()["/Name"] for item in usual.get("/ON", [])}
    yield from map(str, off)


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
