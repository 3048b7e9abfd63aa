"""Training rows of the demo model: prose, recall, and questions about a document.

A row is (tokens [T] int32, weights [T] float32): the weight of predicting each token; 0 where it cannot be known.
"""

from dataclasses import dataclass, field

import numpy as np

from examples.demo_model import questions
from examples.demo_model.corpus import FLOWING, NEWLINE, NOTHING, PARAGRAPH, Corpus, Layout
from examples.demo_model.keys import Key, KeyMaker
from examples.demo_model.tokenizer import PieceEncoder

ANSWER_WEIGHT = 2.0
CONTINUED = 0.4  # share of the documents with keys that a text follows instead of questions
TOKENS_A_TURN = 62  # of a quote; a turn that does not fit is cut
SAME_BOOK = 12_000  # words to either side that are most likely of the same book


@dataclass
class Row:
    """A row under construction."""

    room: int
    tokens: list[np.ndarray] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)

    def add(self, tokens, weight: float = 1.0) -> None:
        tokens = np.asarray(tokens, np.int32)[: max(self.room, 0)]
        self.tokens.append(tokens)
        self.weights.append(np.full(len(tokens), weight, np.float32))
        self.room -= len(tokens)

    def finish(self, pad: int) -> tuple[np.ndarray, np.ndarray]:
        self.add(np.full(max(self.room, 0), pad), 0.0)
        return np.concatenate(self.tokens), np.concatenate(self.weights)


