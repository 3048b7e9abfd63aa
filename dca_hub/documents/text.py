"""The text of a page as a reader means it: cleaned characters, whole words, paragraphs on one line.

Everything is linear in the text: a page may be one "word" of 200,000 letters, so no pattern here begins with an
unbounded run and then asks for something behind it.
"""

import re
import unicodedata
from itertools import pairwise

# NFKC only where the compatible form says the same: typographic ligatures, Arabic and Hebrew presentation forms,
# CJK radicals, full- and half-width letters. Elsewhere it would turn x² into x2.
_PRESENTATION = re.compile(
    "[\u2e80-\u2fdf\uf900-\ufaff\ufb00-\ufdff\ufe70-\ufefe\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uffdc]"
)
# Controls, invisible marks, bidirectional overrides, private use and noncharacters. The joiners 200C and 200D stay:
# Persian and the Indic scripts spell with them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\ue000-\uf8ff\ufe00-\ufe0f\ufeff\ufff9-\ufffc\ufffe\uffff\U000f0000-\U0010ffff]"
)
_LINE_END = re.compile("\r\n|[\r\v\f\x85\u2028]")
_SOFT_HYPHEN_AT_LINE_END = re.compile("\xad *\n")
_BLANKS = re.compile(r"[^\S\n]+")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_LETTERS = re.compile(r"[^\W\d_]{1,40}")
_LETTERS_AT_END = re.compile(r"[^\W\d_]{2,40}\Z")
_HYPHEN_AT_LINE_END = re.compile("[-\u2010]\n")
# Scripts that put no blanks between words, and their commas: a line end within them is joined without one. Not Hangul.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3001-\u30ff\u3400-\u9fff\uf900-\ufaff\uff08-\uff0c]")
_APART = re.compile(r"(?<=[\u3001-\u30ff\u3400-\u9fff]) (?=[\u3001-\u30ff\u3400-\u9fff])")
_HAN = re.compile(r"[\u3001-\u30ff\u3400-\u9fff]")
# Behind a line that is a row of a table, until `unwrap`. Unicode keeps this code point for programs' own use.
ROW_END = "\ufdd0"
_LOOSE_ROW_END = re.compile(f"{ROW_END}(?!\n|\\Z)")
# Private code points whose meaning is known: bullets and the signs of the font Symbol, where word processors put them,
# and the small capitals of Adobe's glyph list. The letters of Symbol are left out, which other fonts have there too.
KNOWN_PRIVATE = {
    **dict.fromkeys((0xF0B7, 0xF0A7, 0xF0D8), "•"),
    **{0xF000 + ord(character): character for character in "()+,./0123456789:;<=>[]{|}"},
    **{0xF02D: "−", 0xF0B1: "±", 0xF0B4: "×", 0xF0B8: "÷", 0xF0A3: "≤", 0xF0B3: "≥", 0xF0B9: "≠", 0xF0BB: "≈"},
    **{0xF700 + ord(letter): letter for letter in "abcdefghijklmnopqrstuvwxyz"},
}


def clean(text: str) -> str:
    """One page's text without ligatures, control characters, lone surrogates, soft hyphens and runs of blanks."""
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
    text = _LINE_END.sub("\n", text.translate(KNOWN_PRIVATE)).replace("\u2029", "\n\n")
    text = _PRESENTATION.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    text = unicodedata.normalize("NFC", _UNSEEN.sub("", text))
    text = _BLANKS.sub(" ", text)
    text = _SOFT_HYPHEN_AT_LINE_END.sub("", text).replace("\xad", "")
    text = _LOOSE_ROW_END.sub("", re.sub(f" ?({ROW_END}?)\n ?", r"\1\n", text))
    text = re.sub("\n{3,}", "\n\n", text).strip()
    return "\n".join(map(_closed_up, text.split("\n"))) if _APART.search(text) else text


def _closed_up(line: str) -> str:
    """A line of Han or Kana set apart, without the blanks between them; a blank here and there is the author's."""
    return _APART.sub("", line) if len(_APART.findall(line)) > len(_HAN.findall(line)) / 2 else line


def join_hyphens(pages: list[str]) -> list[str]:
    """Words that a line end cut in two, made whole; the document itself is the dictionary.

    `exam-⏎ple` becomes `example`, unless the document writes `exam-ple` elsewhere, or knows both halves as words and
    never the whole (`well-⏎known` becomes `well-known`). Only before a small letter, so `Anglo-⏎Saxon` is left alone.
    """
    known: set[str] = set()
    for text in pages:
        known.update(word.lower() for word in _WORD.findall(_without_cut_words(text)))
    return [_join(text, known) for text in pages]


def _cuts(text: str):
    """(start of the hyphen, left half, right half) for each word that a line end seems to cut."""
    for match in _HYPHEN_AT_LINE_END.finditer(text):
        left = _LETTERS_AT_END.search(text[max(0, match.start() - 40) : match.start()])
        right = _LETTERS.match(text, match.end())
        if left and right and right[0][0].islower():
            yield match.start(), left[0], right[0]


def _without_cut_words(text: str) -> str:
    pieces, last = [], 0
    for hyphen, left, right in _cuts(text):
        pieces.append(text[last : max(last, hyphen - len(left))])
        last = hyphen + 2 + len(right)
    return " ".join([*pieces, text[last:]])


def _join(text: str, known: set[str]) -> str:
    pieces, last = [], 0
    for hyphen, left, right in _cuts(text):
        pieces.append(text[last:hyphen])
        pieces.append("-" if _keeps_hyphen(left.lower(), right.lower(), known) else "")
        last = hyphen + 2
    return "".join([*pieces, text[last:]])


def _keeps_hyphen(left: str, right: str, known: set[str]) -> bool:
    if left + right in known:
        return False
    return f"{left}-{right}" in known or (left in known and right in known)


def unwrap(text: str) -> str:
    """Lines that were only broken for want of room, joined; what ends early or ends a sentence keeps its line end.

    A line counts as full from three quarters of the page's usual full width (the 90th percentile), and is joined when
    it stops within a sentence and a word follows. Lists, headings and verse have short lines and stay, and so do rows
    of tables, which ROW_END marks; it is taken away.
    """
    lines = text.split("\n")
    widths = sorted(len(line) for line in lines if line)
    if len(widths) < 3:
        return text.replace(ROW_END, "")
    full = 0.75 * widths[int(0.9 * (len(widths) - 1))]
    joined = [lines[0]]
    for before, line in pairwise(lines):
        if len(before) >= full and len(before) >= _shortest_full(before) and _runs_on(before, line):
            joined[-1] = _with_space(joined[-1], line)
        else:
            joined.append(line)
    return "\n".join(joined).replace(ROW_END, "")


def _shortest_full(line: str) -> int:
    """Characters that a line broken for want of room has at least: columns of a table are narrower than prose."""
    return 8 if _UNSPACED.match(line[-1]) else 16


def _runs_on(before: str, after: str) -> bool:
    if not before or not after or ROW_END in (before[-1], after[-1]):
        return False
    if _UNSPACED.match(after[0]) and before[-1] not in "。！？：；":
        return bool(_UNSPACED.match(before[-1]))
    return after[0].islower() or ((before[-1].isalpha() or before[-1] in ",;—") and after[0].isalpha())


def _with_space(before: str, after: str) -> str:
    unspaced = _UNSPACED.match(before[-1]) and _UNSPACED.match(after[0])
    return before + after if unspaced or before.endswith(("-", "—")) else f"{before} {after}"
