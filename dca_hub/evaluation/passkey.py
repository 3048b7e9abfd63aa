"""The pass-key test: a five-digit number in a sentence, hidden somewhere in long prose, and the question for it.

After Mohtashami and Jaggi, "Landmark Attention", arXiv 2305.16300, with prose in place of their repeated filler.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dca_hub.errors import UserError
from dca_hub.evaluation.prefill import continue_greedily, prefill, stop_tokens

ANSWER_ROOM = 24  # tokens of the length that are left to the answer
_SENTENCE_END = re.compile(r"[.!?][\"')\u201d\u2019]*$")


@dataclass(frozen=True)
class Wording:
    """How the key is hidden and asked for; `{key}` stands for the digits."""

    sentence: str = "The pass key is {key}. Remember it. {key} is the pass key."
    question: str = "\n\nQuestion: What is the pass key?\nAnswer:"


@dataclass(frozen=True)
class Prompt:
    """A prompt's token ids, the key in it, and where: 0 is the beginning of the text, 1 its end."""

    ids: list[int]
    key: str
    depth: float


@dataclass(frozen=True)
class Trial:
    """What a model answered to one prompt. `length` counts the room of the answer too."""

    length: int
    depth: float
    key: str
    answer: str

    @property
    def found(self) -> bool:
        """Whether the first number of the answer is the key."""
        number = re.search(r"\d+", self.answer)
        return number is not None and number.group() == self.key


class Haystack:
    """Prose as tokens, out of which prompts of an exact length are cut."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, text: str):
        self.tokenizer = tokenizer
        self.ids = _encode(tokenizer, text)
        pieces = tokenizer.convert_ids_to_tokens(self.ids)
        self.ends = [i + 1 for i, piece in enumerate(pieces) if _SENTENCE_END.search(piece)]
        if not self.ends:
            raise UserError("The text for the pass-key test has no sentence in it; give ordinary prose.")

    def prompt(self, length: int, depth: float, rng: random.Random, wording: Wording = Wording()) -> Prompt:
        """A prompt that leaves ANSWER_ROOM of `length` tokens; the key stands at the sentence end next to `depth`.

        Raises UserError when the text is too short, or the length too small to hold the question.
        """
        key = str(rng.randrange(10_000, 100_000))
        needle = _encode(self.tokenizer, " " + wording.sentence.format(key=key))
        question = _encode(self.tokenizer, wording.question)
        first = [self.tokenizer.bos_token_id] if self.tokenizer.bos_token_id is not None else []
        room = length - ANSWER_ROOM - len(first) - len(needle) - len(question)
        if room < 0:
            raise UserError(f"{length} tokens are too few for a pass-key prompt; give at least {length - room}.")
        prose, ends = self._cut(room, rng)
        place = min((0, *ends, room), key=lambda end: abs(end - depth * room))
        return Prompt([*first, *prose[:place], *needle, *prose[place:], *question], key, depth)

    def _cut(self, room: int, rng: random.Random) -> tuple[list[int], list[int]]:
        starts = [end for end in (0, *self.ends) if end + room <= len(self.ids)]
        if not starts:
            raise UserError(f"The text has {len(self.ids)} tokens, {room} are needed; give a longer one.")
        start = rng.choice(starts)
        return self.ids[start : start + room], [end - start for end in self.ends if start < end < start + room]


def ask(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: Prompt, length: int) -> Trial:
    """One greedy answer. The question is read last, behind the cached text, as a chat does it."""
    logits, cache = prefill(model, prompt.ids)
    answer = continue_greedily(model, logits, cache, ANSWER_ROOM, stop_tokens(model))
    return Trial(length, prompt.depth, prompt.key, tokenizer.decode(answer, skip_special_tokens=True))


def run(
    model: PreTrainedModel,
    haystack: Haystack,
    lengths: list[int],
    depths: list[float],
    *,
    wordings: tuple[Wording, ...] = (Wording(),),
    tries: int = 1,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Trial]:
    """Every length with every depth, `tries` times, each in another place of the text; wordings take turns.

    The prompts depend on the seed, the length and the depth alone, so two models are asked the same.
    """
    cells = [(length, depth, t) for length in lengths for depth in depths for t in range(tries)]
    for done, (length, depth, t) in enumerate(cells):
        rng = random.Random(f"{seed} {length} {depth} {t}")
        prompt = haystack.prompt(length, depth, rng, wordings[done % len(wordings)])
        yield ask(model, haystack.tokenizer, prompt, length)
        if progress:
            progress(done + 1, len(cells))


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)
