"""A page beside the chat, with the passage that supports an answer marked in it, and the way to all other pages."""

from dataclasses import dataclass

import gradio as gr
from markupsafe import Markup

from dca_hub.conversation import Look
from dca_hub.documents import Citation, render_page
from dca_hub.errors import DcaHubError
from dca_hub.space.markup import data_url, notice, tag
from dca_hub.space.sessions import Session, Upload
from dca_hub.space.settings import Settings
from dca_hub.space.turns import Answer
from dca_hub.space.widgets import clicked

_WIDTH = 1400  # pixels: enough for twice the size on the screen
_STRIP = 60  # cells of the strip of all pages, at most
_LONGEST_KEY = 60
# On a narrow screen the page opens below all else, where a visitor would not see it.
COME_INTO_VIEW = """
const come = () => {
  const page = element.querySelector('.dh-viewer'), top = page?.getBoundingClientRect().top;
  if (!page) return;
  if (top < 0 || top > innerHeight / 2) page.scrollIntoView({ block: 'start' });
  if (!element.contains(document.activeElement)) page.focus({ preventScroll: true });
};
watch('value', () => setTimeout(come, 50));
setTimeout(come, 50);
"""


@dataclass(frozen=True)
class Wanted:
    """A page of a session's document, by its place among those that were read; and what to mark in it, if anything:
    the citation `key` names as turn/side/place."""

    source: int
    page: int
    citation: Citation | None = None
    key: str = ""


def find(session: Session, event: gr.EventData) -> Wanted | None:
    """The page that a click asks for; None for one that is not there any more."""
    if key := clicked(event, "cite"):
        citation = _citation(session, key)
        return None if citation is None else Wanted(_now(session, key, citation), citation.page, citation, key)
    if key := clicked(event, "look"):
        answer = _answer(session, key[:_LONGEST_KEY])
        most = max(answer.looks, key=lambda look: look.share, default=None) if answer else None
        return None if most is None else Wanted(_now(session, key, most), most.page, None, key)
    if value := clicked(event, "page"):
        source, page, *rest = value[: 2 * _LONGEST_KEY].split(" ")
        key = rest[0] if rest else ""
        citation = _citation(session, key) if key else None
        source, page = _index(source), _index(page)
        if source is None or not page:
            return None
        marks = citation is not None and (_now(session, key, citation), citation.page) == (source, page)
        return Wanted(source, page, citation if marks else None, key)
    return None


def page(session: Session, wanted: Wanted, settings: Settings) -> Markup:
    """The page's image and the passage in words. Raises DcaHubError when the page is not there or cannot be drawn."""
    readable = session.readable
    if wanted.source >= len(readable):
        raise DcaHubError("That document was removed.")
    upload = readable[wanted.source]
    if wanted.page > upload.document.page_count:
        raise DcaHubError(f"{upload.name} has {upload.document.page_count:,} pages.")
    quote = wanted.citation.quote if wanted.citation else None
    image = render_page(
        upload.path,
        wanted.page,
        width=_WIDTH,
        highlight=quote,
        password=upload.password or None,
        limits=settings.limits,
    )
    marked = bool(quote) and image.marked
    described = f"Page {wanted.page} of {upload.name}" + (", the passage marked" if marked else "")
    parts = [_head(upload, wanted), _strip(session, upload, wanted)]
    if quote:
        parts.append(tag("blockquote", quote, class_="dh-quote", dir="auto"))
        if not marked:
            parts.append(notice("The passage is in this page's text, but could not be marked in its image.", "info"))
    picture = tag("img", src=data_url(image.png, "image/png"), alt=described, class_="dh-page")
    parts.append(tag("div", picture, class_="dh-sheet", tabindex="0", aria_label="The page"))
    return tag(
        "section", *parts, class_="dh-viewer", aria_label=described, data_marked=str(marked).lower(), tabindex="-1"
    )


def _head(upload: Upload, wanted: Wanted) -> Markup:
    last = upload.document.page_count
    name = tag("div", tag("strong", f"Page {wanted.page:,} of {last:,}"), tag("span", upload.name), class_="dh-name")
    turns = [
        _to(wanted, wanted.page - 1, "‹", "Previous page", wanted.page <= 1),
        _to(wanted, wanted.page + 1, "›", "Next page", wanted.page >= last),
        tag("button", "+", type="button", class_="dh-quiet dh-zoom", aria_label="Zoom in or out", aria_pressed="false"),
        tag("button", "×", type="button", class_="dh-cross", data_act="close", aria_label="Close the page"),
    ]
    return tag("div", name, tag("div", *turns, class_="dh-row-buttons"), class_="dh-row")


