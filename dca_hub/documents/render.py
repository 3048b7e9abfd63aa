"""A page as an image, with a passage marked on it."""

import base64
import os
from typing import Any, NamedTuple

from dca_hub.documents.failures import Reason
from dca_hub.documents.limits import DEFAULT_LIMITS, Limits
from dca_hub.documents.read import failure
from dca_hub.documents.source import open_pdf
from dca_hub.documents.worker_process import Overrun, run_worker

WIDTHS = range(16, 4097)


class PageImage(NamedTuple):
    """`png`: the file's bytes. `marked`: whether the passage to highlight was found on the page."""

    png: bytes
    marked: bool


def render_page(
    path: str | os.PathLike[str],
    number: int,
    *,
    width: int = 900,
    highlight: str | None = None,
    password: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> PageImage:
    """Page `number` (1-based), `width` pixels wide (16 to 4096; less for a page that would be over 16 megapixels).

    highlight: a passage to mark on the page, found whatever its line breaks, hyphens, spacing and capitals; if the
        page has only a part of it, its longest run of words is marked.

    Raises DocumentError as `read_pdf` does; ValueError for a width out of range.
    """
    if width not in WIDTHS:
        raise ValueError(f"width must be from {WIDTHS.start} to {WIDTHS.stop - 1} pixels, got {width}")
    file, name = open_pdf(path, limits)
    replies: dict[str, dict[str, Any]] = {}

    def take(reply: dict[str, Any]) -> None:
        replies[reply["kind"]] = reply

    request = {"task": "render", "number": number, "width": width, "highlight": highlight, "password": password}
    with file:
        try:
            run_worker(request, file, limits, take)
        except Overrun as overrun:
            raise failure(overrun.reason, name, limits) from None
    if failed := replies.get("failed"):
        count = replies.get("open", {}).get("pages", 0)
        raise failure(Reason(failed["reason"]), name, limits, count, reply=failed)
    return PageImage(base64.b64decode(replies["image"]["png"]), replies["image"]["marked"])
