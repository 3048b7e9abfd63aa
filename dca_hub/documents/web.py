"""A document at an http(s) address, for the command line alone: a server that fetched what visitors name could be made
to fetch from its own network."""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import httpx

from dca_hub.documents.failures import DocumentError, Reason, shown_name
from dca_hub.documents.limits import DEFAULT_LIMITS, Limits
from dca_hub.documents.plain import SUFFIXES

_SECONDS = 60.0  # for the whole download
_WAIT = 15.0  # for one answer of the server
_MOST_REDIRECTS = 5
_TEXT_TYPES = {"text/plain": ".txt", "text/markdown": ".md"}


def is_url(path: str) -> bool:
    return path.lower().startswith(("http://", "https://"))


@contextlib.contextmanager
def downloaded(url: str, limits: Limits = DEFAULT_LIMITS, seconds: float = _SECONDS) -> Iterator[Path]:
    """The file at `url`, in a temporary folder that goes away at the end.

    The size is bounded by limits.file_bytes, the whole download by `seconds`, and the type must be PDF or plain text by
    what the server says or by the first bytes. Raises DocumentError: unreachable, too_large, too_slow, not_pdf.
    """
    name = shown_name(PurePosixPath(unquote(urlsplit(url).path) or "document"))
    with tempfile.TemporaryDirectory(prefix="dca-hub-") as folder:
        try:
            path = _fetch(url, name, Path(folder), limits, time.monotonic() + seconds, seconds)
        except httpx.InvalidURL:
            raise DocumentError(Reason.UNREACHABLE, name, why="its address is not a valid URL") from None
        except httpx.TimeoutException:
            raise DocumentError(Reason.UNREACHABLE, name, why="the server did not answer in time") from None
        except httpx.TooManyRedirects:
            raise DocumentError(Reason.UNREACHABLE, name, why="the server redirects without end") from None
        except httpx.HTTPError:
            raise DocumentError(Reason.UNREACHABLE, name, why="there is no connection to the server") from None
        yield path


def _fetch(url: str, name: str, folder: Path, limits: Limits, deadline: float, seconds: float) -> Path:
    with (
        httpx.Client(follow_redirects=True, max_redirects=_MOST_REDIRECTS, timeout=_WAIT) as client,
        client.stream("GET", url, headers={"Accept": "application/pdf, text/plain, text/markdown"}) as answer,
    ):
        if answer.status_code != 200:
            raise DocumentError(Reason.UNREACHABLE, name, why=f"the server answered {answer.status_code}")
        path = folder / _file_name(name, answer.headers.get("content-type", ""))
        size = 0
        with path.open("wb") as file:
            for piece in answer.iter_bytes():
                if size == 0 and path.suffix == ".pdf" and b"%PDF-" not in piece[:1024]:
                    kind = answer.headers.get("content-type", "another kind of file").partition(";")[0]
                    raise DocumentError(Reason.NOT_PDF, name, what=shown_name(PurePosixPath(kind.replace("/", " "))))
                size += len(piece)
                if size > limits.file_bytes:
                    raise DocumentError(Reason.TOO_LARGE, name, limit=f"{limits.file_bytes / 1e6:.3g}")
                if time.monotonic() > deadline:
                    raise DocumentError(Reason.TOO_SLOW, name, limit=seconds, done="still downloading")
                file.write(piece)
        return path


def _file_name(name: str, content_type: str) -> str:
    """A name whose suffix says how to read it; `name` is a stranger's, so it becomes a plain one."""
    kind = content_type.partition(";")[0].strip().lower()
    stem = "".join(c if c.isalnum() or c in "-_. " else "_" for c in name).strip(". ") or "document"
    suffix = PurePosixPath(stem).suffix.lower()
    wanted = _TEXT_TYPES.get(kind, ".pdf")
    if kind in _TEXT_TYPES and suffix in SUFFIXES:
        return stem
    return stem if suffix == wanted else stem + wanted