def _to(wanted: Wanted, number: int, sign: str, label: str, disabled: bool) -> Markup:
    return tag(
        "button", sign, type="button", class_="dh-quiet", data_act="page", aria_label=label, title=label,
        data_value=f"{wanted.source} {number} {wanted.key}".strip(), disabled=disabled or None,
    )  # fmt: skip


def _strip(session: Session, upload: Upload, wanted: Wanted) -> Markup | str:
    """All pages in a row: above, amber where they say what the answer says; below, blue where the model looked while it
    wrote. A cell of several pages where there are many."""
    last = upload.document.page_count
    if last < 2:
        return ""
    words, looks = _heat(session, wanted), _looks(session, wanted)
    step = -(-last // _STRIP)
    cells = [range(first, min(last, first + step - 1) + 1) for first in range(1, last + 1, step)]
    looked = [sum(looks.get(number, 0.0) for number in pages) for pages in cells]
    most = max(looked, default=0.0)
    shown = [
        _strip_cell(wanted, pages, words, looks, share, share / most if most else 0.0)
        for pages, share in zip(cells, looked, strict=True)
    ]
    keys = [("says", "Pages that say it, by comparing words")] if words else []
    keys += [("looked", "Pages the model looked at while it wrote, by its own attention")] if looks else []
    legend = [tag("span", tag("span", class_=f"dh-key dh-key-{name}"), said) for name, said in keys]
    return tag(
        "div", tag("div", *legend, class_="dh-label dh-keys") if legend else "",
        tag("div", *shown, class_="dh-strip-cells"), class_="dh-strip", role="group", aria_label="All pages",
    )  # fmt: skip


def _strip_cell(
    wanted: Wanted, pages: range, words: dict[int, float], looks: dict[int, float], looked: float, heat: float
) -> Markup:
    said = max((words.get(number, 0.0) for number in pages), default=0.0)
    best = max(pages, key=lambda number: (words.get(number, 0.0), looks.get(number, 0.0), -number))
    told = f"Page {pages[0]}" if len(pages) == 1 else f"Pages {pages[0]} to {pages[-1]}"
    told += f"; {100 * said:.0f} % of the answer stands here" if said else ""
    told += f"; {100 * looked:.0f} % of the attention to the pages" if looks else ""
    rows = [tag("span", class_="dh-says-heat", style=f"--heat:{100 * min(1.0, said):.0f}%")]
    if looks:
        rows.append(tag("span", class_="dh-looked-heat", style=f"--heat:{100 * heat:.0f}%"))
    return tag(
        "button", *rows, type="button", class_="dh-strip-cell", data_act="page", title=told, aria_label=told,
        data_value=f"{wanted.source} {best} {wanted.key}".strip(),
        aria_current="page" if wanted.page in pages else None,
    )  # fmt: skip


def _heat(session: Session, wanted: Wanted) -> dict[int, float]:
    """Of the document's pages, the share of the answer that each supports."""
    answer = _answer(session, wanted.key)
    found = [citation for citation in answer.citations if citation.supports] if answer else []
    return {one.page: one.score for one in found if _now(session, wanted.key, one) == wanted.source}


def _looks(session: Session, wanted: Wanted) -> dict[int, float]:
    """Of the document's pages, the share of the attention that went to pages of any document."""
    answer = _answer(session, wanted.key)
    looks = answer.looks if answer else ()
    total = sum(look.share for look in looks)
    mine = [look for look in looks if _now(session, wanted.key, look) == wanted.source]
    return {look.page: look.share / total for look in mine} if total else {}


def _now(session: Session, key: str, found: Citation | Look) -> int:
    """Where the document of a citation or a look is now among those that were read: others may have gone since."""
    paths = session.turns[_index(key.split("/")[0])].paths
    now = [upload.path for upload in session.readable]
    if not found.source < len(paths):
        return found.source
    return now.index(paths[found.source]) if paths[found.source] in now else len(now)


def _answer(session: Session, key: str) -> Answer | None:
    try:
        turn, side, _ = key.split("/")
        return session.turns[_index(turn)].answers[side]
    except (ValueError, KeyError, IndexError, TypeError):
        return None


def _citation(session: Session, key: str) -> Citation | None:
    answer = _answer(session, key[:_LONGEST_KEY])
    try:
        return answer.citations[_index(key.split("/")[2])] if answer else None
    except (IndexError, TypeError):
        return None


def _index(text: str) -> int | None:
    """A small whole number; None for everything else that a browser may send."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 7 else None
