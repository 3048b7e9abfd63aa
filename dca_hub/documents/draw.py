"""A page drawn by pdfium, with a passage marked; runs in the worker process."""

import base64
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import pypdfium2
import pypdfium2.raw as pdfium
from PIL import Image, ImageChops, ImageDraw

from dca_hub.documents.failures import Reason
from dca_hub.documents.find import locate
from dca_hub.documents.limits import Limits
from dca_hub.documents.pdfium import open_document, refusal, shown_page
from dca_hub.documents.ranges import BadRange

MOST_PIXELS = 16_000_000
_MOST_BOXES = 500
Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels from the upper left corner
_YELLOW, _AMBER = (255, 236, 110), (200, 130, 0)


def answer(data: BinaryIO, request: dict[str, Any], limits: Limits, send: Callable[..., None]) -> None:
    """Sends "open" and then "image" for request["number"], or "failed"."""
    try:
        document = open_document(data, request["password"])
    except pypdfium2.PdfiumError as error:
        return send("failed", reason=refusal(error, request["password"]))
    count = len(document)
    send("open", pages=count, chosen=1)
    if count == 0:
        return send("failed", reason=Reason.EMPTY)
    if not 1 <= request["number"] <= count:
        raise BadRange(f"Page {request['number']}")
    try:
        page = shown_page(document, request["number"] - 1)
        image, marked = draw(page, request["width"], request["highlight"], limits)
    except (pypdfium2.PdfiumError, ArithmeticError, ValueError):  # also: sizes that no page can have
        return send("failed", reason=Reason.DAMAGED)
    png = io.BytesIO()
    image.save(png, "PNG")
    send("image", png=base64.b64encode(png.getvalue()).decode("ascii"), marked=marked)


def draw(page: pypdfium2.PdfPage, width: int, highlight: str | None, limits: Limits) -> tuple[Image.Image, bool]:
    """The page, `width` pixels wide or as wide as MOST_PIXELS allow, and whether the passage was found on it."""
    page_width, page_height = page.get_size()
    scale = min(width / page_width, (MOST_PIXELS / (page_width * page_height)) ** 0.5)
    bitmap = page.render(scale=scale)
    image = bitmap.to_pil().convert("RGB")
    boxes = _lines(_boxes(page, bitmap, highlight, limits)) if highlight else []
    for box in boxes:
        _mark(image, box)
    return image, bool(boxes)


def _boxes(page: pypdfium2.PdfPage, bitmap: pypdfium2.PdfBitmap, passage: str, limits: Limits) -> Iterator[Box]:
    """Where the passage stands, in reading order, one or more boxes a line."""
    text = page.get_textpage()
    # One by one: a string of the whole page leaves characters out, and its indices are then not pdfium's.
    length = min(text.count_chars(), limits.page_characters)
    characters = [chr(pdfium.FPDFText_GetUnicode(text, index)) for index in range(length)]
    found = locate(characters, passage)
    if found is None:
        return
    place = bitmap.get_posconv(page)
    for index in range(min(text.count_rects(found.start, len(found)), _MOST_BOXES)):
        left, bottom, right, top = text.get_rect(index)
        xs, ys = zip(place.to_bitmap(left, bottom), place.to_bitmap(right, top))
        yield min(xs) - 1, min(ys) - 1, max(xs) + 1, max(ys) + 1


def _lines(boxes: Iterable[Box]) -> list[Box]:
    """The boxes of one line as one: pdfium begins a new one at each change of font and some blanks."""
    lines: list[Box] = []
    for left, top, right, bottom in boxes:
        if lines:
            before = lines[-1]
            height = max(bottom - top, before[3] - before[1])
            if min(bottom, before[3]) - max(top, before[1]) > height / 2 and abs(left - before[2]) < height:
                lines[-1] = (before[0], min(top, before[1]), right, max(bottom, before[3]))
                continue
        lines.append((left, top, right, bottom))
    return lines


def _mark(image: Image.Image, box: Box) -> None:
    """A text marker over the box, with a line around it for those who see no yellow."""
    left, top, right, bottom = box
    box = (max(0, left), max(0, top), min(image.width, right), min(image.height, bottom))
    if box[0] >= box[2] or box[1] >= box[3]:
        return
    under = image.crop(box)
    image.paste(ImageChops.multiply(under, Image.new("RGB", under.size, _YELLOW)), box[:2])
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=_AMBER)
