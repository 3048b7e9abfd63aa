"""What stands in the conversation before its first question: how to begin, or what can be asked of the document."""

from dca_hub import catalogue
from dca_hub.space.context import Context
from dca_hub.space.markup import steps, tag
from dca_hub.space.sessions import Session

BEGIN = steps(
    ("Drop a PDF", "or try the example: three chapters of a novel with a number hidden inside."),
    ("See how long it is", "compared with the window the model was trained at, and with its reach with DCA."),
    ("Ask", "then open the pages behind the answer. Side by side shows what DCA changes."),
)
_OF_THE_EXAMPLE = "What is the pass key?"
_OF_ANY = ("What is this document about?", "What are its main points?")
_SMALL = "The demo model is tiny: it finds a number hidden in a text, but does not understand what it reads."
_LARGER = "For other questions, load a larger model on the Model tab."


def before(session: Session, context: Context) -> str:
    """For a conversation without turns."""
    return _ready(session, context) if session.readable and context.host.ready else BEGIN


def _ready(session: Session, context: Context) -> str:
    entry = catalogue.get(context.host.loaded.name)
    small = entry is not None and entry.is_local
    questions = [_OF_THE_EXAMPLE] if any(upload.example for upload in session.readable) else []
    questions += [] if small else _OF_ANY
    chips = [tag("button", q, type="button", class_="dh-chip", data_question=q) for q in questions]
    more = context.settings.any_model or len(context.settings.choices()) > 1
    words = f"{_SMALL} {_LARGER if more else ''}" if small else "Side by side shows what DCA changes."
    parts = [
        tag("strong", "Ask a question, or begin with" if chips else "Ask a question"),
        tag("div", *chips, class_="dh-chips") if chips else "",
        tag("p", words.strip()),
    ]
    return tag("div", tag("div", *parts, class_="dh-ready"), class_="dh-empty")
