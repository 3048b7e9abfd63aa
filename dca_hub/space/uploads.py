"""PDFs that visitors bring: copied into the session, read in the bounded worker, shown as a list and a meter."""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from markupsafe import Markup

from dca_hub.conversation import Reading
from dca_hub.documents import Document, DocumentError, Reason, read_pdf
from dca_hub.errors import DcaHubError
from dca_hub.modeling.dual_chunk_selection import SparseAttention
from dca_hub.progress import about
from dca_hub.space import example as example_file
from dca_hub.space import fit
from dca_hub.space.example import Example
from dca_hub.space.failures import sentence
from dca_hub.space.host import Host
from dca_hub.space.lane import QUIET, Job, Tell, aside
from dca_hub.space.markup import notice, tag
from dca_hub.space.sessions import Session, Sessions, Upload
from dca_hub.space.settings import Settings

if TYPE_CHECKING:
    from dca_hub.space.context import Context

_PASSWORD_REASONS = (Reason.ENCRYPTED, Reason.WRONG_PASSWORD)
_TICK = 1.0  # seconds between two words to who waits
_SOON = 5.0  # seconds of reading, below which they are not worth a word
WAYS = [("Exact", "exact"), ("Sparse", "sparse")]


def take(session: Session, path: str, sessions: Sessions, settings: Settings) -> Upload:
    """Takes an uploaded file into the session. Raises DcaHubError past the bounds."""
    if len(session.uploads) >= settings.max_documents:
        most = f"{settings.max_documents} document{'s' * (settings.max_documents != 1)}"
        raise DcaHubError(f"A conversation takes at most {most}: remove one first.")
    file = Path(path)
    if not file.is_file():
        raise DcaHubError("The upload is no longer here: upload the file again.")
    size = file.stat().st_size
    if size > settings.limits.file_bytes:
        raise DcaHubError(f"{file.name} is larger than {settings.max_file_mb} MB, the limit here: split it.")
    sessions.take_in(session, size)
    taken = _link(file, _new_folder(session) / file.name)
    upload = Upload(taken, taken.name, bytes=size)
    session.uploads.append(upload)
    return upload


def take_example(session: Session, example: Example, host: Host) -> bool:
    """Adds the example document, read already; False if it is there."""
    if any(upload.example for upload in session.uploads):
        return False
    document = example.document()
    path = _link(example.path(), _new_folder(session) / example_file.NAME)
    tokens = host.count(document.text)
    session.uploads.append(Upload(path, path.name, document, tokens, example=True))
    return True


def remove(session: Session, index: int) -> None:
    """Takes a document away, and its file."""
    if 0 <= index < len(session.uploads):
        upload = session.uploads.pop(index)
        shutil.rmtree(upload.path.parent, ignore_errors=True)


def read(
    session: Session, uploads: Sequence[Upload], host: Host, sessions: Sessions, settings: Settings
) -> Iterator[str]:
    """Reads the uploads, each over its page range; yields words on the progress, every second at the latest.

    What was read of a document before stays until it has been read anew.
    """
    with session.reads_documents():
        while not sessions.readers.acquire(timeout=_TICK):
            yield "Waiting to be read"
        try:
            for upload in uploads:
                upload.problem, upload.wants_password = None, False
                try:
                    job = aside(Job(lambda tell, upload=upload: _read(upload, settings, tell)))
                    for told in job.events():
                        if isinstance(told, Document):
                            upload.tokens = host.count(told.text)
                            upload.document = told
                        elif told is not QUIET:
                            yield f"Reading {upload.name}: page {told[0]:,} of {told[1]:,}"
                except Exception as error:
                    upload.problem = sentence(error)
                    upload.wants_password = isinstance(error, DocumentError) and error.reason in _PASSWORD_REASONS
        finally:
            sessions.readers.release()


def recount(session: Session, host: Host) -> None:
    """Tokens anew, after the model was changed."""
    if session.generation != host.generation and host.ready:
        for upload in session.readable:
            upload.tokens = host.count(upload.document.text)


def _read(upload: Upload, settings: Settings, tell: Tell) -> None:
    document = read_pdf(
        upload.path,
        pages=upload.pages or None,
        password=upload.password or None,
        limits=settings.limits,
        progress=lambda done, total: tell((done, total)),
    )
    tell(document)


