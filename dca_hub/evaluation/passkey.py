"""The prompts of the pass-key test: a five-digit number in a sentence, hidden in a long text, and the question for it.

After Mohtashami and Jaggi, "Landmark Attention", arXiv 2305.16300, whose filler is the haystack called grass. A prompt
is laid out in one of three styles: `plain`, a text and a question; `authors`, their task description, their question,
and the answer begun; `chat`, the same in the model's chat format, the beginning of the answer as the assistant's. What
is begun so tells a model that cannot find the key from one that has been asked in words that it does not follow.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from dca_hub.control_tokens import ControlTokens, encode, opening_tokens
from dca_hub.errors import DcaHubError, Fix
from dca_hub.evaluation.grid import Style
from dca_hub.evaluation.prompting import in_chat_format
from dca_hub.prompts import Prompter

ANSWER_ROOM = 24  # tokens of the length that are left to the answer
_SENTENCE_END = re.compile(
    r"[.!?][\"')\]\u201d\u2019]*(?=\s|$)|[\u3002\uff01\uff1f\uff0e\u2026][\u300d\u300f\u201d\u2019\uff09]*"
)
_THOUSANDS = re.compile(r"(?<=\d)[,.'\u2019_ \u00a0\u202f](?=\d{3}(?!\d))")
_ANSWER = "\nAnswer:"  # what a plain prompt ends with; a chat format begins the answer itself


@dataclass(frozen=True)
class Wording:
    """How the key is hidden and asked for; `{key}` stands for the digits, `{name}` for whose key it is.

    `task` stands before the haystack, `before` and `after` around the sentence, `question` behind the haystack, and
    `begun` is how the answer begins in a chat format; models that think first begin it themselves.
    """

    sentence: str = "The pass key is {key}. Remember it. {key} is the pass key."
    question: str = f"\n\nQuestion: What is the pass key?{_ANSWER}"
    task: str = ""
    before: str = " "
    after: str = ""
    begun: str = ""


NAMED = Wording(
    "The pass key of {name} is {key}. Remember it. {key} is the pass key of {name}.",
    f"\n\nQuestion: What is the pass key of {{name}}?{_ANSWER}",
)
_TASK = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. I will quiz you "
    "about the important information there.\n"
)
AUTHORS = Wording(
    question="\nWhat is the pass key? The pass key is", task=_TASK, before="\n", after="\n",
)  # fmt: skip
AUTHORS_NAMED = Wording(
    NAMED.sentence, "\nWhat is the pass key of {name}? The pass key of {name} is", _TASK, "\n", "\n"
)
CHAT = Wording(question="\nWhat is the pass key?", task=_TASK, before="\n", after="\n", begun="The pass key is")
CHAT_NAMED = Wording(
    NAMED.sentence, "\nWhat is the pass key of {name}?", _TASK, "\n", "\n", "The pass key of {name} is"
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
    style: Style

    def prompt(self, length: int, depth: float, rng: random.Random, wording: Wording = ...) -> Prompt: ...


def is_found(key: str, answer: str) -> bool:
    """Whether the first number in the answer that has as many digits as the key is the key; "71,432" is one number."""
    numbers = re.findall(r"\d+", _THOUSANDS.sub("", answer))
    return next((number for number in numbers if len(number) == len(key)), None) == key


def usual_wording(tokenizer: PreTrainedTokenizerBase, style: Style, needles: int) -> Wording:
    """How a key is hidden and asked for in that style. A chat format without roles is a text and a question too."""
    one, named = Wording(), NAMED
    if style == "authors":
        one, named = AUTHORS, AUTHORS_NAMED
    elif style == "chat" and not Prompter(tokenizer).has_no_roles:
        one, named = CHAT, CHAT_NAMED
    return one if needles == 1 else named


class Haystack:
    """Prose as tokens, out of which prompts of an exact length are cut.

    With several `needles` the prompt holds that many keys, each somebody's: the one that is asked for at its depth,
    the others at sentence ends anywhere.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, text: str, needles: int = 1, style: Style = "plain"):
        if not 1 <= needles <= len(NAMES):
            raise DcaHubError(f"A prompt can hold 1 to {len(NAMES)} needles, not {needles}.")
        self.tokenizer, self.needles, self.style = tokenizer, needles, style
        self.ids, self.ends = _with_ends(tokenizer, ControlTokens(tokenizer).spaced(text))
        if not self.ends:
            raise DcaHubError("The haystack must contain sentences: give ordinary prose.")

    def prompt(self, length: int, depth: float, rng: random.Random, wording: Wording | None = None) -> Prompt:
        """A prompt that leaves ANSWER_ROOM of `length` tokens; the key stands at the sentence end next to `depth`.

        Raises DcaHubError when the text is too short, or the length too small to hold the question.
        """
        keys, names = [str(rng.randrange(10_000, 100_000))], [""]
        if self.needles > 1:
            keys = [str(key) for key in rng.sample(range(10_000, 100_000), self.needles)]
            names = rng.sample(NAMES, self.needles)
        wording = wording or usual_wording(self.tokenizer, self.style, self.needles)
        needles = [self._needle(wording, key, name) for key, name in zip(keys, names, strict=True)]
        head, tail = _around(
            self.tokenizer,
            self.style,
            wording.task,
            wording.question.format(name=names[0]),
            wording.begun.format(name=names[0]),
        )
        room = length - ANSWER_ROOM - len(head) - sum(map(len, needles)) - len(tail)
        if room < 0:
            raise DcaHubError(f"{length} tokens are too few for a pass-key prompt: give at least {length - room}.")
        prose, ends = self._cut(room, rng)
        ends = (0, *ends, room)
        at = [min(ends, key=lambda end: abs(end - depth * room)), *(rng.choice(ends) for _ in needles[1:])]
        for position, needle in sorted(zip(at, needles, strict=True), key=lambda one: one[0], reverse=True):
            prose = [*prose[:position], *needle, *prose[position:]]
        return Prompt([*head, *prose, *tail], keys[0], depth)

    def _needle(self, wording: Wording, key: str, name: str) -> list[int]:
        sentence = wording.before + wording.sentence.format(key=key, name=name) + wording.after
        return encode(self.tokenizer, sentence)

    def _cut(self, room: int, rng: random.Random) -> tuple[list[int], list[int]]:
        starts = [end for end in (0, *self.ends) if end + room <= len(self.ids)]
        if not starts:
            raise DcaHubError(f"The text has {len(self.ids)} tokens, {room} are needed: give a longer one.")
        start = 0 if self.style == "authors" else rng.choice(starts)
        return self.ids[start : start + room], [end - start for end in self.ends if start < end < start + room]


