"""What pdfium knows of a PDF: its pages, their text with what is typed into them, and what else a file is."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import pypdfium2
import pypdfium2.raw as pdfium

from dca_hub.documents.failures import Reason

_TYPED = {pdfium.FPDF_ANNOT_WIDGET, pdfium.FPDF_ANNOT_FREETEXT, pdfium.FPDF_ANNOT_STAMP}
# pdfium writes U+0002 for a hyphen at a line end, and joins the lines itself.
_HYPHEN_AT_LINE_END = re.compile(r"(?<=\w)\x02(?=\w)")
_SAMPLED = 40  # characters whose angle is looked at


def open_document(data: BinaryIO, password: str | None) -> pypdfium2.PdfDocument:
    """The document, its form fields ready to be drawn. Raises PdfiumError; `refusal` puts it into a reason."""
    try:  # first without: a file that only restricts printing opens whatever password came along
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if not password or error.err_code != pdfium.FPDF_ERR_PASSWORD:
            raise
        data.seek(0)
        document = pypdfium2.PdfDocument(data, password=password)
    document.init_forms()  # before any page is loaded, else the fields stay empty
    return document


def refusal(error: pypdfium2.PdfiumError, password: str | None) -> Reason:
    if error.err_code == pdfium.FPDF_ERR_PASSWORD:
        return Reason.WRONG_PASSWORD if password else Reason.ENCRYPTED
    return Reason.ENCRYPTED if error.err_code == pdfium.FPDF_ERR_SECURITY else Reason.DAMAGED


def is_xfa(document: pypdfium2.PdfDocument) -> bool:
    """Whether a form is described in XML beside the pages, which then may hold a placeholder."""
    return document.get_formtype() in (pdfium.FORMTYPE_XFA_FULL, pdfium.FORMTYPE_XFA_FOREGROUND)


@dataclass(frozen=True)
class PageReading:
    """The text of a page, and whether lines run upwards or aslant, and whether anything is drawn on it."""

    text: str
    rotated: bool
    has_drawings: bool

    def is_long(self, most: int) -> bool:
        return len(self.text) > most


def read_page(document: pypdfium2.PdfDocument, index: int, most: int) -> PageReading:
    """Page `index`, form fields, free texts and stamps where they stand; at most about `most` characters."""
    page = document[index]
    try:
        text = page.get_textpage()
        rotated = _is_rotated(text)
        drawn = any(True for _ in page.get_objects(max_depth=1))
        plain = text.get_text_bounded() if text.count_chars() <= 4 * most else text.get_text_range(0, most + 1)
        if _TYPED & set(_annotation_kinds(page)):
            plain = _with_typed(document, index, page, text, plain, most)
            drawn = True
    finally:
        page.close()
    return PageReading(_HYPHEN_AT_LINE_END.sub("-\n", plain), rotated, drawn)


def shown_page(document: pypdfium2.PdfDocument, index: int) -> pypdfium2.PdfPage:
    """Page `index` as a viewer shows it: what is typed into it is part of it, to be drawn and to be found."""
    page = document[index]
    if not _TYPED & set(_annotation_kinds(page)):
        return page
    pdfium.FPDFPage_Flatten(page, pdfium.FLAT_NORMALDISPLAY)
    page.close()  # flattening shows on a page that is loaded anew
    return document[index]


def _annotation_kinds(page: pypdfium2.PdfPage) -> Iterator[int]:
    for number in range(pdfium.FPDFPage_GetAnnotCount(page)):
        annotation = pdfium.FPDFPage_GetAnnot(page, number)
        if annotation:
            yield pdfium.FPDFAnnot_GetSubtype(annotation)
            pdfium.FPDFPage_CloseAnnot(annotation)


def _is_rotated(text: pypdfium2.PdfTextPage) -> bool:
    count = text.count_chars()
    step = max(1, count // _SAMPLED)
    angles = [pdfium.FPDFText_GetCharAngle(text, index) for index in range(0, count, step)]
    return sum(0.1 < angle < 6.18 for angle in angles) > len(angles) // 10


@dataclass
class _Line:
    """Characters side by side and their box, in points from the lower left corner."""

    text: str
    left: float
    bottom: float
    right: float
    top: float

    def is_beside(self, other: "_Line") -> bool:
        overlap = min(self.top, other.top) - max(self.bottom, other.bottom)
        return overlap > 0.4 * min(self.top - self.bottom, other.top - other.bottom)


def _with_typed(
    document: pypdfium2.PdfDocument,
    index: int,
    page: pypdfium2.PdfPage,
    text: pypdfium2.PdfTextPage,
    plain: str,
    most: int,
) -> str:
    """The page's text with its annotations', each at the end of the line beside it or below the line above it."""
    length = text.count_chars()
    before = [pdfium.FPDFText_GetUnicode(text, position) for position in range(min(length, most))]
    # Flattening writes the appearances of annotations behind the page's content; a page must be loaded anew to see it.
    if pdfium.FPDFPage_Flatten(page, pdfium.FLAT_NORMALDISPLAY) != pdfium.FLATTEN_SUCCESS:
        return plain
    again = document[index]
    try:
        flat = again.get_textpage()
        if flat.count_chars() <= length:
            return plain
        after = [pdfium.FPDFText_GetUnicode(flat, position) for position in range(min(length, most))]
        if before != after or flat.count_chars() > most:
            return flat.get_text_bounded()[: most + 1]
        lines = list(_lines(flat, 0, length))
        for typed in _lines(flat, length, flat.count_chars()):
            _insert(lines, typed)
        return "\n".join(line.text.rstrip() for line in lines)
    finally:
        again.close()


def _lines(text: pypdfium2.PdfTextPage, start: int, stop: int) -> Iterator[_Line]:
    """The characters in lines; one ends where pdfium breaks it, at a change of height, and at a wide gap."""
    line: _Line | None = None
    for position in range(start, stop):
        character = chr(pdfium.FPDFText_GetUnicode(text, position) or 0xFFFD)
        if character in "\r\n":
            if line:
                yield line
            line = None
            continue
        left, bottom, right, top = text.get_charbox(position)
        here = _Line(character, left, bottom, right, top)
        if line is None or character.isspace():
            if line:
                line.text += " "
            elif not character.isspace():
                line = here
            continue
        gap = left - line.right
        if (not line.is_beside(here) and abs(bottom - line.bottom) > (line.top - line.bottom)) or gap > 40:
            yield line
            line = here
            continue
        line = _Line(line.text + character, min(line.left, left), min(line.bottom, bottom), right, max(line.top, top))
    if line:
        yield line


def _insert(lines: list[_Line], typed: _Line) -> None:
    beside = [line for line in lines if line.is_beside(typed) and line.left < typed.left]
    if beside:
        label = max(beside, key=lambda line: line.left)
        label.text = f"{label.text.rstrip()} {typed.text}"
        label.right = max(label.right, typed.right)
        return
    above = [number for number, line in enumerate(lines) if line.bottom >= typed.top - 1]
    nearest = min(above, key=lambda number: lines[number].bottom - typed.top, default=len(lines) - 1)
    lines.insert(nearest + 1, typed)
