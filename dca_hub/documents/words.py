"""Words as citations compare them, in every script: folded characters, tokens with their spans, stems and numbers.

Scripts that put no blanks between words (Han, Kana, Thai, Lao, Khmer, Burmese), and Hangul, whose particles stick to
the noun, are compared by pairs of neighboring characters, as search engines do.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
# Vowel signs of the Indic scripts are marks, which \w leaves out: without them each syllable would be a word.
_MARKS = "".join(c for c in map(chr, range(0x300, 0x1D00)) if unicodedata.category(c)[0] == "M")
# Marks that people leave out when they write: accents, Hebrew points, Arabic short vowels. Indic vowel signs stay.
_OPTIONAL_MARK = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670\u06d6-\u06ed]")
_LETTER = rf"[^\W_{UNSPACED}]"
_NUMBER = r"\d+(?:[.,]\d+)*"
# A number, a run of an unspaced script, or a word; a version such as v4.0 is one word.
_TOKEN = re.compile(rf"{_NUMBER}|[{UNSPACED}]+|{_LETTER}+(?:(?<=\d)\.\d+)*(?:[{_MARKS}]+{_LETTER}*)*")
_UNSPACED_RUN = re.compile(f"[{UNSPACED}]+")
_BEFORE_WORD, _AFTER_WORD = rf"(?<!{_LETTER})(?<![{_MARKS}])", rf"(?!{_LETTER})(?![{_MARKS}])"

_ENGLISH = (
    "a about after all also an and any are as at be because been before being both but by can cannot could did do does "
    "don done each for from had has have he her here hers him himself his how i if in into is it its itself just like "
    "may me might more most much must my no nor not now of off on once only or other our out over own s same say says "
    "said shall she should so some such t than that the their them then there these they this those through to too "
    "under until up upon us very was we were what when where which while who whom why will with would yes yet you your "
    "answer based context document know page pages pdf provided question text"
)
_OTHERS = (
    # German, Dutch, French, Spanish, Portuguese, Italian: what any two texts share.
    "der die das den dem des ein eine einer eines und oder ist sind war waren wird werden wurde nicht mit von zu zum "
    "zur auf im bei aus nach fur uber als auch sich es sie er wir ihr man het een van niet voor zijn le la les un une "
    "du et ou est sont etait dans sur pour par avec pas ne que qui ce cette il elle ils on au aux se el los las una "
    "y o es son era fue en por para con del al su sus lo que no si mas os as um uma e do da dos das no na nos nas foi "
    "com em gli il della delle dei di che per non sono e nel nella "
    # Russian and Ukrainian, Greek, Arabic, Hebrew, Hindi.
    "и в во на не что с со как а по к из у за от о об для это был была было были он она они его ее их та що до "
    "και το η ο τα οι της του των στο στη με για απο ειναι που "
    "في من على الى عن مع هذا هذه التي الذي ان كان كانت هو هي و ما لا "
    "של את על עם הוא היא זה זו לא כי אם גם או יש היה היתה אל מן "
    "है हैं था थी थे के का की को में से पर और ने यह वह एक कि भी"
)
# Pairs of characters that hold one of these say little: particles, copulas, endings.
_PARTICLES = frozenset("的了是在和与與及也就都而之為为個个这這那的はがをにへとのもでやし은는이가을를에의도로와과")
_NUMBER_WORDS = {
    word: str(value)
    for words, values in (
        ("two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen", range(2, 16)),
        ("sixteen seventeen eighteen nineteen", range(16, 20)),
        ("twenty thirty forty fifty sixty seventy eighty ninety", range(20, 100, 10)),
    )
    for word, value in zip(words.split(), values)
}
_DAYS = "monday tuesday wednesday thursday friday saturday sunday"
_MONTHS = "january february april june july august september october november december"  # may and march mean more
_NAMED_DAYS = frozenset(f"{_DAYS} {_MONTHS}".split())
_SUFFIXES = ("ations", "ation", "ings", "ing", "ies", "ied", "edly", "ed", "es", "ly", "s", "e", "y")
_ARABIC_ARTICLE = re.compile("^[وفبلك]{0,2}(?:ال|لل)(?=..)|^[وفبلك](?=...)")
_HEBREW_PREFIX = re.compile("^[והבלמשכ](?=[א-ת]{2})")


class _Folding(dict[int, str]):
    """Code point -> what it is compared by; filled as characters turn up."""

    def __missing__(self, code: int) -> str:
        folded = self[code] = _fold_character(chr(code))
        return folded


def _fold_character(character: str) -> str:
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    category = unicodedata.category(character)
    if category == "No":  # a footnote's ¹ must not lengthen the number before it
        return " "
    if category == "Cf" or character == "ـ":  # soft hyphens, joiners, the Arabic lengthening stroke
        return ""
    decomposed = _OPTIONAL_MARK.sub("", unicodedata.normalize("NFKD", character))
    return unicodedata.normalize("NFC", decomposed).casefold()


_FOLDING = _Folding()
_NON_ASCII = re.compile("[^\x00-\x7f]+")


def fold(text: str) -> str:
    """`text` with small letters, compatible forms, ASCII digits, and without accents and invisible characters."""
    return text.lower() if text.isascii() else _NON_ASCII.sub(lambda match: match[0].translate(_FOLDING), text.lower())


def fold_with_origins(text: str) -> tuple[str, Sequence[int]]:
    """`fold(text)`, and for each of its characters the index in `text` that it comes from."""
    if text.isascii():
        return text.lower(), range(len(text))
    pieces = [_FOLDING[ord(character)] for character in text]
    return "".join(pieces), [index for index, piece in enumerate(pieces) for _ in piece]


FUNCTION_WORDS = frozenset((_ENGLISH + " " + fold(_OTHERS)).split())


class Token(NamedTuple):
    """A word, number, or pair of characters of an unspaced script, and its span in the text."""

    word: str
    start: int
    stop: int


def tokens_of(text: str) -> list[Token]:
    """The tokens of `text`; numbers in canonical form, so that 1,240 equals 1240."""
    folded, origins = fold_with_origins(text)
    return [Token(word, origins[start], origins[stop - 1] + 1) for word, start, stop in _folded_tokens(folded)]


def words_of(text: str) -> list[str]:
    return [token[0] for token in _folded_tokens(fold(text))]


def _folded_tokens(folded: str) -> Iterator[tuple[str, int, int]]:
    for match in _TOKEN.finditer(folded):
        word, start = match[0], match.start()
        if word[0].isdigit():
            yield canonical_number(word), start, match.end()
        elif len(word) > 1 and _UNSPACED_RUN.fullmatch(word, 0, 1):
            for index in range(len(word) - 1):
                yield word[index : index + 2], start + index, start + index + 2
        else:
            yield word, start, match.end()


def is_number(word: str) -> bool:
    return word[0].isdigit()


def is_exact(word: str) -> bool:
    """Whether an answer that says this word is wrong where the page says another: numbers, days and months."""
    return is_number(word) or word in _NAMED_DAYS


def canonical_number(number: str) -> str:
    """1,240 and 1.240 as 1240, 3,5 as 3.5, 3.50 as 3.5; dates and versions (three parts that are no thousands) stay."""
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", number):
        number = number.replace(",", "")
    elif re.fullmatch(r"[1-9]\d{0,2}(?:\.\d{3})+(?:,\d+)?", number):
        number = number.replace(".", "").replace(",", ".")
    elif number.count(",") == 1 and "." not in number:
        number = number.replace(",", ".")
    if number.count(".") == 1:
        number = number.rstrip("0").rstrip(".")
    return number


def tells(word: str) -> bool:
    """Whether sharing this word says anything: no function words, no single letters, no particles."""
    if _UNSPACED_RUN.match(word):
        return not _PARTICLES.intersection(word) and not all("\u3041" <= c <= "\u309f" for c in word)
    return word not in FUNCTION_WORDS and (len(word) > 1 or word.isdigit())


def key_of(word: str) -> str:
    """What makes two forms of a word equal: its stem, or the digits of a number word."""
    if word in _NUMBER_WORDS:
        return _NUMBER_WORDS[word]
    if is_number(word) or _UNSPACED_RUN.match(word):
        return word
    if word.isascii():
        return _english_stem(word)
    if "\u0590" <= word[0] <= "\u05ff":
        return _HEBREW_PREFIX.sub("", word)
    if "\u0600" <= word[0] <= "\u06ff":
        return _ARABIC_ARTICLE.sub("", word)
    return word if len(word) < 6 else word[: max(5, len(word) - 2)]  # case endings of Russian, Greek, German, Hindi


def _english_stem(word: str) -> str:
    for suffix in _SUFFIXES:
        stem = word.removesuffix(suffix)
        if stem == word or len(stem) < (3 if suffix == "s" else 4):
            continue
        if suffix == "s" and stem[-1] in "sui":  # class, status, analysis
            continue
        return stem
    return word


def holders(key: str, folded: list[str]) -> set[int]:
    """Indices of the folded texts that hold a word with this key."""
    if is_number(key):
        return _number_holders(key, folded)
    if _UNSPACED_RUN.match(key):
        return {index for index, text in enumerate(folded) if key in text}
    literal = re.escape(key)
    # The literal comes first and what stands before it is checked from behind: only so does `re` skip ahead quickly.
    before = "" if "\u0590" <= key[0] <= "\u06ff" else rf"(?<!{_LETTER}{literal})"
    search = re.compile(rf"{literal}{before}{_LETTER}*").finditer
    return {index for index, text in enumerate(folded) if key in text and _holds(key, text, search(text))}


def _holds(key: str, text: str, matches: Iterator[re.Match]) -> bool:
    for match in matches:
        start = match.start()
        while start and match.start() - start < 4 and text[start - 1].isalpha():  # Semitic prefixes
            start -= 1
        word = _TOKEN.match(text, start)
        if word and key_of(word[0]) == key:
            return True
    return False


def _number_holders(number: str, folded: list[str]) -> set[int]:
    digits = [digit for digit in number if digit.isdigit()]
    spelled = re.compile("[., ]?".join(digits) + r"0*(?!\d)").finditer
    found = {index for index, text in enumerate(folded) if any(_spells(number, match) for match in spelled(text))}
    words = [re.compile(rf"\b{word}\b").search for word, value in _NUMBER_WORDS.items() if value == number]
    return found | {index for index, text in enumerate(folded) if any(search(text) for search in words)}


def _spells(number: str, match: re.Match) -> bool:
    text, start = match.string, match.start()
    if start and (text[start - 1].isdigit() or (text[start - 1] in ".," and text[max(0, start - 2)].isdigit())):
        return False
    whole = _TOKEN.match(text, start)
    return canonical_number(whole[0]) == number or canonical_number(match[0].replace(" ", ",")) == number