def _new_folder(session: Session) -> Path:
    taken = [int(path.name) for path in session.folder.iterdir()] if session.folder.is_dir() else []
    folder = session.folder / str(max(taken, default=0) + 1)
    folder.mkdir(parents=True)
    return folder


def _link(file: Path, to: Path) -> Path:
    """The same file under another name: it takes no room twice, and stays when Gradio deletes its own name."""
    try:
        os.link(file, to)
    except OSError:  # another file system, or one without links
        shutil.copyfile(file, to)
    return to


NONE = tag("p", "No document yet. Your PDF stays in this session and is deleted with it.", class_="dh-hint")


def listing(session: Session, progress: str = "") -> Markup:
    """The documents, one a row, with what was read of each, or why it was not."""
    places = {id(upload): place for place, upload in enumerate(session.readable)}
    rows = [_row(index, upload, places.get(id(upload))) for index, upload in enumerate(session.uploads)]
    if progress:
        rows.append(tag("div", tag("span", class_="dh-spinner"), tag("span", progress), class_="dh-progress"))
    if not rows:
        return NONE
    return tag("div", *rows, class_="dh-documents", aria_live="polite")


def line(session: Session) -> Markup | str:
    """The documents in a line, for a narrow screen: a press shows them, and what belongs to them."""
    readable = session.readable
    if not readable:
        return ""
    name = readable[0].name if len(readable) == 1 else f"{len(readable)} documents"
    words = f"{name} · {session.document_tokens:,} tokens"
    return tag(
        "button", tag("span", words), tag("span", "▾", aria_hidden="true"), type="button", class_="dh-fold",
        data_fold="chat-side", aria_expanded="false", aria_label=f"{words}: show or hide the documents",
    )  # fmt: skip


def _opens(name: str, place: int) -> Markup:
    return tag(
        "button", name, type="button", class_="dh-opens", data_act="page", data_value=f"{place} 1",
        title=f"Open {name}", aria_label=f"Open {name}, from its first page",
    )  # fmt: skip


def _row(index: int, upload: Upload, place: int | None) -> str:
    """A document; `place` is where it is among those that were read."""
    name = tag("div", upload.name if place is None else _opens(upload.name, place), class_="dh-name", title=upload.name)
    label = f"Remove {upload.name}"
    cross = tag(
        "button",
        "×",
        type="button",
        class_="dh-cross",
        data_act="remove",
        data_value=index,
        aria_label=label,
        title=label,
    )
    below = []
    if upload.problem:
        below.append(notice(upload.problem, "error"))
    if upload.document and upload.problem:  # what was read before holds on
        below.append(tag("div", f"Still in use, as read before: {_facts(upload)}", class_="dh-facts"))
    elif upload.document:
        below.append(tag("div", _facts(upload), class_="dh-facts"))
        below += [notice(note, "warning") for note in upload.document.notes]
    return tag("div", tag("div", name, cross, class_="dh-row"), *below, class_="dh-document")


def _facts(upload: Upload) -> str:
    read, all_pages = len(upload.document.pages), upload.document.page_count
    pages = f"{read:,} of {all_pages:,} pages" if read != all_pages else f"{read:,} page{'s' * (read != 1)}"
    return f"{pages} · {upload.tokens:,} tokens" if upload.tokens else pages  # they are counted after reading


def ready(session: Session, context: "Context", reading: Reading | None = None) -> Markup | str:
    """Whether the documents are in the model's memory already, or how long that will take; `reading` is how far it is
    while they are being read into it."""
    if not session.readable or not context.host.ready:
        return ""
    if reading is not None:
        left = "" if reading.left is None or reading.left < _SOON else f", about {about(reading.left)} left"
        words = f"Getting ready: {100 * reading.done / max(1, reading.total):.0f} %{left}. You can already ask."
        said = tag("div", tag("span", class_="dh-spinner"), tag("span", words), class_="dh-progress", role="status")
        return said + _hint(_why_no_choice(session, context) if left else "")
    if context.answers.is_ready(session):
        mark = tag("span", "✓", class_="dh-check", aria_hidden="true")
        return tag("div", mark, tag("span", "Ready: answers begin at once."), class_="dh-progress", role="status")
    return _beforehand(session, context)


