"""A plain writer of PDF files: objects into a file, and prose into pages set in Times.

A library for this would be one more dependency for one file: the fourteen standard fonts need no embedding, and what
is left of the job is a table of widths and a page of code.
"""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

# Advance widths of Times-Roman in thousandths of the font size (Adobe's Core 14 metrics).
_WIDTHS = {
    180: "'",
    200: "|",
    250: " ,.",
    278: "/:;\\ijlt",
    333: "!()-I[]`fr",
    389: "Js",
    408: '"',
    444: "?acez",
    469: "^",
    480: "{}",
    541: "~",
    556: "FPS",
    564: "+<=>",
    611: "ELTZ",
    667: "BCR",
    722: "ADGHKNOQUVXYw",
    778: "&m",
    833: "%",
    889: "M",
    921: "@",
    944: "W",
}
_WIDTH_OF = {character: width for width, characters in _WIDTHS.items() for character in characters}
_USUAL_WIDTH = 500

PAGE_WIDTH, PAGE_HEIGHT = 432, 648  # points: six by nine inches, a novel's page
_MARGIN, _FOOT = 60, 36
_SIZE, _LEADING, _INDENT = 11.5, 15.5, 17
_COLUMN = PAGE_WIDTH - 2 * _MARGIN


def assemble(objects: Iterable[bytes]) -> bytes:
    """A PDF of these objects, numbered from 1; the first is the catalog, the last the document information."""
    out = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(offsets) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer\n<< /Size %d /Root 1 0 R /Info %d 0 R >>\nstartxref\n%d\n%%%%EOF\n"
    return bytes(out) + trailer % (len(offsets) + 1, len(offsets), table)


def stream(data: bytes) -> bytes:
    packed = zlib.compress(data, 9)
    return b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(packed), packed)


def literal(text: str) -> bytes:
    """`text` as a PDF string in the fonts' encoding; what Windows-1252 lacks becomes a question mark."""
    raw = text.encode("cp1252", "replace")
    return b"(" + raw.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)") + b")"


def text_width(text: str, size: float) -> float:
    """In points, set in Times-Roman of `size` points."""
    return sum(_WIDTH_OF.get(character, _USUAL_WIDTH) for character in text) * size / 1000


@dataclass
class Sheet:
    """One page under construction; `top` is the next line's height above the lower edge, in points."""

    top: float = PAGE_HEIGHT - _MARGIN
    marks: list[bytes] = field(default_factory=list)

    def put(self, text: str, x: float, size: float, stretch: float = 0.0) -> None:
        """A line at `x`; `stretch` is the room to add to each blank."""
        self.marks.append(
            b"BT /F1 %.2f Tf %.3f Tw 1 0 0 1 %.2f %.2f Tm %s Tj ET" % (size, stretch, x, self.top, literal(text))
        )

    def center(self, text: str, size: float) -> None:
        self.put(text, (PAGE_WIDTH - text_width(text, size)) / 2, size)


def broken(words: Iterable[str], indent: float) -> Iterator[list[str]]:
    """The words in lines that fit the column, the first of them `indent` points shorter."""
    line: list[str] = []
    room = _COLUMN - indent
    for word in words:
        if line and text_width(" ".join([*line, word]), _SIZE) > room:
            yield line
            line, room = [], _COLUMN
        line.append(word)
    yield line


def set_pages(paragraphs: Iterable[str]) -> Iterator[Sheet]:
    """Justified pages; a paragraph that begins with "# " is the heading of a chapter, which opens a page."""
    sheet: Sheet | None = None
    for paragraph in paragraphs:
        if paragraph.startswith("# "):
            if sheet:
                yield sheet
            sheet = _opening(paragraph[2:])
            continue
        sheet = sheet or Sheet()
        lines = list(broken(paragraph.split(), _INDENT))
        for index, words in enumerate(lines):
            if sheet.top < _MARGIN:
                yield sheet
                sheet = Sheet()
            _set_line(sheet, words, _INDENT if index == 0 else 0, justified=index < len(lines) - 1)
    if sheet:
        yield sheet


def _opening(heading: str) -> Sheet:
    sheet = Sheet(PAGE_HEIGHT - 1.8 * _MARGIN)
    sheet.center(heading, 15)
    sheet.top -= 2.4 * _LEADING
    return sheet


def _set_line(sheet: Sheet, words: list[str], indent: float, justified: bool) -> None:
    line = " ".join(words)
    spare = _COLUMN - indent - text_width(line, _SIZE)
    sheet.put(line, _MARGIN + indent, _SIZE, spare / (len(words) - 1) if justified and len(words) > 1 else 0.0)
    sheet.top -= _LEADING


def book(title_lines: Iterable[tuple[str, float]], paragraphs: Iterable[str], information: bytes) -> bytes:
    """A title page (lines with their sizes), then numbered pages of `paragraphs`; the same bytes every time."""
    title = Sheet(PAGE_HEIGHT * 0.68)
    for text, size in title_lines:
        title.center(text, size)
        title.top -= 1.6 * size + 6
    sheets = [title]
    for number, sheet in enumerate(set_pages(paragraphs), 2):
        sheet.top = _FOOT
        sheet.center(str(number), 9.5)
        sheets.append(sheet)
    return assemble(_objects(sheets, information))


def _objects(sheets: list[Sheet], information: bytes) -> Iterator[bytes]:
    first = 4  # after the catalog, the page tree and the font
    kids = b" ".join(b"%d 0 R" % (first + 2 * index) for index in range(len(sheets)))
    yield b"<< /Type /Catalog /Pages 2 0 R /Lang (en) >>"
    yield b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(sheets))
    yield b"<< /Type /Font /Subtype /Type1 /BaseFont /Times-Roman /Encoding /WinAnsiEncoding >>"
    for index, sheet in enumerate(sheets):
        yield (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %d %d] /Resources << /Font << /F1 3 0 R >> >> "
            b"/Contents %d 0 R >>" % (PAGE_WIDTH, PAGE_HEIGHT, first + 2 * index + 1)
        )
        yield stream(b"\n".join(sheet.marks))
    yield information
