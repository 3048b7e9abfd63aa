"""Text files (.txt, .md) as documents: pages of a reader's size, cut at paragraphs and headings."""

from collections.abc import Iterator
from typing import BinaryIO

from dca_hub.documents.document import Document, Page
from dca_hub.documents.failures import DocumentError, Reason, counted
from dca_hub.documents.limits import Limits
from dca_hub.documents.ranges import BadRange, parse_pages, range_advice
from dca_hub.documents.text import ROW_END, clean

SUFFIXES = (".txt", ".md", ".markdown", ".text")
PAGE_CHARACTERS = 3000  # about a printed page


def read_plain(file: BinaryIO, name: str, pages: str | None, limits: Limits) -> Document:
    """The document of an open text file; a form feed ends a page, and so does about a printed page of text.

    Raises DocumentError: not_text, too_much_text, too_many_pages, bad_page_range, empty.
    """
    texts = list(_pages(_decoded(file.read(), name)))
    if not texts:
        raise DocumentError(Reason.EMPTY, name, what="no text")
    try:
        numbers = parse_pages(pages, len(texts))
    except BadRange as error:
        facts = {"count": counted(len(texts)), "advice": range_advice(len(texts))}
        raise DocumentError(Reason.BAD_PAGE_RANGE, name, asked=error.asked, **facts) from None
    if len(numbers) > limits.pages:
        example = f"1-{limits.pages}" if limits.pages > 1 else "1"
        raise DocumentError(Reason.TOO_MANY_PAGES, name, asked=len(numbers), limit=limits.pages, example=example)
    total = 0
    for number in numbers:
        total += len(texts[number - 1])
        if total > limits.characters:
            raise DocumentError(Reason.TOO_MUCH_TEXT, name, limit=limits.characters, page=number)
    return Document(name, tuple(Page(number, texts[number - 1]) for number in numbers), len(texts))


def _decoded(data: bytes, name: str) -> str:
    """UTF-8, UTF-16 with its mark, or else Windows-1252, which every byte but a few is a letter of."""
    encodings = ("utf-16",) if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252")
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise DocumentError(Reason.NOT_TEXT, name)


def _pages(text: str) -> Iterator[str]:
    for sheet in text.split("\f"):
        page, length = [], 0
        for paragraph in _paragraphs(clean(sheet.replace(ROW_END, ""))):
            if page and length + len(paragraph) > PAGE_CHARACTERS:
                yield "\n\n".join(page)
                page, length = [], 0
            page.append(paragraph)
            length += len(paragraph)
        if page:
            yield "\n\n".join(page)


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs, those that are longer than a page cut at the last blank or line end before it."""
    for paragraph in text.split("\n\n"):
        while len(paragraph) > PAGE_CHARACTERS:
            cut = max(paragraph.rfind(" ", 0, PAGE_CHARACTERS), paragraph.rfind("\n", 0, PAGE_CHARACTERS))
            cut = cut if cut > PAGE_CHARACTERS // 2 else PAGE_CHARACTERS
            yield paragraph[:cut].rstrip()
            paragraph = paragraph[cut:].lstrip()
        if paragraph:
            yield paragraph
