"""PDF files as pages of text, page images and citations; a file's bytes are parsed in a bounded worker process only."""

from dca_hub.documents.citations import Citation, Difference, Grade, cite
from dca_hub.documents.document import Document, Page, page_mark
from dca_hub.documents.failures import DocumentError, Reason
from dca_hub.documents.limits import Limits
from dca_hub.documents.ranges import parse_pages
from dca_hub.documents.read import read_document, read_pdf
from dca_hub.documents.render import PageImage, render_page

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
    "read_document",
    "read_pdf",
    "render_page",
]
