"""The prompts of the pass-key test: a five-digit number in a sentence, hidden in a long text, and the question for it.

After Mohtashami and Jaggi, "Landmark Attention", arXiv 2305.16300, with prose in place of their repeated filler.
"""

import random
import re
from dataclasses import dataclass
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from dca_hub.errors import DcaHubError

ANSWER_ROOM = 24  # tokens of the length that are left to the answer
_SENTENCE_END = re.compile(r"[.!?][\"')\u201d\u2019]*$")


@dataclass(frozen=True)
class Wording:
    """How the key is hidden and asked for; `{key}` stands for the digits, `{name}` for whose key it is."""

    sentence: str = "The pass key is {key}. Remember it. {key} is the pass key."
    question: str = "\n\nQuestion: What is the pass key?\nAnswer:"


NAMED = Wording(
    "The pass key of {name} is {key}. Remember it. {key} is the pass key of {name}.",
    "\n\nQuestion: What is the pass key of {name}?\nAnswer:",
)
NAMES = (
    *("Amsterdam", "Athens", "Bergen", "Berlin", "Bombay", "Boston", "Cairo", "Chicago", "Delhi", "Dublin", "Florence"),
    *("Geneva", "Havana", "Lima", "Lisbon", "London", "Madrid", "Milan", "Moscow", "Naples", "Oslo", "Paris", "Prague"),
    *("Quebec", "Rome", "Sydney", "Tokyo", "Venice", "Vienna", "Warsaw", "York", "Zurich"),
)


@dataclass(frozen=True)
class Prompt:
    """A prompt's token ids, the key in it, and where: 0 is the beginning of the text, 1 its end."""

    ids: list[int]
    key: str
    depth: float


class Maker(Protocol):
    """What prompts are cut out of."""

    tokenizer: PreTrainedTokenizerBase

    def prompt(self, length: int, depth: float, rng: random.Random, wording: Wording = ...) -> Prompt: ...


def is_found(key: str, answer: str) -> bool:
    """Whether the first number of the answer is the key."""
    number = re.search(r"\d+", answer)
    return number is not None and number.group() == key


class Haystack:
    """Prose as tokens, out of which prompts of an exact length are cut.

    With several `needles` the prompt holds that many keys, each somebody's: the one that is asked for at its depth,
    the others at sentence ends anywhere.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, text: str, needles: int = 1):
        if not 1 <= needles <= len(NAMES):
            raise DcaHubError(f"A prompt can hold 1 to {len(NAMES)} needles, not {needles}.")
        self.tokenizer, self.needles = tokenizer, needles
        self.ids = _encode(tokenizer, text)
        pieces = tokenizer.convert_ids_to_tokens(self.ids)
        self.ends = [i + 1 for i, piece in enumerate(pieces) if _SENTENCE_END.search(piece)]
        if not self.ends:
            raise DcaHubError("The text for the pass-key test has no sentence in it; give ordinary prose.")

    def prompt(self, length: int, depth: float, rng: random.Random, wording: Wording = Wording()) -> Prompt:
        """A prompt that leaves ANSWER_ROOM of `length` tokens; the key stands at the sentence end next to `depth`.

        Raises DcaHubError when the text is too short, or the length too small to hold the question.
        """
        keys, names = [str(rng.randrange(10_000, 100_000))], [""]
        if self.needles > 1:
            keys = [str(key) for key in rng.sample(range(10_000, 100_000), self.needles)]
            names, wording = rng.sample(NAMES, self.needles), NAMED if wording == Wording() else wording
        needles = [self._needle(wording, key, name) for key, name in zip(keys, names)]
        question = _encode(self.tokenizer, wording.question.format(name=names[0]))
        first = [self.tokenizer.bos_token_id] if self.tokenizer.bos_token_id is not None else []
        room = length - ANSWER_ROOM - len(first) - sum(map(len, needles)) - len(question)
        if room < 0:
            raise DcaHubError(f"{length} tokens are too few for a pass-key prompt; give at least {length - room}.")
        prose, ends = self._cut(room, rng)
        ends = (0, *ends, room)
        at = [min(ends, key=lambda end: abs(end - depth * room)), *(rng.choice(ends) for _ in needles[1:])]
        for place, needle in sorted(zip(at, needles), key=lambda one: one[0], reverse=True):
            prose = [*prose[:place], *needle, *prose[place:]]
        return Prompt([*first, *prose, *question], keys[0], depth)

    def _needle(self, wording: Wording, key: str, name: str) -> list[int]:
        return _encode(self.tokenizer, " " + wording.sentence.format(key=key, name=name))

    def _cut(self, room: int, rng: random.Random) -> tuple[list[int], list[int]]:
        starts = [end for end in (0, *self.ends) if end + room <= len(self.ids)]
        if not starts:
            raise DcaHubError(f"The text has {len(self.ids)} tokens, {room} are needed; give a longer one.")
        start = rng.choice(starts)
        return self.ids[start : start + room], [end - start for end in self.ends if start < end < start + room]


class Pairs:
    """Keys and values as a JSON object, one of which is asked for (Liu et al., "Lost in the Middle", arXiv 2307.03172),
    in numbers, which every tokenizer writes alike: keys of eight digits, values of five."""

    _TASK = "Extract the value of the given key from the JSON object below.\n\n{"
    _PAIR = '"{name}": "{key}",\n'

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer

    def prompt(self, length: int, depth: float, rng: random.Random, wording: Wording = Wording()) -> Prompt:
        """A prompt of as many pairs as leave ANSWER_ROOM of `length` tokens, the one asked for at `depth` of them.

        Raises DcaHubError when there is no room for one.
        """
        key, name = str(rng.randrange(10_000, 100_000)), str(rng.randrange(10**7, 10**8))
        asked = _encode(self.tokenizer, self._PAIR.format(name=name, key=key))
        first = [self.tokenizer.bos_token_id] if self.tokenizer.bos_token_id is not None else []
        head = [*first, *_encode(self.tokenizer, self._TASK)]
        question = _encode(self.tokenizer, f'}}\n\nKey: "{name}"\nCorresponding value: "')
        room = length - ANSWER_ROOM - len(head) - len(asked) - len(question)
        if room < 0:
            raise DcaHubError(f"{length} tokens are too few for a key-value prompt; give at least {length - room}.")
        others: list[list[int]] = []
        while True:
            pair = self._PAIR.format(name=rng.randrange(10**7, 10**8), key=rng.randrange(10_000, 100_000))
            ids = _encode(self.tokenizer, pair)
            if len(ids) > room:
                break
            others.append(ids)
            room -= len(ids)
        others.insert(round(depth * len(others)), asked)
        return Prompt([*head, *(token for ids in others for token in ids), *question], key, depth)


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)
