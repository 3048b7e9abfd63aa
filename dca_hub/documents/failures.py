"""Why a document is refused: a closed set of reasons, each with its one sentence."""

from enum import Enum
from pathlib import PurePath

from dca_hub.errors import DcaHubError


class Reason(str, Enum):
    """The closed set. A member equals its string: `error.reason == "encrypted"`."""

    MISSING = "missing"
    NOT_A_FILE = "not_a_file"
    UNREADABLE = "unreadable"
    EMPTY = "empty"
    NOT_PDF = "not_pdf"
    NOT_TEXT = "not_text"
    UNREACHABLE = "unreachable"
    TOO_LARGE = "too_large"
    ENCRYPTED = "encrypted"
    WRONG_PASSWORD = "wrong_password"
    DAMAGED = "damaged"
    SCANNED = "scanned"
    UNMAPPED = "unmapped"
    BLANK = "blank"
    XFA = "xfa"
    PORTFOLIO = "portfolio"
    BAD_PAGE_RANGE = "bad_page_range"
    TOO_MANY_PAGES = "too_many_pages"
    TOO_MUCH_TEXT = "too_much_text"
    TOO_COMPLEX = "too_complex"
    TOO_SLOW = "too_slow"
    TOO_MUCH_MEMORY = "too_much_memory"


SENTENCES = {
    Reason.MISSING: "There is no file {name}: check the name and the folder.",
    Reason.NOT_A_FILE: "{name} is not a regular file: give the PDF itself, not a folder, a pipe or a device.",
    Reason.UNREADABLE: "{name} cannot be opened: check its permissions.",
    Reason.EMPTY: "{name} is empty ({what}): save or download it again.",
    Reason.NOT_PDF: "{name} is not a PDF but {what}: open it in the program it belongs to and export it as PDF.",
    Reason.NOT_TEXT: "{name} is not a text file: save it as text in UTF-8, or give the PDF.",
    Reason.UNREACHABLE: (
        "{name} cannot be downloaded, because {why}: check the address, or save the file and give its path."
    ),
    Reason.TOO_LARGE: "{name} is larger than {limit} MB, the limit here: split it, or save it with smaller images.",
    Reason.ENCRYPTED: "{name} is encrypted: give the password that opens it.",
    Reason.WRONG_PASSWORD: "That password does not open {name}: check it and try again.",
    Reason.DAMAGED: "{name} is damaged and cannot be read: download it again, or print it to a new PDF.",
    Reason.SCANNED: (
        "{name} has pictures but no text layer on {which}, and no OCR is done here: "
        "run it through an OCR program first."
    ),
    Reason.UNMAPPED: (
        "{name} has text, but its fonts do not say which letters they draw: run it through an OCR program first."
    ),
    Reason.BLANK: "{name} has no text layer on {which}, and no pictures or form fields either: {advice}.",
    Reason.XFA: (
        "{name} is an XFA form, whose contents only Adobe's programs show: "
        "open it in Adobe Reader and print it to a new PDF."
    ),
    Reason.PORTFOLIO: (
        "{name} has no text on {which} but holds {attached} ({names}): save what is attached and give that."
    ),
    Reason.BAD_PAGE_RANGE: "{asked} is not a page range of {name}, which has {count}: {advice}.",
    Reason.TOO_MANY_PAGES: (
        "{name} has {asked} pages to read, more than the limit of {limit} here: choose a page range, such as {example}."
    ),
    Reason.TOO_MUCH_TEXT: (
        "{name} holds more than {limit:,} characters of text, the limit here, which page {page} passes: "
        "choose a shorter page range."
    ),
    Reason.TOO_COMPLEX: (
        "{name} needs far more work than pages of text do, and was not read: print it to a new PDF and try that."
    ),
    Reason.TOO_SLOW: "{name} took longer than {limit:g} s, the limit here ({done}): choose a shorter page range.",
    Reason.TOO_MUCH_MEMORY: (
        "{name} needs more than {limit} MB of memory, the limit here: choose fewer pages, or print it to a new PDF."
    ),
}


class Refused(Exception):
    """In the worker: the reason, with the facts that its sentence names."""

    def __init__(self, reason: Reason, **facts: object) -> None:
        super().__init__(reason.value)
        self.reason, self.facts = reason, facts


class DocumentError(DcaHubError):
    """A document that cannot be used. `reason` is a `Reason`; the message is one sentence without any path."""

    def __init__(self, reason: Reason | str, name: str, **facts: object) -> None:
        self.reason = Reason(reason)
        self.name = name
        super().__init__(SENTENCES[self.reason].format(name=name, **facts))


def shown_name(path: PurePath) -> str:
    """The file name alone, printable and at most 80 characters long: it comes from a stranger and goes on a screen."""
    name = "".join(c if c.isprintable() else "?" for c in path.name) or "The document"
    return name if len(name) <= 80 else f"{name[:60]}...{name[-17:]}"


def counted(number: int) -> str:
    return "1 page" if number == 1 else f"{number} pages"
