"""PDF -> Document."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePath
from typing import Any, BinaryIO

from dca_hub.documents.document import Document, Page
from dca_hub.documents.failures import DocumentError, Reason, counted, shown_name
from dca_hub.documents.limits import DEFAULT_LIMITS, MIB, Limits
from dca_hub.documents.plain import SUFFIXES, read_plain
from dca_hub.documents.ranges import range_advice, spoken
from dca_hub.documents.source import open_pdf
from dca_hub.documents.text import join_hyphens, unwrap
from dca_hub.documents.worker_process import Crashed, Overrun, run_worker
from dca_hub.progress import OnProgress

_MOST_CRASHES = 4


def read_pdf(
    path: str | os.PathLike[str],
    *,
    pages: str | None = None,
    password: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
    progress: OnProgress | None = None,
) -> Document:
    """The text of a PDF, page by page, extracted in a worker process that is bounded by `limits`.

    pages: a range such as "3-7,9" (1-based; "12-" goes to the end); None reads all.
    progress: called with (pages read, pages to read) at least every 0.1 s, with (0, 1) until the file is open;
        raising from it stops the worker at once.

    Raises DocumentError (a closed set of reasons, see `Reason`) for every file that cannot be read. A file in which
    only some pages have no text is read, and `Document.notes` says which.
    """
    file, name = open_pdf(path, limits)
    reading = _Reading(name, limits, progress)
    with file:
        try:
            _run({"task": "read", "pages": pages, "password": password}, file, limits, reading)
        except Overrun as overrun:
            raise reading.failure(overrun.reason) from None
    return reading.document()


def read_document(
    path: str | os.PathLike[str],
    *,
    pages: str | None = None,
    password: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
    progress: OnProgress | None = None,
) -> Document:
    """As `read_pdf`, and text files too: those whose name ends in .txt, .text, .md or .markdown, whatever is in them.

    A text file has pages of about 3,000 characters, cut at paragraphs, and at form feeds.
    """
    if PurePath(path).suffix.lower() not in SUFFIXES:
        return read_pdf(path, pages=pages, password=password, limits=limits, progress=progress)
    file, name = open_pdf(path, limits, text=True)
    with file:
        document = read_plain(file, name, pages, limits)
    if progress is not None:
        progress(len(document.pages), len(document.pages))
    return document


def _run(request: dict[str, Any], file: BinaryIO, limits: Limits, reading: "_Reading") -> None:
    """Reads the file; where a library dies of a page, a new worker goes on without it, so that the others are read."""
    deadline = time.monotonic() + limits.seconds
    crashed: set[int] = set()
    for _ in range(_MOST_CRASHES):
        file.seek(0)
        left = replace(limits, seconds=max(0.01, deadline - time.monotonic()))
        try:
            return run_worker(request, file, left, reading.take, reading.tell)
        except Crashed:
            if reading.begun is None:
                raise
            if reading.begun in crashed:  # both readers died of it
                reading.take({"kind": "page", "number": reading.begun, "text": "", "problem": Reason.DAMAGED})
            crashed.add(reading.begun)
            begin = reading.begun + (reading.begun in reading.texts)
            request = {**request, "crashed": sorted(crashed), "begin": begin}
    raise Crashed()


class _Reading:
    """What has come back from the worker so far."""

    def __init__(self, name: str, limits: Limits, progress: OnProgress | None) -> None:
        self.name, self.limits, self.progress = name, limits, progress
        self.page_count = 0
        self.chosen = 0
        self.texts: dict[int, str] = {}
        self.problems: dict[int, str] = {}
        self.readers: dict[int, str] = {}
        self.begun: int | None = None
        self.file: dict[str, Any] = {}

    def take(self, reply: dict[str, Any]) -> None:
        if reply["kind"] == "failed":
            raise self.failure(Reason(reply["reason"]), reply)
        if reply["kind"] == "open":
            self.page_count, self.chosen, self.file = reply["pages"], reply["chosen"], reply
            return
        if reply["kind"] == "begin":
            self.begun = reply["number"]
            return
        self.texts[reply["number"]] = reply["text"]
        self.readers[reply["number"]] = reply.get("reader", "")
        if reply["problem"]:
            self.problems[reply["number"]] = reply["problem"]

    def tell(self) -> None:
        if self.progress is not None:
            self.progress(len(self.texts), max(1, self.chosen))

    def failure(self, reason: Reason, reply: dict[str, Any] | None = None) -> DocumentError:
        return failure(reason, self.name, self.limits, self.page_count, len(self.texts), reply)

    def document(self) -> Document:
        self.tell()
        if not any(self.texts.values()):
            raise self._without_text()
        whole = [unwrap(text) for text in join_hyphens(list(self.texts.values()))]
        pages = tuple(Page(number, text, self.readers[number]) for number, text in zip(self.texts, whole))
        return Document(self.name, pages, self.page_count, tuple(self._notes()))

    def _without_text(self) -> DocumentError:
        """Why there is nothing to read: each reason has advice of its own."""
        whole = len(self.texts) == self.page_count
        which = "any page" if whole else "the chosen pages"
        if self.file.get("attached"):
            return DocumentError(Reason.PORTFOLIO, self.name, which=which, attached=self._files(), names=self._names())
        if self._with("picture"):
            return DocumentError(Reason.SCANNED, self.name, which=which)
        if self._with("garbage"):
            return DocumentError(Reason.UNMAPPED, self.name)
        unread = [problem for problem in self.problems.values() if problem in set(Reason)]
        if unread:
            return self.failure(Reason(unread[0]))
        advice = "check that it is the right file" if whole else "choose other pages"
        return DocumentError(Reason.BLANK, self.name, which=which, advice=advice)

    def _with(self, problem: str) -> list[int]:
        return [number for number, found in self.problems.items() if found == problem]

    def _files(self) -> str:
        count = self.file["attached"]
        return "1 attached file" if count == 1 else f"{count} attached files"

    def _names(self) -> str:
        names = [shown_name(PurePath(name)) for name in self.file["names"]]
        return ", ".join(names) + ("..." if self.file["attached"] > len(names) else "")

    def _notes(self) -> Iterator[str]:
        blank = [n for n, text in self.texts.items() if not text and n not in self.problems]
        unread = [n for n, problem in self.problems.items() if problem in set(Reason)]
        if pictures := self._with("picture"):
            yield f"Pictures without a text layer (scanned; no OCR is done) on {_pages(pictures)}."
        if blank:
            yield f"No text layer, and no pictures either, on {_pages(blank)}."
        if unread:
            yield f"Damaged or too complex to read, and left out: {_pages(unread)}."
        if garbage := self._with("garbage"):
            yield (
                f"Most likely garbage, because the fonts do not say which letters they draw: {_pages(garbage)}. "
                "An OCR program can read them."
            )
        if cut := self._with("cut"):
            yield f"Cut after {self.limits.page_characters:,} characters: {_pages(cut)}."
        if self.file.get("form"):
            yield "An XFA form: what only Adobe's programs show of it is not read."
        if self.file.get("attached"):
            yield f"{self._files().capitalize()} not read: {self._names()}."


def _pages(numbers: list[int]) -> str:
    return ("page " if len(numbers) == 1 else "pages ") + spoken(numbers)


def failure(
    reason: Reason,
    name: str,
    limits: Limits,
    page_count: int = 0,
    read: int = 0,
    reply: dict[str, Any] | None = None,
) -> DocumentError:
    """The error for a reason, with the figures that its sentence names.

    page_count: pages in the file, 0 while unknown. read: pages that came back. reply: the worker's own words on it.
    """
    facts = {key: value for key, value in (reply or {}).items() if key not in ("kind", "reason")}
    if reason is Reason.EMPTY:
        facts["what"] = "0 pages"
    if reason is Reason.BAD_PAGE_RANGE:
        facts |= {"count": counted(page_count), "advice": range_advice(page_count)}
    if reason is Reason.TOO_MANY_PAGES:
        facts |= {"limit": limits.pages, "example": "1" if limits.pages == 1 else f"1-{limits.pages}"}
    if reason is Reason.TOO_MUCH_TEXT:
        facts["limit"] = limits.characters
    if reason is Reason.TOO_SLOW:
        facts |= {"limit": limits.seconds, "done": f"{counted(read)} read" if read else "no page was finished"}
    if reason is Reason.TOO_MUCH_MEMORY:
        facts["limit"] = limits.memory_bytes // MIB
    return DocumentError(reason, name, **facts)
