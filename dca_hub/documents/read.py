"""PDF -> Document."""

import os
from collections.abc import Callable
from typing import Any

from .document import Document, Page
from .failures import DocumentError, Reason, counted
from .limits import DEFAULT_LIMITS, MIB, Limits
from .process import Overrun, run_worker
from .ranges import example_range, spoken
from .source import open_pdf
from .text import join_hyphens, unwrap

Progress = Callable[[int, int], None]


def read_pdf(
    path: str | os.PathLike[str],
    *,
    pages: str | None = None,
    password: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
    progress: Progress | None = None,
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
            run_worker({"task": "read", "pages": pages, "password": password}, file, limits, reading.take, reading.tell)
        except Overrun as overrun:
            raise reading.failure(overrun.reason) from None
    return reading.document()


class _Reading:
    """What has come back from the worker so far."""

    def __init__(self, name: str, limits: Limits, progress: Progress | None) -> None:
        self.name, self.limits, self.progress = name, limits, progress
        self.page_count = 0
        self.chosen = 0
        self.texts: dict[int, str] = {}
        self.problems: dict[int, str] = {}

    def take(self, reply: dict[str, Any]) -> None:
        if reply["kind"] == "failed":
            raise self.failure(Reason(reply["reason"]), reply)
        if reply["kind"] == "open":
            self.page_count, self.chosen = reply["pages"], reply["chosen"]
            return
        self.texts[reply["number"]] = reply["text"]
        if reply["problem"]:
            self.problems[reply["number"]] = reply["problem"]

    def tell(self) -> None:
        if self.progress is not None:
            self.progress(len(self.texts), max(1, self.chosen))

    def failure(self, reason: Reason, reply: dict[str, Any] | None = None) -> DocumentError:
        return failure(reason, self.name, self.limits, self.page_count, len(self.texts), reply)

    def document(self) -> Document:
        self.tell()
        unread = [n for n, problem in self.problems.items() if problem != "cut"]
        if not any(self.texts.values()):
            if unread:
                raise self.failure(Reason(self.problems[unread[0]]))
            which = "any page" if len(self.texts) == self.page_count else "the chosen pages"
            raise DocumentError(Reason.SCANNED, self.name, which=which)
        whole = [unwrap(text) for text in join_hyphens(list(self.texts.values()))]
        pages = tuple(Page(number, text) for number, text in zip(self.texts, whole))
        return Document(self.name, pages, self.page_count, tuple(self._notes(unread)))

    def _notes(self, unread: list[int]):
        blank = [n for n, text in self.texts.items() if not text and n not in self.problems]
        cut = [n for n, problem in self.problems.items() if problem == "cut"]
        if blank:
            yield f"No text layer (scanned or blank; no OCR is done) on {_pages(blank)}."
        if unread:
            yield f"Damaged or too complex to read, and left out: {_pages(unread)}."
        if cut:
            yield f"Cut after {self.limits.page_characters:,} characters: {_pages(cut)}."


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
        facts |= {"count": counted(page_count), "last": page_count, "example": example_range(page_count)}
    if reason is Reason.TOO_MANY_PAGES:
        facts |= {"limit": limits.pages, "example": "1" if limits.pages == 1 else f"1-{limits.pages}"}
    if reason is Reason.TOO_MUCH_TEXT:
        facts["limit"] = limits.characters
    if reason is Reason.TOO_SLOW:
        facts |= {"limit": limits.seconds, "done": f"{counted(read)} read" if read else "no page was finished"}
    if reason is Reason.TOO_MUCH_MEMORY:
        facts["limit"] = limits.memory_bytes // MIB
    return DocumentError(reason, name, **facts)