class RowMaker:
    """Makes rows of `length` tokens out of a corpus; every random choice comes from the generator that is passed."""

    def __init__(
        self,
        corpus: Corpus,
        encode: PieceEncoder,
        length: int,
        absent: float = 0.04,
        bos: float = 0.3,
        parted: float = 0.3,
        packed: float = 0.5,
        strange: float = 0.25,
    ):
        self.corpus, self.encode, self.length = corpus, encode, length
        self.absent, self.bos, self.parted, self.packed, self.strange = absent, bos, parted, packed, strange
        self._keys = KeyMaker(self._name, self._phrase)
        self._foreseen = np.ones(encode.size, np.float32)  # by token: digits put in cannot be foreseen
        self._foreseen[list(encode.digits.values())] = 0.0

    def make(self, kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        row = Row(self.length)
        if rng.random() < self.bos:
            row.add([self.encode.bos], 0.0)
        getattr(self, kind)(row, rng)
        return row.finish(self.encode.pad)

    def prose(self, row: Row, rng: np.random.Generator) -> None:
        """A window of a book, sometimes of several, laid out in one way or another, sometimes with page marks."""
        # Packed windows are mostly passages of one book from far apart: text that stands before is not always what
        # this text goes on from, as it is not when a much longer context is folded into the window's distances.
        packed = rng.random() < self.packed
        near = int(rng.integers(len(self.corpus) - self.length)) if packed and rng.random() < 0.7 else None
        while row.room > 0:
            a, b = self._span(rng, int(rng.integers(24, 320)) if packed else row.room, FLOWING, near)
            row.add(self._document(rng, a, self.corpus.words[a:b], random_layout(rng)))
            if rng.random() < self.parted:
                row.add([self.encode.bos], 0.0)
            else:
                row.add(self.encode("\n\n"))

    def recall(self, row: Row, rng: np.random.Generator) -> None:
        """Passages that come again later, at every distance that fits."""
        self._recall(row, rng, shortest=6, longest=60, again=0.5)

    def dense(self, row: Row, rng: np.random.Generator) -> None:
        """Short passages that come again soon and often: with these, induction forms within minutes."""
        self._recall(row, rng, shortest=3, longest=16, again=0.7)

    def key(self, row: Row, rng: np.random.Generator) -> None:
        """Numbers at random depths of a document, then questions for them or texts that go on to them."""
        hidden = self._keys.hidden(rng, self.absent)
        turns = [self._asked_for(key.question, key.answer) for key in hidden.asked]
        if rng.random() < CONTINUED:
            before = str(rng.choice([" ", "\n", "\n\n", "\n\n"]))
            turns = [self._gone_on_to(before, key) for key in hidden.asked]
        elif hidden.absent:
            turns.insert(int(rng.integers(len(turns) + 1)), self._asked_for(*hidden.absent))
        self._hide(row, rng, hidden.sentences, hidden.numbers, turns)

    def fact(self, row: Row, rng: np.random.Generator) -> None:
        """A made-up statement at a random depth, then the question for it."""
        insertion, asked = questions.fact_turn(rng, self._name, self._phrase)
        self._hide(row, rng, [insertion], [], [self._asked_for(*asked)])

    def quote(self, row: Row, rng: np.random.Generator) -> None:
        """A document, then words out of it: how does the passage go on?"""
        style = random_layout(rng)
        turns = int(rng.integers(1, 5))
        short = int(rng.random() < 0.3) * int(rng.integers(0, 150))
        a, b = self._span(rng, row.room - TOKENS_A_TURN * turns - short, style)
        words = self._strange(rng, a, b)
        row.add(self._document(rng, a, words, style))
        asker = questions.QuoteAsker(self.corpus, self.encode, self.absent, words, style.curly)
        for question, answer in asker.turns(rng, turns):
            self._take(row, [(question, 1.0), ([*answer, self.encode.eos], ANSWER_WEIGHT)])

    def _recall(self, row: Row, rng: np.random.Generator, shortest: int, longest: int, again: float) -> None:
        seen: list[tuple[np.ndarray, np.ndarray]] = []
        while row.room > 0:
            size = int(rng.integers(shortest, longest + 1))
            if seen and rng.random() < again:
                words, seps = seen[int(rng.integers(len(seen)))]
                start = int(rng.integers(max(1, len(words) - shortest)))
                words, seps = words[start : start + size], seps[start : start + size]
            else:
                words, seps = self._passage(rng, size)
                seen.append((words, seps))
            row.add(self.corpus.render(words, seps))

    def _passage(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Mostly prose; now and then rare words in no order, which can only be known by looking back."""
        corpus = self.corpus
        if rng.random() < 0.2:
            return rng.integers(len(corpus.vocabulary), size=size), np.zeros(size, np.uint8)
        a = int(rng.integers(len(corpus) - size))
        return corpus.words[a : a + size], corpus.layout(a, a + size)

    def _span(self, rng: np.random.Generator, tokens: int, style: Layout, near: int | None = None) -> tuple[int, int]:
        last = len(self.corpus) - self.length
        a = int(rng.integers(last))
        if near is not None:
            a = int(np.clip(near + rng.integers(-SAME_BOOK, SAME_BOOK), 0, last - 1))
        # Each line break costs a token, and the word behind it often one more.
        return a, self.corpus.fit(a, int(tokens / (1 + 7 / style.width)) if style.width else tokens)

    def _hide(self, row: Row, rng: np.random.Generator, sentences: list[str], numbers: list[str], turns: list) -> None:
        """A document with `sentences` between its own and `numbers` anywhere, then the turns."""
        inserted = [self._inserted(rng, text) for text in sentences]
        scattered = [self._unforeseen(" " + number) for number in numbers]
        taken = sum(len(tokens) for turn in turns for tokens, _ in turn)
        taken += sum(len(tokens) for tokens, _ in inserted + scattered)
        short = int(rng.random() < 0.3) * int(rng.integers(0, 350))
        style = random_layout(rng)
        a, b = self._span(rng, max(row.room - taken - short - 12, 8), style)
        words = self._strange(rng, a, b)
        places = [(_place(rng, self.corpus.ends[words]), *one) for one in inserted]
        places += [(int(rng.integers(len(words) + 1)), *one) for one in scattered]
        for tokens, weights in self._pieces(rng, a, words, style, places):
            row.add(tokens)
            if weights is not None:
                row.weights[-1] = weights[: len(row.tokens[-1])]
        for turn in turns:
            self._take(row, turn)

    def _take(self, row: Row, turn: list[tuple]) -> None:
        for tokens, weight in turn:
            row.add(tokens, weight)

    def _asked_for(self, question: str, answer: str) -> list[tuple]:
        asked = self.encode(questions.ask(question))
        return [(asked, 1.0), ([*self.encode(" " + answer), self.encode.eos], ANSWER_WEIGHT)]

    def _gone_on_to(self, before: str, key: Key) -> list[tuple]:
        # Nobody can know that the text will go on so, only what then follows.
        answer = self.encode(" " + key.digits)
        return [(self.encode(before + key.continuation), 0.0), (answer, ANSWER_WEIGHT), (self.encode("."), 1.0)]

    def _inserted(self, rng: np.random.Generator, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of a sentence put into the document, and weights: its digits cannot be foreseen."""
        return self._unforeseen(str(rng.choice([" ", " ", "\n", "\n\n"])) + text)

    def _unforeseen(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        tokens = np.array(self.encode(text), np.int32)
        return tokens, self._foreseen[tokens]

    def _strange(self, rng: np.random.Generator, a: int, b: int) -> np.ndarray:
        """The words a..b; in a part of the documents, with words of any kind in place of some of them.

        What stands in such a document can only be copied, not guessed, as in a text of a kind never seen.
        """
        words = self.corpus.words[a:b]
        if rng.random() >= self.strange:
            return words
        other = rng.random(len(words)) < rng.uniform(0.05, 0.6)
        return np.where(other, rng.integers(len(self.corpus.vocabulary), size=len(words)), words)

    def _document(self, rng: np.random.Generator, a: int, words: np.ndarray, style: Layout) -> np.ndarray:
        return np.concatenate([tokens for tokens, _ in self._pieces(rng, a, words, style, [])])

    def _pieces(self, rng: np.random.Generator, a: int, words: np.ndarray, style: Layout, places: list) -> list:
        """The document of `words`, laid out as those from word `a` on; `places` (word, tokens, weights) are put in."""
        corpus, seps = self.corpus, self.corpus.layout(a, a + len(words), style)
        seps[:1] = NOTHING
        after = NEWLINE if rng.random() < 0.6 else PARAGRAPH
        pieces, at = [], 0
        for place, tokens, weights in sorted([*places, *self._marks(rng, len(words))], key=lambda one: one[0]):
            pieces.append((corpus.render(words[at:place], seps[at:place], style.curly), None))
            pieces.append((tokens, weights))
            if weights is None and place < len(words):
                seps[place] = after
            at = place
        pieces.append((corpus.render(words[at:], seps[at:], style.curly), None))
        return pieces

    def _marks(self, rng: np.random.Generator, size: int) -> list:
        """Page marks on lines of their own, in half of the documents."""
        if rng.random() < 0.5 or size < 40:
            return []
        page = int(rng.integers(1, 400))
        places = np.sort(rng.integers(1, size, size=int(rng.integers(1, 5))))
        before = str(rng.choice(["\n", "\n\n"]))
        return [(int(w), np.array(self.encode(f"{before}[page {page + i}]")), None) for i, w in enumerate(places)]

    def _name(self, rng: np.random.Generator) -> str:
        """A random word of letters."""
        while True:
            word = int(self.corpus.words[rng.integers(len(self.corpus))])
            if self.corpus.names[word]:
                return self.corpus.trimmed(word)

    def _phrase(self, rng: np.random.Generator) -> str:
        a = int(rng.integers(len(self.corpus) - 20))
        words = self.corpus.words[a : a + int(rng.integers(4, 12))]
        return " ".join(self.corpus.trimmed(int(w)).replace('"', "") for w in words)


def random_layout(rng: np.random.Generator) -> Layout:
    """Half of the documents flow as in the books, the others break lines as text out of a PDF does."""
    curly = rng.random() < 0.12
    if rng.random() < 0.5:
        return Layout(curly=True) if curly else FLOWING
    return Layout(int(rng.integers(36, 110)), NEWLINE if rng.random() < 0.5 else PARAGRAPH, curly)


def _place(rng: np.random.Generator, ends: np.ndarray) -> int:
    """A word to stand before: mostly after a sentence end, and at the ends of the window more often than chance."""
    pull = rng.random()
    depth = rng.random() * 0.12 if pull < 0.2 else 1 - rng.random() * 0.08 if pull > 0.9 else rng.random()
    word = int(depth * len(ends))
    behind = np.flatnonzero(ends) + 1
    if len(behind) and rng.random() < 0.9:
        return int(behind[np.abs(behind - word).argmin()])
    return word
