"""Numbers hidden in a document: sentences that hold them, questions for them, and texts that go on to them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from examples.demo_model import wordings
from examples.demo_model.questions import pick

_JOINTS = (" of ", " for ", " to ")


@dataclass(frozen=True)
class Key:
    """One number: the sentence that hides it, a question and its answer, and a text that goes on to it."""

    digits: str
    sentence: str
    question: str
    answer: str
    continuation: str


@dataclass(frozen=True)
class Hidden:
    """What a document holds: sentences and numbers that are put in, and in which order the keys are asked for.

    absent: (question, answer) for a key that is not there, or None.
    """

    sentences: list[str]
    numbers: list[str]
    asked: list[Key]
    absent: tuple[str, str] | None


class KeyMaker:
    """Makes keys; `name` and `phrase` give random words of the corpus.

    Args:
        name: called with a generator, gives a word of letters.
        phrase: called with a generator, gives a few consecutive words.
    """

    def __init__(self, name: Callable, phrase: Callable):
        self._any_name, self._phrase = name, phrase

    def hidden(self, rng: np.random.Generator, absent: float) -> Hidden:
        """One to four keys, other statements with numbers, and numbers by themselves."""
        count = 1 if rng.random() < 0.55 else int(rng.integers(2, 5))
        nouns, keys = self._nouns(rng, count), []
        for noun in nouns:
            kind, number = rng.random(), digits(rng)
            if kind < 0.62:
                keys.append(self._named(rng, noun, number, alone=count == 1))
            else:
                keys.append(self._fact(rng, number) if kind < 0.88 else self._said(rng, number))
        known = [key.digits for key in keys]
        sentences = [key.sentence for key in keys]
        if rng.random() < 0.5:
            sentences += [self._other(rng, known) for _ in range(int(rng.integers(1, 5)))]
        numbers = []
        if rng.random() < 0.5:
            count = int(rng.integers(1, 13))
            numbers = [pick(rng, wordings.NUMBERS).format(k=other_digits(rng, known)) for _ in range(count)]
        missing = self._missing(rng, " ".join([*nouns, *sentences])) if rng.random() < absent else None
        rng.shuffle(keys)
        return Hidden(sentences, numbers, keys, missing)

    def _named(self, rng: np.random.Generator, noun: str, number: str, alone: bool) -> Key:
        options = wordings.ANY_KEY_QUESTIONS if alone and rng.random() < 0.08 else wordings.KEY_QUESTIONS
        question = cap(pick(rng, options).format(n=noun))
        return Key(
            number,
            key_sentence(pick(rng, wordings.KEY_SENTENCES), noun, number),
            question,
            wordings.KEY_ANSWER.format(n=noun, k=number),
            pick(rng, wordings.KEY_CONTINUATIONS).format(n=noun),
        )

    def _fact(self, rng: np.random.Generator, number: str) -> Key:
        sentence, questions, continuation = wordings.FACTS[int(rng.integers(len(wordings.FACTS)))]
        words = {"w": self._word(rng), "o": self._word(rng), "name": self._word(rng).capitalize()}
        question = pick(rng, questions).format(**words)
        continuation = continuation.format(**words)
        if rng.random() < 0.2:
            continuation = f"{question} {continuation}"
        answer = wordings.OTHER_ANSWER.format(k=number)
        return Key(number, sentence.format(k=number, **words), question, answer, continuation)

    def _said(self, rng: np.random.Generator, number: str) -> Key:
        """Words as they come, with the number at any place but the first."""
        while True:
            words = self._phrase(rng).split()
            named = [word for word in words if len(word) > 3 and word.isalpha()]
            if len(set(named)) > 1 and wordings.HELD_OUT.isdisjoint(word.lower() for word in words):
                break
        at = int(rng.integers(2, len(words) + 1))
        a, b = rng.choice(sorted(set(named)), 2, replace=False)
        sentence = cap(" ".join([*words[:at], number, *words[at:]])) + "."
        continuation = " ".join(words[max(0, at - int(rng.integers(2, 8))) : at])
        question = pick(rng, wordings.PHRASE_QUESTIONS).format(a=a, b=b)
        return Key(number, sentence, question, wordings.OTHER_ANSWER.format(k=number), continuation)

    def _other(self, rng: np.random.Generator, known: list[str]) -> str:
        """A statement that nobody asks for; its number may begin like a key."""
        number, kind = other_digits(rng, known), rng.random()
        if kind < 0.3:
            return pick(rng, wordings.DISTRACTORS).format(k=number)
        if kind < 0.65:
            return self._fact(rng, number).sentence
        return key_sentence(pick(rng, wordings.KEY_SENTENCES), self._random_noun(rng), number)

    def _nouns(self, rng: np.random.Generator, count: int) -> list[str]:
        """Different nouns: of the usual ones, such with "of the WORD" behind them, or any words."""
        kind = rng.random()
        if kind < 0.4:
            return [str(noun) for noun in rng.choice(wordings.KEY_NOUNS, count, replace=False)]
        if kind < 0.7:
            noun, same_head = pick(rng, wordings.KEY_NOUNS), rng.random() < 0.6
            found = {self._tailed(rng, noun if same_head else pick(rng, wordings.KEY_NOUNS)) for _ in range(count)}
        else:
            found = {self._random_noun(rng) for _ in range(count)}
        return sorted(found)

    def _tailed(self, rng: np.random.Generator, head: str) -> str:
        joint = pick(rng, (" of the ", " of the ", " for the ", " to the ", " of ", " for "))
        word = self._word(rng)
        return head + joint + (word if joint.endswith("the ") else word.capitalize())

    def _random_noun(self, rng: np.random.Generator) -> str:
        words = " ".join(self._word(rng) for _ in range(1 if rng.random() < 0.6 else 2))
        return self._tailed(rng, words) if rng.random() < 0.4 else words

    def _word(self, rng: np.random.Generator) -> str:
        while True:
            word = self._any_name(rng).lower()
            if word not in wordings.HELD_OUT:
                return word

    def _missing(self, rng: np.random.Generator, there: str) -> tuple[str, str] | None:
        """The question for a noun that none of the words that are there could be meant by."""
        taken = there.lower()
        for _ in range(8):
            noun = pick(rng, wordings.KEY_NOUNS) if rng.random() < 0.5 else self._random_noun(rng)
            words = [word for word in noun.replace("pass", "").split() if len(word) > 3 or word in ("key",)]
            if words and not any(word.lower() in taken for word in words):
                question = cap(pick(rng, wordings.KEY_QUESTIONS).format(n=noun))
                return question, wordings.NO_KEY.format(n=noun)
        return None


def digits(rng: np.random.Generator) -> str:
    """Mostly five digits, as the test has them."""
    size = 5 if rng.random() < 0.7 else int(rng.integers(3, 9))
    return "".join(str(d) for d in rng.integers(0, 10, size))


def other_digits(rng: np.random.Generator, known: list[str]) -> str:
    """Digits that are none of `known`, though they may begin or end as one of them."""
    while True:
        made = digits(rng) if rng.random() < 0.6 else "".join(str(d) for d in rng.integers(0, 10, rng.integers(1, 5)))
        if known and rng.random() < 0.35:
            like, kept = pick(rng, tuple(known)), int(rng.integers(1, 4))
            made = like[:kept] + made[kept:] if rng.random() < 0.6 else made[:-kept] + like[-kept:]
        if made not in known:
            return made


def key_sentence(template: str, noun: str, key: str) -> str:
    """The template with its noun in the singular and the plural: "codes of the well"."""
    cuts = [noun.index(joint) for joint in _JOINTS if joint in noun]
    head = noun[: min(cuts)] if cuts else noun
    return cap(template.format(n=noun, ns=f"{head}s{noun[len(head) :]}", k=key))


def cap(text: str) -> str:
    return text[:1].upper() + text[1:] if text[:1].islower() and not text.startswith("what") else text
