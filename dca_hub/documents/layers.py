"""Optional content: layers of a page that a viewer does not show at first."""

import ctypes
import re
from collections.abc import Callable

import pypdfium2
import pypdfium2.raw as pdfium

_LINE = re.compile(r"\S.*")
_MOST_BYTES = 512  # of a layer's name


def shown_indices(text: pypdfium2.PdfTextPage, whole: str, hidden: Callable[[], frozenset[str]]) -> list[bool] | None:
    """For each character of `whole`, the text of the page, whether its layer is shown; None where all are.

    hidden: the names of the layers that are off; called only for a page that has layers.
    """
    layers: dict[int, str | None] = {}

    def layer_at(index: int) -> str | None:
        item = pdfium.FPDFText_GetTextObject(text, pdfium.FPDFText_GetCharIndexFromTextIndex(text, index))
        key = ctypes.cast(item, ctypes.c_void_p).value or 0
        if key not in layers:
            layers[key] = _layer_of(item) if item else None
        return layers[key]

    if not any(layer_at(line.start()) for line in _LINE.finditer(whole)):
        return None
    off = hidden()
    return [layer_at(index) not in off for index in range(len(whole))] if off else None


def _layer_of(item: pdfium.FPDF_PAGEOBJECT) -> str | None:
    for number in range(pdfium.FPDFPageObj_CountMarks(item)):
        mark = pdfium.FPDFPageObj_GetMark(item, number)
        if _text(lambda buffer, size, out, mark=mark: pdfium.FPDFPageObjMark_GetName(mark, buffer, size, out)) == "OC":
            return _text(
                lambda buffer, size, out, mark=mark: pdfium.FPDFPageObjMark_GetParamStringValue(
                    mark, b"Name", buffer, size, out
                )
            )
    return None


def _text(get: Callable[..., int]) -> str:
    """A string that pdfium writes into a buffer, in UTF-16 with a zero behind it."""
    buffer = (pdfium.FPDF_WCHAR * (_MOST_BYTES // 2))()
    size = ctypes.c_ulong()
    if not get(buffer, _MOST_BYTES, ctypes.byref(size)):
        return ""
    return bytes(buffer)[: max(0, size.value - 2)].decode("utf-16-le", "replace")
