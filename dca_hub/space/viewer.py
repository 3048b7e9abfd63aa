"""A page beside the chat, with the passage that an answer rests on marked in it."""

from dca_hub.documents import Citation, render_page
from dca_hub.space.markup import data_url, notice, tag, text
from dca_hub.space.sessions import Session
from dca_hub.space.settings import Settings

_WIDTH = 1000
# On a narrow screen the page opens below all else, where a visitor would not see it.
COME_INTO_VIEW = """
const come = () => {
  const page = element.querySelector('.dh-viewer'), top = page?.getBoundingClientRect().top;
  if (page && (top < 0 || top > innerHeight / 2)) page.scrollIntoView({ block: 'start' });
};
watch('value', () => setTimeout(come, 50));
setTimeout(come, 50);
"""


def find(session: Session, key: str) -> Citation | None:
    """The citation that a chip names as turn/side/place; None for one that is not there any more."""
    try:
        turn, side, place = key.split("/")
        return session.turns[int(turn)].answers[side].citations[int(place)]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None


def page(session: Session, citation: Citation, settings: Settings) -> str:
    """The page's image and the passage in words. Raises DocumentError when the page cannot be drawn."""
    upload = session.readable[citation.source]
    image = render_page(
        upload.path,
        citation.page,
        width=_WIDTH,
        highlight=citation.quote,
        password=session.password or None,
        limits=settings.limits,
    )
    described = f"Page {citation.page} of {citation.document}" + (", the passage marked" if image.marked else "")
    head = tag(
        "div",
        tag("div", tag("strong", f"Page {citation.page}"), tag("span", text(citation.document)), class_="dh-name"),
        tag("button", "×", type="button", class_="dh-cross", data_act="close", aria_label="Close the page"),
        class_="dh-row",
    )
    parts = [head, tag("blockquote", text(citation.quote), class_="dh-quote")]
    if not image.marked:
        parts.append(notice("The passage is in this page's text, but could not be marked in its image.", "info"))
    parts.append(tag("img", src=data_url(image.png, "image/png"), alt=described, class_="dh-page"))
    return tag("section", *parts, class_="dh-viewer", aria_label=described, data_marked=str(image.marked).lower())
