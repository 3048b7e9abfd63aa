"""PDFs that visitors bring: copied into the session, read in the bounded worker, shown as a list and a meter."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from dca_hub.documents import DocumentError, Reason, read_pdf
from dca_hub.documents.example import write_example
from dca_hub.errors import DcaHubError
from dca_hub.space.failures import sentence
from dca_hub.space.host import Host
from dca_hub.space.lane import Job, Tell, aside
from dca_hub.space.markup import notice, tag, text
from dca_hub.space.sessions import Session, Upload
from dca_hub.space.settings import Settings

EXAMPLE_NAME = "ayalas-angel.pdf"
_PASSWORD_REASONS = (Reason.ENCRYPTED, Reason.WRONG_PASSWORD)


def take(session: Session, path: str, settings: Settings) -> Upload:
    """Copies an uploaded file to the session; Gradio deletes its own copy. Raises DcaHubError past the bounds."""
    if len(session.uploads) >= settings.max_documents:
        raise DcaHubError(f"A conversation takes at most {settings.max_documents} documents: remove one first.")
    if not Path(path).is_file():
        raise DcaHubError("The upload is not here any more: upload the file again.")
    if Path(path).stat().st_size > settings.limits.file_bytes:
        raise DcaHubError(f"{Path(path).name} is larger than {settings.max_file_mb} MB, the limit here: split it.")
    folder = _new_folder(session)
    copied = folder / Path(path).name
    shutil.copyfile(path, copied)
    upload = Upload(copied, copied.name)
    session.uploads.append(upload)
    return upload


def take_example(session: Session) -> Upload | None:
    """Adds the example document, unless it is there."""
    if any(upload.name == EXAMPLE_NAME for upload in session.uploads):
        return None
    path = write_example(_new_folder(session) / EXAMPLE_NAME)
    upload = Upload(path, path.name)
    session.uploads.append(upload)
    return upload


def remove(session: Session, index: int) -> None:
    """Takes a document away, and its file."""
    if 0 <= index < len(session.uploads):
        upload = session.uploads.pop(index)
        shutil.rmtree(upload.path.parent, ignore_errors=True)
        session.begin_anew()


def read(session: Session, uploads: list[Upload], host: Host, settings: Settings) -> Iterator[str]:
    """Reads the uploads over the session's page range; yields words on the progress."""
    for upload in uploads:
        upload.document, upload.problem, upload.tokens, upload.wants_password = None, None, 0, False
        try:
            for done, total in _reading(session, upload, settings):
                yield f"Reading {upload.name}: page {done:,} of {total:,}"
            upload.tokens = host.count(upload.document.text) if upload.document else 0
        except Exception as error:
            upload.problem = sentence(error)
            upload.wants_password = isinstance(error, DocumentError) and error.reason in _PASSWORD_REASONS
    session.begin_anew()


def recount(session: Session, host: Host) -> None:
    """Tokens anew, after the model was changed."""
    if session.generation != host.generation and host.ready:
        for upload in session.readable:
            upload.tokens = host.count(upload.document.text)


def _reading(session: Session, upload: Upload, settings: Settings) -> Iterator[tuple[int, int]]:
    return aside(Job(lambda tell: _read(session, upload, settings, tell))).events()


def _read(session: Session, upload: Upload, settings: Settings, tell: Tell) -> None:
    upload.document = read_pdf(
        upload.path,
        pages=session.pages or None,
        password=session.password or None,
        limits=settings.limits,
        progress=lambda done, total: tell((done, total)),
    )


def _new_folder(session: Session) -> Path:
    taken = [int(path.name) for path in session.folder.iterdir()] if session.folder.is_dir() else []
    folder = session.folder / str(max(taken, default=0) + 1)
    folder.mkdir(parents=True)
    return folder


def listing(session: Session, progress: str = "") -> str:
    """The documents, one a row, with what was read of each, or why it was not."""
    rows = [_row(index, upload) for index, upload in enumerate(session.uploads)]
    if progress:
        rows.append(tag("div", tag("span", class_="dh-spinner"), tag("span", text(progress)), class_="dh-progress"))
    if not rows:
        return tag("p", "No document yet. Your PDF stays in this session and is deleted with it.", class_="dh-hint")
    return tag("div", *rows, class_="dh-documents", aria_live="polite")


def _row(index: int, upload: Upload) -> str:
    name = tag("div", text(upload.name), class_="dh-name", title=upload.name)
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
    elif upload.document:
        below.append(tag("div", text(_facts(upload)), class_="dh-facts"))
        below += [notice(note, "warning") for note in upload.document.notes]
    return tag("div", tag("div", name, cross, class_="dh-row"), *below, class_="dh-document")


def _facts(upload: Upload) -> str:
    read, all_pages = len(upload.document.pages), upload.document.page_count
    pages = f"{read:,} of {all_pages:,} pages" if read != all_pages else f"{read:,} page{'s' * (read != 1)}"
    return f"{pages} · {upload.tokens:,} tokens" if upload.tokens else pages  # they are counted after reading


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
        _bar("Memory here", tokens, memory, "full"),
    ]
    head = tag("div", tag("strong", f"{tokens:,}"), " tokens of context", class_="dh-total")
    verdict = _verdict(tokens, loaded.trained, memory, host.limit(held))
    return tag("div", head, *bars, tag("p", text(verdict), class_="dh-hint"), class_="dh-meter")


def _bar(label: str, tokens: int, limit: int, excess: str) -> str:
    share = tokens / max(1, limit)
    value = f"{share:.1f}×" if share >= 1 else "under 1 %" if share < 0.01 else f"{100 * share:.0f} %"
    state = "within" if share <= 1 else excess
    fill = tag("span", class_=f"dh-fill dh-{state}", style=f"width:{min(100.0, 100 * share):.1f}%")
    head = tag("span", tag("span", text(label)), tag("span", f"{value} of {limit:,}"), class_="dh-bar-head")
    described = f"{label}: the document takes {value} of {limit:,} tokens"
    return tag("div", head, tag("span", fill, class_="dh-track"), class_="dh-bar", role="img", aria_label=described)


def _verdict(tokens: int, trained: int, memory: int, limit: int) -> str:
    if tokens > memory:
        return f"Too long for the memory here: choose a page range of at most {memory:,} tokens."
    if tokens > limit:
        return f"Longer than this model is known to reach with DCA: choose a page range of at most {limit:,} tokens."
    if tokens > trained:
        return "Far beyond the trained window: the plain model is lost here, DCA is not."
    return "Within the trained window: here DCA and the plain model are the same."
