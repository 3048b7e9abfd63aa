"""A corpus as word numbers, so that any span can be laid out (hard-wrapped, curly quotes) and tokenised at once.

A word is what stands between white space. Its tokens depend only on whether a space stands before it (tokenizer.py),
so the tokens of every distinct word are looked up once, and a span of text becomes tokens by one gather.
"""

import re
from dataclasses import dataclass

import numpy as np

from examples.demo_model.tokenizer import PieceEncoder

# What stands before a word; NEWLINE and PARAGRAPH are also the number of line breaks.
SPACE, NEWLINE, PARAGRAPH, NOTHING = 0, 1, 2, 3
_WORD = re.compile(r"(\s*)(\S+)")
_LETTERS = re.compile(r"[^\W\d_]")
_TRAILING = re.compile(r"[^\w]+$")
_SENTENCE_END = re.compile(r"[.!?][\"')\]]*$")


@dataclass(frozen=True)
class Layout:
    """How a span is set: `width` characters a line (0: flowing), `paragraph` the separator between paragraphs."""

    width: int = 0
    paragraph: int = PARAGRAPH
    curly: bool = False


FLOWING = Layout()


class Corpus:
    """Books as an array of word numbers [n] with the separator before each word [n]."""

    def __init__(self, books: list[str], encode: PieceEncoder):
        numbers: dict[str, int] = {}
        self.words, self.seps = _number(books, numbers)
        for word in made_up(encode, min(60_000, len(numbers) // 4)):
            numbers.setdefault(word, len(numbers))
        self.vocabulary = list(numbers)
        vocabulary = self.vocabulary
        curly = [curly_quotes(word) for word in vocabulary]
        # Entry (2 * curly + spaced) * W + word; the last entry is one line break.
        forms = [*vocabulary, *(" " + w for w in vocabulary), *curly, *(" " + w for w in curly), "\n"]
        encoded = encode.many(forms)
        self._length = np.fromiter((len(e) for e in encoded), np.int32, len(encoded))
        self._start = np.concatenate([[0], np.cumsum(self._length)[:-1]]).astype(np.int32)
        self._flat = np.fromiter((t for e in encoded for t in e), np.int32, int(self._length.sum()))
        self._width = np.fromiter((len(w) + 1 for w in vocabulary), np.int32, len(vocabulary))
        self._trimmed = [_TRAILING.sub("", word) for word in vocabulary]
        self.names = np.fromiter((len(word) > 3 and word.isalpha() for word in self._trimmed), bool, len(vocabulary))
        self.quotable = np.fromiter((_quotable(w) for w in vocabulary), bool, len(vocabulary))
        self.ends = np.fromiter((bool(_SENTENCE_END.search(w)) for w in vocabulary), bool, len(vocabulary))
        spaced = self._length[len(vocabulary) + self.words] + self.seps
        self.cumulative = np.concatenate([[0], np.cumsum(spaced, dtype=np.int64)])

    def __len__(self) -> int:
        return len(self.words)

    def layout(self, a: int, b: int, style: Layout = FLOWING) -> np.ndarray:
        """The separators of words a..b under `style`, [b - a]."""
        seps = self.seps[a:b].copy()
        if style.width:
            line = np.cumsum(self._width[self.words[a:b]]) // style.width
            breaks = np.flatnonzero(np.diff(line)) + 1
            seps[breaks] = np.maximum(seps[breaks], NEWLINE)
        if style.paragraph != PARAGRAPH:
            seps[seps == PARAGRAPH] = style.paragraph
        return seps

    def render(self, words: np.ndarray, seps: np.ndarray, curly: bool = False) -> np.ndarray:
        """Tokens of `words`, each after its separator."""
        size = len(self.vocabulary)
        entries = (2 * curly + (seps == SPACE)) * size + words
        if seps.any():
            at = np.repeat(np.arange(len(seps)), np.where(seps == NOTHING, 0, seps))
            entries = np.insert(entries, at, 4 * size)
        length = self._length[entries]
        begin = np.repeat(self._start[entries] - np.cumsum(length) + length, length)
        return self._flat[begin + np.arange(len(begin))]

    def quote(self, words: np.ndarray, *, leading_space: bool, curly: bool = False) -> np.ndarray:
        """Tokens of `words` on one line, as they stand in a question or an answer."""
        seps = np.full(len(words), SPACE, np.uint8)
        if not leading_space:
            seps[:1] = NOTHING
        return self.render(words, seps, curly)

    def fit(self, a: int, tokens: int) -> int:
        """The largest b such that words a..b take at most `tokens` tokens when flowing."""
        return int(np.searchsorted(self.cumulative, self.cumulative[a] + tokens, side="right")) - 1

    def trimmed(self, word: int) -> str:
        """The word without the punctuation at its end."""
        return self._trimmed[word]


def _number(books: list[str], numbers: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    words, seps = [], []
    for book in books:
        found = _WORD.findall(book)
        number = np.fromiter((numbers.setdefault(w, len(numbers)) for _, w in found), np.int32, len(found))
        breaks = np.fromiter((min(gap.count("\n"), PARAGRAPH) for gap, _ in found), np.uint8, len(found))
        breaks[:1] = PARAGRAPH
        words.append(number)
        seps.append(breaks)
    return np.concatenate(words), np.concatenate(seps)


def made_up(encode: PieceEncoder, count: int) -> list[str]:
    """Words that no novel has: numbers, and pieces of words run together as in names, codes and technical terms."""
    rng = np.random.default_rng(0)
    pieces = [piece.strip() for piece in encode.pieces() if piece.strip().isalpha() and piece.isascii()]
    words = []
    for _ in range(count):
        kind = rng.random()
        if kind < 0.25:
            number = str(int(10 ** (6 * rng.random())))
            words.append(str(rng.choice(["{}", "{}.", "{},", "({})", "[{}]", "{}%", "0.{}", "{}:"])).format(number))
            continue
        parts = [pieces[int(k)] for k in rng.integers(len(pieces), size=int(rng.integers(1, 5)))]
        word = str(rng.choice(["", "", "", "-", "_", "/", "."])).join(parts)
        word = word.upper() if kind > 0.93 else word.capitalize() if kind > 0.8 else word
        words.append(word + str(rng.choice(["", "", "", "", ",", ".", ")", ":"])))
    return words


def curly_quotes(text: str) -> str:
    """Straight quotes turned into typographic ones."""
    text = re.sub(r"(^|[\s(\[-])\"", "\\1\u201c", text)
    text = re.sub(r"(^|[\s(\[\u201c-])'", "\\1\u2018", text)
    return text.replace('"', "\u201d").replace("'", "\u2019")


def _quotable(word: str) -> bool:
    return '"' not in word and bool(_LETTERS.search(word))