def _beforehand(session: Session, context: "Context") -> Markup | str:
    """How long reading will take, where that is long. A server may have read the documents before."""
    if context.settings.endpoint:
        return ""
    taken = context.answers.reading_seconds(session, context.answers.way(session))
    if taken is None or taken < _SOON or session.document_tokens > context.host.limit(session.cache_bytes()):
        return ""
    words = f"Reading takes about {about(taken)} before the first answer."
    return _hint(" ".join(filter(None, [words, _why_no_choice(session, context)])))


def _why_no_choice(session: Session, context: "Context") -> str:
    """Why a text that is long enough is not offered to be read sparsely."""
    tokens = session.document_tokens
    why = context.host.why_not_sparse(tokens) if tokens >= SparseAttention().least_keys else None
    return f"Sparse reading, which can be quicker, {why}." if why else ""


def _hint(words: str) -> Markup:
    return tag("p", words, class_="dh-hint") if words else Markup("")


def ways(session: Session, context: "Context") -> dict[str, Any]:
    """The choice between exact and sparse reading, with what each takes: an update of a `gr.Radio`, which is not seen
    where there is no choice."""
    answers = context.answers
    if not session.readable or not answers.offers_sparse(session):
        return gr.update(visible=False)
    choices = []
    for name, way in WAYS:
        taken = answers.reading_seconds(session, way)
        is_timed = taken is not None and (way == "exact" or context.host.loaded.pace.has_timed_sparse)
        choices.append((f"{name}, about {about(taken)}" if is_timed and taken >= 1 else name, way))
    return gr.update(visible=True, choices=choices, value="sparse" if session.sparse else "exact")


def meter(session: Session, host: Host) -> str:
    """The documents against the trained window, against what DCA reaches, and against what memory allows."""
    if not session.readable or not host.ready:
        return ""
    loaded, tokens = host.loaded, session.document_tokens
    held = session.cache_bytes()
    memory = host.fits(held)
    bars = [
        _bar("Trained window", tokens, loaded.trained, "over"),
        _bar("Reach with DCA", tokens, loaded.context, "over"),
        _bar("Memory on this server", tokens, memory, "full"),
    ]
    head = tag("div", tag("strong", f"{tokens:,}"), " tokens of context", class_="dh-total")
    fits = tokens <= host.limit(held)
    verdict = _verdict(tokens, loaded.geometry.chunk_length, loaded.trained) if fits else _too_long(session, host)
    return tag("div", head, *bars, tag("p", verdict, class_="dh-hint"), "" if fits else _FIT, class_="dh-meter")


_FIT = tag(
    "div",
    tag("button", "Use the pages that fit", type="button", class_="dh-quiet", data_press="fit-first"),
    tag("button", "Use the best pages for my question", type="button", class_="dh-quiet", data_press="fit-question"),
    class_="dh-links",
)


def _bar(label: str, tokens: int, limit: int, excess: str) -> str:
    share = tokens / max(1, limit)
    value = f"{share:.1f}×" if share >= 1 else "under 1 %" if share < 0.01 else f"{100 * share:.0f} %"
    state = "within" if share <= 1 else excess
    fill = tag("span", class_=f"dh-fill dh-{state}", style=f"width:{min(100.0, 100 * share):.1f}%")
    head = tag("span", tag("span", label), tag("span", f"{value} of {limit:,}"), class_="dh-bar-head")
    described = f"{label}: the document takes {value} of {limit:,} tokens"
    return tag("div", head, tag("span", fill, class_="dh-track"), class_="dh-bar", role="img", aria_label=described)


def _verdict(tokens: int, chunk: int, trained: int) -> str:
    """Where DCA makes a difference: it is the plain model within a chunk, not up to the trained length."""
    if tokens > trained:
        return "Beyond the trained window: most plain models are lost here, and this is what DCA is for."
    if tokens > chunk:
        return "Within the trained window, but longer than a chunk: DCA and the plain model may differ slightly."
    return "Within one chunk: here DCA and the plain model are the same."


def _too_long(session: Session, host: Host) -> str:
    """In pages, which is what a visitor can choose."""
    upload = fit.longest(session)
    pages = [page for page in upload.document.pages if page.text]
    share = fit.room(session, host) / max(1, upload.tokens)
    count = int(len(pages) * min(1.0, share))
    why = "the memory of this server" if host.fits(session.cache_bytes()) < session.document_tokens else "this model"
    fitting = f"about {count:,} of {len(pages):,} pages fit" if count else "not even one page fits"
    return f"Too long for {why}: {fitting}."
