"""PDF files as pages of text, page images and citations; a file's bytes are parsed in a bounded worker process only."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
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

# Loaded with the first use: the worker process, which starts for every file, needs none of them.
_MODULES = {
    "citations": ("Citation", "Difference", "Grade", "cite"),
    "document": ("Document", "Page", "page_mark"),
    "failures": ("DocumentError", "Reason"),
    "limits": ("Limits",),
    "ranges": ("parse_pages",),
    "read": ("read_document", "read_pdf"),
    "render": ("PageImage", "render_page"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(_import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