class Pairs:
    """Keys and values as a JSON object, one of which is asked for (Liu et al., "Lost in the Middle", arXiv 2307.03172),
    in numbers, which every tokenizer writes alike: keys of eight digits, values of five."""

    _TASK = "Extract the value of the given key from the JSON object below.\n\n{"
    _PAIR = '"{name}": "{key}",\n'

    def __init__(self, tokenizer: PreTrainedTokenizerBase, style: Style = "plain"):
        if style == "authors":
            raise DcaHubError(
                "The authors have no test with key-value pairs",
                Fix("choose another {}", "style"),
                Fix("choose another {}", "haystack"),
            )
        self.tokenizer, self.style = tokenizer, style

    def prompt(self, length: int, depth: float, rng: random.Random, wording: Wording | None = None) -> Prompt:
        """A prompt of as many pairs as leave ANSWER_ROOM of `length` tokens, the one asked for at `depth` of them.

        Raises DcaHubError when there is no room for one.
        """
        key, name = str(rng.randrange(10_000, 100_000)), str(rng.randrange(10**7, 10**8))
        asked = encode(self.tokenizer, self._PAIR.format(name=name, key=key))
        begun = "" if self.style == "chat" else ' "'
        question = f'}}\n\nKey: "{name}"\nCorresponding value:{begun}'
        head, tail = _around(self.tokenizer, self.style, self._TASK, question)
        room = length - ANSWER_ROOM - len(head) - len(asked) - len(tail)
        if room < 0:
            raise DcaHubError(f"{length} tokens are too few for a key-value prompt: give at least {length - room}.")
        others: list[list[int]] = []
        while True:
            pair = self._PAIR.format(name=rng.randrange(10**7, 10**8), key=rng.randrange(10_000, 100_000))
            ids = encode(self.tokenizer, pair)
            if len(ids) > room:
                break
            others.append(ids)
            room -= len(ids)
        others.insert(round(depth * len(others)), asked)
        return Prompt([*head, *(token for ids in others for token in ids), *tail], key, depth)


def _around(
    tokenizer: PreTrainedTokenizerBase, style: Style, task: str, question: str, begun: str = ""
) -> tuple[list[int], list[int]]:
    """The token ids before and behind a haystack."""
    if style == "chat":
        head, tail = in_chat_format(tokenizer, task, question.removesuffix(_ANSWER))
        begins = begun and not Prompter(tokenizer).thinks
        return head, [*tail, *encode(tokenizer, begun)] if begins else tail
    return [*opening_tokens(tokenizer), *encode(tokenizer, task)], encode(tokenizer, question)


def _with_ends(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], list[int]]:
    """A text as token ids, and after how many of them a sentence ends; a phrase, in scripts that write no full stop."""
    if not tokenizer.is_fast:
        ids = encode(tokenizer, text)
        pieces = tokenizer.convert_ids_to_tokens(ids)
        return ids, [at + 1 for at, piece in enumerate(pieces) if _SENTENCE_END.search(piece)]
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    spans = found["offset_mapping"]
    return found["input_ids"], _ends(spans, _SENTENCE_END, text) or _ends(spans, re.compile(r"\S(?=\s)"), text)


def _ends(spans: Sequence[tuple[int, int]], pattern: re.Pattern, text: str) -> list[int]:
    ends = {match.end() for match in pattern.finditer(text)}
    following = [start for start, _ in spans[1:]] + [len(text)]
    # Tokens that are bytes of one character all span it: the character ends with the last of them.
    return [at + 1 for at, (_, stop) in enumerate(spans) if stop in ends and following[at] >= stop]
