"""The file at a path: opened once, checked, and handed on as an open file, so that nothing can change in between."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from dca_hub.documents.failures import DocumentError, Reason, shown_name
from dca_hub.documents.limits import Limits

_HEAD = 1024
_KINDS = (
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\xd0\xcf\x11\xe0", "an old office document"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"\x1f\x8b", "a compressed file"),
    (b"%!PS", "a PostScript file"),
    (b"{\\rtf", "a rich text document"),
)


def open_pdf(path: str | os.PathLike[str], limits: Limits, text: bool = False) -> tuple[BinaryIO, str]:
    """The unbuffered open file, at its start, and the name to show. Links are followed to what they name.

    text: a text file is wanted, which has no mark to be known by.

    Raises DocumentError: missing, not_a_file, unreadable, empty, too_large, not_pdf.
    """
    path = Path(path)
    name = shown_name(path)
    try:
        file = _open_regular(path, name)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the path
        raise DocumentError(Reason.MISSING, name) from None
    except OSError:
        raise DocumentError(Reason.UNREADABLE, name) from None
    try:
        _check_content(file, name, limits, text)
    except BaseException:
        file.close()
        raise
    return file, name


def _open_regular(path: Path, name: str) -> BinaryIO:
    # Looked at before it is opened, since opening a device can act on it, and again after, since it may have been
    # swapped. O_NONBLOCK: a pipe put there meanwhile must not hang the process.
    if not stat.S_ISREG(path.stat().st_mode):
        raise DocumentError(Reason.NOT_A_FILE, name)
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    file = os.fdopen(descriptor, "rb", buffering=0)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise DocumentError(Reason.NOT_A_FILE, name)
    return file


def _check_content(file: BinaryIO, name: str, limits: Limits, text: bool) -> None:
    size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise DocumentError(Reason.EMPTY, name, what="0 bytes")
    if size > limits.file_bytes:
        raise DocumentError(Reason.TOO_LARGE, name, limit=_megabytes(limits.file_bytes))
    if text:
        return
    head = file.read(_HEAD)
    file.seek(0)
    if b"%PDF-" not in head:
        raise DocumentError(Reason.NOT_PDF, name, what=_kind(head))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.3g}"


def _kind(head: bytes) -> str:
    for magic, kind in _KINDS:
        if head.startswith(magic):
            return kind
    opening = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if opening.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script")):
        return "a web page (HTML)"
    if opening.startswith(b"<?xml"):
        return "an XML file"
    if b"\0" not in head and all(byte >= 32 or byte in b"\t\r\n\f" for byte in head):
        return "plain text"
    return "another kind of file"
