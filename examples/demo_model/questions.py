"""Questions about what a document says, and their answers."""

from collections.abc import Callable, Iterator

import numpy as np

from examples.demo_model import wordings
from examples.demo_model.corpus import Corpus
from examples.demo_model.tokenizer import ANSWER, QUESTION, PieceEncoder

SHORTEST_ANSWER, LONGEST_ANSWER = 8, 40  # words


def ask(question: str) -> str:
    return QUESTION + question + ANSWER


def pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def fact_turn(rng: np.random.Generator, name: Callable, phrase: Callable) -> tuple[str, tuple[str, str]]:
    said = {"v": pick(rng, ("do", "see", "eat", "find")), "w": name(rng).capitalize(), "q": phrase(rng)}
    sentence = wordings.FACT_SENTENCE.format(**said)
    return sentence, (wordings.FACT_QUESTION.format(**said), sentence)


class QuoteAsker:
    """Asks for passages of a document of `words` (numbers of the corpus), typographic quotes or not."""

    def __init__(self, corpus: Corpus, encode: PieceEncoder, absent: float, words: np.ndarray, curly: bool):
        self.corpus, self.encode, self.absent, self.words, self.curly = corpus, encode, absent, words, curly

    def turns(self, rng: np.random.Generator, count: int) -> Iterator[tuple]:
        """`count` pairs of (question tokens, answer tokens), one after another as in a chat."""
        end = None
        for _ in range(count):
            if end is not None and end < len(self.words) - SHORTEST_ANSWER and rng.random() < 0.25:
                begin = go_on = end
                question = self.encode(ask(pick(rng, wordings.MORE_QUESTIONS)))
            elif rng.random() < self.absent:
                yield self._absent(rng)
                continue
            else:
                quoted = self._quoted(rng, self.words)
                if quoted is None:
                    return
                whole = rng.random() < 0.4
                question = self._question(rng, self.words[slice(*quoted)], whole)
                begin, go_on = quoted[0] if whole else quoted[1], quoted[1]
            end = answer_end(self.corpus.ends[self.words], go_on)
            yield question, self.corpus.quote(self.words[begin:end], leading_space=True, curly=self.curly)

    def _quoted(self, rng: np.random.Generator, words: np.ndarray) -> tuple[int, int] | None:
        """Where words [begin, end) are fit to be quoted, with room for an answer behind them."""
        for _ in range(8):
            size = int(rng.integers(3, 10))
            if len(words) < size + SHORTEST_ANSWER + 1:
                return None
            begin = int(rng.integers(len(words) - size - SHORTEST_ANSWER))
            if self.corpus.quotable[words[begin : begin + size]].all():
                return begin, begin + size
        return None

    def _question(self, rng: np.random.Generator, words: np.ndarray, whole: bool) -> np.ndarray:
        template = pick(rng, wordings.WHOLE_QUESTIONS if whole else wordings.NEXT_QUESTIONS)
        before, after = ask(template).split("{q}")
        curly, last = self.curly and rng.random() < 0.5, int(words[-1])
        quoted = self.corpus.quote(words, leading_space=False, curly=curly)
        trimmed = self.corpus.trimmed(last)
        if trimmed != self.corpus.vocabulary[last] and rng.random() < 0.6:
            head = self.corpus.quote(words[:-1], leading_space=False, curly=curly)
            quoted = np.concatenate([head, self.encode(" " + trimmed)])
        return np.concatenate([self.encode(before), quoted, self.encode(after)])

    def _absent(self, rng: np.random.Generator) -> tuple:
        """Words from anywhere in the corpus; that they stand in the document as well happens hardly ever."""
        quoted = None
        while quoted is None:
            start = int(rng.integers(max(1, len(self.corpus) - 1000)))
            quoted = self._quoted(rng, self.corpus.words[start : start + 1000])
        words = self.corpus.words[start + quoted[0] : start + quoted[1]]
        return self._question(rng, words, bool(rng.integers(2))), self.encode(" " + wordings.NO_PASSAGE)


def answer_end(ends: np.ndarray, begin: int) -> int:
    """Where an answer that goes on at word `begin` stops: a sentence end (`ends`), or LONGEST_ANSWER words."""
    limit = min(begin + LONGEST_ANSWER, len(ends))
    found = np.flatnonzero(ends[begin + SHORTEST_ANSWER - 1 : limit])
    return begin + SHORTEST_ANSWER + int(found[0]) if len(found) else limit
