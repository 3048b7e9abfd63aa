"""Questions and their answers about a document."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from dca_hub.demo import wordings
from dca_hub.demo.corpus import Corpus
from dca_hub.demo.tokenizer import ANSWER, QUESTION, PieceEncoder

SHORTEST_ANSWER, LONGEST_ANSWER = 8, 40  # words


def ask(question: str) -> str:
    return QUESTION + question + ANSWER


@dataclass(frozen=True)
class KeyTurns:
    insertions: list[str]
    asked: list[tuple[str, str]]


def pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def digits(rng: np.random.Generator) -> str:
    """Mostly five digits, as the test has them."""
    size = 5 if rng.random() < 0.75 else int(rng.integers(3, 9))
    return "".join(str(d) for d in rng.integers(0, 10, size))


def key_turns(rng: np.random.Generator, name: Callable, absent: float) -> KeyTurns:
    """One to three keys under different nouns, other numbers, and questions in random order."""
    count = 1 if rng.random() < 0.6 else int(rng.integers(2, 4))
    nouns = _nouns(rng, count, name)
    keys = {noun: digits(rng) for noun in nouns}
    insertions = [key_sentence(pick(rng, wordings.KEY_SENTENCES), n, k) for n, k in keys.items()]
    if rng.random() < 0.4:
        insertions += [pick(rng, wordings.DISTRACTORS).format(k=digits(rng)) for _ in range(int(rng.integers(1, 4)))]
    asked = [_key_question(rng, n, k, alone=count == 1) for n, k in keys.items()]
    if rng.random() < absent:
        missing = _missing(rng, nouns, name)
        question = _cap(pick(rng, wordings.KEY_QUESTIONS).format(n=missing))
        asked.append((question, wordings.NO_KEY.format(n=missing)))
    rng.shuffle(asked)
    return KeyTurns(insertions, [tuple(one) for one in asked])


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


def _key_question(rng: np.random.Generator, noun: str, key: str, alone: bool) -> tuple[str, str]:
    options = wordings.ANY_KEY_QUESTIONS if alone and rng.random() < 0.12 else wordings.KEY_QUESTIONS
    return _cap(pick(rng, options).format(n=noun)), wordings.KEY_ANSWER.format(n=noun, k=key)


def key_sentence(template: str, noun: str, key: str) -> str:
    head, sep, rest = noun.partition(" for ")
    return _cap(template.format(n=noun, ns=f"{head}s{sep}{rest}", k=key))


def _nouns(rng: np.random.Generator, count: int, name: Callable) -> list[str]:
    """Different nouns; now and then of the kind "magic number for WORD"."""
    if rng.random() < 0.25:
        noun = pick(rng, wordings.KEY_NOUNS)
        return [f"{noun} for {name(rng)}" for _ in range(count)]
    return [str(noun) for noun in rng.choice(wordings.KEY_NOUNS, count, replace=False)]


def _missing(rng: np.random.Generator, nouns: list[str], name: Callable) -> str:
    """A noun that none of `nouns` could be taken for."""
    if " for " in nouns[0]:
        return f"{nouns[0].partition(' for ')[0]} for {name(rng)}"
    kinds = [kind for kind in ("key", "code", "number", "password") if not any(noun.endswith(kind) for noun in nouns)]
    others = [noun for noun in wordings.KEY_NOUNS if noun.endswith(tuple(kinds))]
    return pick(rng, tuple(others) or (f"key for {name(rng)}",))


def _cap(text: str) -> str:
    return text[:1].upper() + text[1:] if text[:1].islower() and not text.startswith("what") else text
