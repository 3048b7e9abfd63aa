"""What pdfium knows of a PDF: its pages, their text with what is typed into them, and what else a file is."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import pi, radians, tau
from typing import BinaryIO

import pypdfium2
import pypdfium2.raw as pdfium

from dca_hub.documents.failures import Reason
from dca_hub.documents.layers import shown_indices
from dca_hub.documents.right_to_left import in_logical_order
from dca_hub.documents.text import ROW_END

_TYPED = {pdfium.FPDF_ANNOT_WIDGET, pdfium.FPDF_ANNOT_FREETEXT, pdfium.FPDF_ANNOT_STAMP}
Box = tuple[float, float, float, float]  # left, bottom, right, top, in points from the lower left corner
# pdfium writes a noncharacter for a hyphen at a line end, and joins the lines itself.
_HYPHEN_AT_LINE_END = re.compile(r"(?<=\w)[\x02\ufffe](?=\w)")
_ROTATED = (pi / 2, pi, 3 * pi / 2)
_SAMPLED = 40  # characters whose angle is looked at
_LINE = re.compile(r"[^\s](?:[^\r\n]*[^\s])?")
_BLANKS_WITHIN = re.compile(r"(?<=[^\s\ufffe]) +(?=[^\s\ufffe])")
_CELL_GAP = 3.0  # heights of a letter between two cells of a table; between words there are at most 1.5
_DENSE = 0.55  # width of a character against the height of its line; text has 0.4 to 0.5
_LABEL = re.compile(r"[\W\d]*\w?[.)]?")  # a bullet or number, which stands apart from the text of its item


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


def read_page(
    document: pypdfium2.PdfDocument, index: int, most: int, hidden: Callable[[], frozenset[str]] = frozenset
) -> PageReading:
    """Page `index`, form fields, free texts and stamps where they stand; at most about `most` characters.

    hidden: gives the names of the layers that are not shown; called where a page has layers.
    """
    page = document[index]
    try:
        text = page.get_textpage()
        rotated = _is_rotated(text, radians(page.get_rotation()))
        drawn = any(True for _ in page.get_objects(max_depth=1))
        plain = (
            _in_lines(text, _seen(page, text, hidden).replace(ROW_END, ""))
            if text.count_chars() <= 4 * most
            else _start(text, most)
        )
        if _TYPED & set(_annotation_kinds(page)):
            plain = _with_typed(document, index, page, text, plain, most)
            drawn = True
    finally:
        page.close()
    return PageReading(in_logical_order(_HYPHEN_AT_LINE_END.sub("-\n", plain)), rotated, drawn)


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


def _is_rotated(text: pypdfium2.PdfTextPage, page_angle: float) -> bool:
    """Whether a tenth of the characters is seen upwards, downwards or upside down; noise of OCR programs slants."""
    count = text.count_chars()
    step = max(1, count // _SAMPLED)
    angles = [pdfium.FPDFText_GetCharAngle(text, index) + page_angle for index in range(0, count, step)]
    sideways = sum(any(abs(angle % tau - rotation) < 0.1 for rotation in _ROTATED) for angle in angles)
    return sideways > len(angles) // 10


def _seen(page: pypdfium2.PdfPage, text: pypdfium2.PdfTextPage, hidden: Callable[[], frozenset[str]]) -> str:
    """The page's text, without what lies outside the page or on a layer that is not shown.

    pdfium's own text within the page is not enough: it leaves out each character without a width, and so the vowels and
    tones that stand above others in Thai, Lao, Khmer and Devanagari.
    """
    whole = text.get_text_range()
    shown = shown_indices(text, whole, hidden) or [True] * len(whole)
    if all(shown) and len(whole) == len(text.get_text_bounded()):
        return whole
    left, bottom, right, top = page.get_cropbox()
    kept = "".join(
        character
        for index, (character, is_shown) in enumerate(zip(whole, shown))
        if character in "\r\n" or (is_shown and _is_within(_box(text, index), left, bottom, right, top))
    )
    return re.sub(r"(\r\n){2,}", "\r\n", kept)


def _is_within(box: Box, left: float, bottom: float, right: float, top: float) -> bool:
    return left <= box[2] and box[0] <= right and bottom <= box[3] and box[1] <= top


def _start(text: pypdfium2.PdfTextPage, most: int) -> str:
    return text.get_text_range(0, most + 1)


def _in_lines(text: pypdfium2.PdfTextPage, seen: str) -> str:
    """`seen` with ROW_END behind each row of a table, whose cells stand far apart, and with raised and lowered
    characters on their line, around which pdfium ends it: m²⏎of land.
    """
    whole = text.get_text_range()
    lines = list(_LINE.finditer(whole))
    rows = [_is_row(text, line) for line in lines]
    if seen != whole:  # an index in `seen` is then none in the page
        marked = {line[0] for line, row in zip(lines, rows) if row}
        return "\r\n".join(line + ROW_END if line.strip() in marked else line for line in seen.split("\r\n"))
    pieces, last, row = [], 0, False
    for line, following, is_row in zip(lines, [*lines[1:], None], rows):
        row = row or is_row
        ends = following and (_box(text, line.end() - 1, loose=True), _box(text, following.start(), loose=True))
        blank = ends and _blank_between(*ends)
        pieces.append(whole[last : line.end()])
        last = line.end()
        if blank is not None:
            pieces.append(blank)
            last = following.start()
        elif row:
            pieces.append(ROW_END)
            row = False
    return "".join([*pieces, whole[last:]])


def _blank_between(before: Box, after: Box) -> str | None:
    """What stands between two characters side by side, a blank or nothing; None for characters on two lines."""
    height = max(before[3] - before[1], after[3] - after[1])
    overlap = min(before[3], after[3]) - max(before[1], after[1])
    gap = after[0] - before[2]
    if overlap < 0.3 * min(before[3] - before[1], after[3] - after[1]) or not -0.2 * height < gap < height:
        return None
    return " " if gap > 0.15 * height else ""


def _is_row(text: pypdfium2.PdfTextPage, line: re.Match[str]) -> bool:
    if _is_dense(text, line):
        return False
    for blanks in _BLANKS_WITHIN.finditer(line[0]):
        before = _box(text, line.start() + blanks.start() - 1)
        after = _box(text, line.start() + blanks.end())
        height = max(before[3] - before[1], after[3] - after[1], 1.0)
        if after[0] - before[2] > _CELL_GAP * height and not _LABEL.fullmatch(line[0], 0, blanks.start()):
            return True
    return False


def _is_dense(text: pypdfium2.PdfTextPage, line: re.Match[str]) -> bool:
    """Whether the line has no room for a wide gap: two boxes tell it of most lines, in place of two for each blank."""
    shown = line[0].rstrip()
    if len(shown) < 2:
        return True
    first, last = _box(text, line.start(), loose=True), _box(text, line.start() + len(shown) - 1, loose=True)
    return last[2] - first[0] < _DENSE * len(shown) * max(first[3] - first[1], last[3] - last[1])


def _box(text: pypdfium2.PdfTextPage, index: int, loose: bool = False) -> Box:
    """Of the character at `index` of the text."""
    return text.get_charbox(pdfium.FPDFText_GetCharIndexFromTextIndex(text, index), loose)


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
            return _seen(again, flat, frozenset)[: most + 1]
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
