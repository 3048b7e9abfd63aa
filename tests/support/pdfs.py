"""PDF files for the tests, good and bad, built byte by byte."""

import io
import re
import unicodedata
import zlib
from pathlib import Path

from pypdf import PdfReader, PdfWriter

from support.pdf_writer import assemble, literal, stream

FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
RESOURCES = b"<< /Font << /F1 3 0 R >> >>"


def page_content(text: str) -> bytes:
    lines = b"".join(b"%s Tj T*\n" % literal(line) for line in text.split("\n"))
    return b"BT /F1 12 Tf 14 TL 72 720 Td\n" + lines + b"ET"


def from_contents(contents: list[bytes], resources: bytes = RESOURCES, extra: list[bytes] = ()) -> bytes:
    """A PDF with one page for each content stream (whole stream objects); `extra` objects follow the pages."""
    kids = b" ".join(b"%d 0 R" % (4 + 2 * index) for index in range(len(contents)))
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>"]
    objects.append(b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(contents)))
    objects.append(FONT)
    for index, content in enumerate(contents):
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources %s /Contents %d 0 R >>"
            % (resources, 5 + 2 * index)
        )
        objects.append(content)
    return assemble([*objects, *extra, b"<< >>"])


def make_pdf(pages: list[str]) -> bytes:
    """One page for each text, its lines as they are; "" makes a page without a text layer."""
    return from_contents([stream(page_content(text)) if text else stream(b"") for text in pages])


def in_any_script(pages: list[str], right_to_left: bool = False) -> bytes:
    """One page for each text, in a composite font that says by ToUnicode which characters its glyphs stand for.

    Lines are broken at 40 characters, at a blank where there is one. Right-to-left lines are laid out as programs do
    it: their letters from left to right as they are seen, numbers the way they are read.
    """
    numbers = {character: number for number, character in enumerate(sorted(set("".join(pages))), 1)}
    contents = []
    for page in pages:
        lines = [visible(line) if right_to_left else line for line in _lines(page)]
        shown = ("".join(f"{numbers[character]:04x}" for character in line) for line in lines)
        contents.append(
            stream(b"BT /F1 10 Tf 14 TL 72 720 Td\n%sET" % "".join(f"<{x}> Tj T*\n" for x in shown).encode())
        )
    first = 4 + 2 * len(pages)
    widths = " ".join(f"{number} [{_width(character)}]" for character, number in numbers.items())
    mapped = "".join(f"<{n:04x}> <{c.encode('utf-16-be').hex()}>\n" for c, n in numbers.items())
    cmap = f"""/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /Test def /CMapType 2 def
1 begincodespacerange <0000> <ffff> endcodespacerange
{len(numbers)} beginbfchar
{mapped}endbfchar endcmap end end"""
    extra = [
        b"<< /Type /Font /Subtype /Type0 /BaseFont /Test /Encoding /Identity-H "
        b"/DescendantFonts [%d 0 R] /ToUnicode %d 0 R >>" % (first + 1, first + 3),
        b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Test /FontDescriptor %d 0 R /DW 1000 /W [%s] "
        b"/CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> >>" % (first + 2, widths.encode()),
        b"<< /Type /FontDescriptor /FontName /Test /Flags 4 /Ascent 800 /Descent -200 /CapHeight 700 /ItalicAngle 0 "
        b"/StemV 80 /FontBBox [0 -200 1000 800] >>",
        stream(cmap.encode()),
    ]
    return from_contents(contents, b"<< /Font << /F1 %d 0 R >> >>" % first, extra)


def visible(line: str) -> str:
    """A right-to-left line as it is seen from left to right."""
    return "".join(run if run[0].isdigit() else run[::-1] for run in reversed(re.findall(r"\d[\d.,]*\d|\d|\D+", line)))


def _lines(text: str) -> list[str]:
    lines = []
    while len(text) > 40:
        cut = text.rfind(" ", 0, 41)
        lines.append(text[: cut if cut > 0 else 40])
        text = text[cut + 1 if cut > 0 else 40 :]
    return [*lines, text]


def _width(character: str) -> int:
    """In thousandths of the font size: marks stand above or below the letter before them."""
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 280 if character == " " else 1000 if unicodedata.east_asian_width(character) in "WF" else 550


def scanned(pages: int = 2) -> bytes:
    """Pages that are pictures only."""
    image = zlib.compress(bytes(64 * 64))
    picture = b"<< /Type /XObject /Subtype /Image /Width 64 /Height 64 /ColorSpace /DeviceGray /BitsPerComponent 8 "
    picture += b"/Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(image), image)
    number = 4 + 2 * pages
    resources = b"<< /XObject << /Im 1 0 R >> >>".replace(b"1 0 R", b"%d 0 R" % number)
    return from_contents([stream(b"q 500 0 0 700 50 50 cm /Im Do Q")] * pages, resources, [picture])


def encrypted(user: str, owner: str = "owner", algorithm: str = "AES-256") -> bytes:
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(make_pdf(["A secret page about herons."]))))
    writer.encrypt(user, owner, algorithm=algorithm)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def no_pages() -> bytes:
    return from_contents([])


def cyclic_page_tree() -> bytes:
    tree = b"<< /Type /Pages /Parent 2 0 R /Kids [2 0 R] /Count 1 >>"
    return assemble([b"<< /Type /Catalog /Pages 2 0 R >>", tree, b"<< >>"])


def bomb(layers: int = 2, size: int = 60_000_000) -> bytes:
    """A content stream that unpacks to `size` bytes of text operators, packed `layers` times."""
    data = b"(boom) Tj " * (size // 10)
    for _ in range(layers):
        data = zlib.compress(data, 9)
    filters = b" ".join([b"/FlateDecode"] * layers)
    return from_contents([b"<< /Length %d /Filter [%s] >>\nstream\n%s\nendstream" % (len(data), filters, data)])


def deep_arrays(depth: int = 200_000) -> bytes:
    return from_contents([stream(b"BT /F1 12 Tf " + b"[" * depth + b"]" * depth + b" TJ ET")])


def deep_objects(depth: int = 100_000) -> bytes:
    """The page tree itself is the nest."""
    nest = b"<< /Type /Pages /Count 1 /Kids " + b"[" * depth + b"]" * depth + b" >>"
    return assemble([b"<< /Type /Catalog /Pages 2 0 R >>", nest, b"<< >>"])


def many_operators(count: int = 3_000_000) -> bytes:
    return from_contents([stream(b"BT /F1 12 Tf 72 720 Td " + b"(a) Tj " * count + b"ET")])


def forms_within_forms(levels: int = 40) -> bytes:
    """Each form draws the next one twice: 2 ** levels drawings for a renderer without bounds."""
    first = 6
    forms = []
    for level in range(levels):
        content = b"/X Do /X Do" if level < levels - 1 else b"0 0 9 9 re f"
        next_form = first + level + 1 if level < levels - 1 else first + level
        forms.append(
            b"<< /Type /XObject /Subtype /Form /BBox [0 0 612 792] /Resources << /XObject << /X %d 0 R >> >> "
            b"/Length %d >>\nstream\n%s\nendstream" % (next_form, len(content), content)
        )
    return from_contents([stream(b"/X Do")], b"<< /XObject << /X %d 0 R >> >>" % first, forms)


def truncated() -> bytes:
    """Cut within its first page: no cross-reference table, no page tree."""
    return b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n2 0 obj\n<< /Type /Pages /Ki"


HTML = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Sign in to download.</body></html>"


def save(folder: Path, data: bytes, name: str = "file.pdf") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path
