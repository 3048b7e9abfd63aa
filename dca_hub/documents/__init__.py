"""PDF files as pages of text, page images and citations; a file's bytes are parsed in a bounded worker process only."""

from .citations import Citation, Difference, Grade, cite
from .document import Document, Page, page_mark
from .failures import DocumentError, Reason
from .limits import Limits
from .ranges import parse_pages
from .read import read_pdf
from .render import PageImage, render_page

__all__ = [
    "Citation",
    "Difference",
    "Document",
    "DocumentError",
    "Grade",
    "Limits",
    "Page",
    "PageImage",
    "Reason",
    "cite",
    "page_mark",
    "parse_pages",
    "read_pdf",
    "render_page",
]
