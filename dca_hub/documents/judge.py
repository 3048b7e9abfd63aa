"""Which of two readings of a page is more like language, and whether a reading is like language at all."""

import re
import unicodedata

from dca_hub.documents.text import KNOWN_PRIVATE

_SAMPLE = 20_000  # characters that are judged
_SUSPECT, GARBAGE = 0.06, 0.4
_WORD = re.compile(r"[^\W\d_]+")
# What a font's broken table leaves behind: names of glyphs, and what is no character.
_GLYPH_NAME = re.compile(r"/(?:uni[0-9A-F]{4}|[A-Z][0-9A-F]{1,3}|g\d+|[a-z]+\.[a-z]+)(?=/|\s|\Z)|\(cid:\d+\)")
_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd\ufffe\uffff\ue000-\uf8ff]")
_HYPHENS = re.compile("[\x02\ufffe\u00ad]")  # at the ends of lines, as pdfium and pypdf write them
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_SPACED = re.compile("[A-Za-z\u00c0-\u052f\u0590-\u06ff]+")  # scripts that put blanks between words
_ONE_LETTER_WORDS = frozenset("aAiIoOyYeEàÀéuUвВиИкКсСоОуУяЯאו")
_LONGEST_WORD = 24
_FEW_WORDS = 4
_LONG_WORDS_MEAN = 9.5
_LETTERS_OF_SCRIPT = {
    "LATIN": "latin", "CYRILLIC": "cyrillic", "GREEK": "greek", "ARABIC": "arabic", "HEBREW": "hebrew",
    "DEVANAGARI": "devanagari", "KANNADA": "kannada", "THAI": "thai", "ARMENIAN": "armenian", "GEORGIAN": "georgian",
}  # fmt: skip


def badness(text: str) -> float:
    """0 for what reads like language, towards 1 for what does not; 0 for no text."""
    text = text[:_SAMPLE]
    words = _WORD.findall(text)
    plain = _HYPHENS.sub("", text.translate(KNOWN_PRIVATE))
    unmapped = len(_NO_TEXT.findall(plain)) + sum(map(len, _GLYPH_NAME.findall(plain)))
    if not words:
        return 1.0 if unmapped > _FEW_WORDS else 0.0
    letters = sum(map(len, words))
    spaced = [word for word in words if _SPACED.fullmatch(word)]
    penalty = 2 * unmapped / (letters + unmapped)
    penalty += sum(len(word) for word in words if _mixes_scripts(word)) / letters
    if spaced:
        penalty += _single(text) + _glued(spaced)
    return min(1.0, penalty + _doubled(text))


def _single(text: str) -> float:
    """The share of letters that stand between blanks: `P a t i e n t`, `Nort h`. Formulas put signs beside theirs."""
    words = [word for word in text.split() if _SPACED.search(word)]
    alone = [word.rstrip(".,;:") for word in words]
    single = sum(len(word) == 1 and word not in _ONE_LETTER_WORDS for word in alone)
    every = sum(len(word) == 1 for word in alone)
    count = len(words) + _FEW_WORDS  # one formula is most of a short page
    return max(0.0, single / count - 0.08) + max(0.0, every / count - 0.4)


def _glued(words: list[str]) -> float:
    """How far words are longer than any language's: `Thecommitteeapproved`."""
    letters = sum(map(len, words))
    long = sum(len(word) for word in words if len(word) > _LONGEST_WORD) / letters
    mean = letters / len(words)
    return long + (max(0.0, mean - _LONG_WORDS_MEAN) / 20 if len(words) > 20 else 0.0)


def _mixes_scripts(word: str) -> bool:
    if word.isascii():
        return False
    scripts = {_LETTERS_OF_SCRIPT.get(unicodedata.name(letter, " ").split(" ")[0]) for letter in word}
    return len(scripts - {None}) > 1


def _doubled(text: str) -> float:
    """The share of lines that say everything twice, as bold by striking twice is read: `48 EUR48 EUR`."""
    lines = [line.strip() for line in text.splitlines() if len(line.strip()) > 5]
    twice = sum(len(line) % 2 == 0 and line[: len(line) // 2] == line[len(line) // 2 :] for line in lines)
    return twice / len(lines) if lines else 0.0


def is_right_to_left(text: str) -> bool:
    """Whether a tenth of the letters belongs to a script that runs from right to left."""
    letters = sum(map(len, _WORD.findall(text[:_SAMPLE])))
    return len(_RIGHT_TO_LEFT.findall(text[:_SAMPLE])) > max(1, letters) / 10


def is_suspect(text: str) -> bool:
    """Whether a second reading is worth its time."""
    return badness(text) > _SUSPECT


def prefers_second(first: str, second: str, rotated: bool = False) -> bool:
    """Whether pypdf's reading, `second`, is to be taken in place of pdfium's, `first`.

    pdfium puts right-to-left lines in order, which pypdf does not. Where the two hold the same letters and read equally
    well, pypdf's is taken for rotated text, whose lines it keeps apart.
    """
    if not first.strip() or not second.strip():
        return bool(second.strip())
    if is_right_to_left(first) or is_right_to_left(second):
        return False
    ours, theirs = badness(first), badness(second)
    letters, others = (sum(map(str.isalnum, text)) for text in (first, second))
    if others < 0.8 * letters and ours <= GARBAGE:  # form fields, which pypdf does not read, and other losses
        return False
    if abs(ours - theirs) > _SUSPECT:
        return theirs < ours
    return others >= 0.95 * letters and (rotated or others > 1.3 * letters)
