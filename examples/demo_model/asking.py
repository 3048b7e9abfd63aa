"""How surely a model gives a hidden number back, over the measured wordings: asked for, and gone on to."""

import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dca_hub.evaluation.grid import spread
from dca_hub.evaluation.passkey import ANSWER_ROOM, Haystack, Prompt, Wording, is_found
from examples.demo_model.questions import ask
from examples.demo_model.wordings import MEASURED, MEASURED_NUMBERS, Measured

FORMS = ("question", "continuation")
_ROOM = {"question": ANSWER_ROOM, "continuation": 10}  # tokens of an answer: a space, the digits, and what ends them
_SENTENCE_GAP = re.compile(r"(?<=[.!?]) (?=[A-Z])")


@dataclass(frozen=True)
class Trial:
    """One prompt and its answer. `wording` numbers MEASURED, `numbers` says whether the text had others."""

    wording: int
    form: str
    numbers: bool
    length: int
    depth: float
    key: str
    answer: str

    @property
    def found(self) -> bool:
        """Whether the first number of the answer is the key."""
        return is_found(self.key, self.answer)


@dataclass(frozen=True)
class Cell:
    """What is asked over and over: a wording in one form, over texts of one kind, at one length."""

    wording: int
    form: str
    numbers: bool
    length: int

    @property
    def said(self) -> Wording:
        measured: Measured = MEASURED[self.wording]
        asked = ask(measured.question) if self.form == "question" else f"\n\n{measured.continuation}"
        return Wording(measured.sentence, asked)


class Asker:
    """Asks `model` over prose, in batches of at most `tokens` tokens."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, tokens: int = 200_000):
        self._model, self.tokenizer, self._tokens = model, tokenizer, tokens
        self._texts = {False: Haystack(tokenizer, text), True: Haystack(tokenizer, with_numbers(text))}

    @property
    def haystack(self) -> Haystack:
        """The prose as it is."""
        return self._texts[False]

    def over(self, model: PreTrainedModel) -> "Asker":
        """The same questions to another model with the same tokenizer."""
        other = object.__new__(Asker)
        other.__dict__ = {**self.__dict__, "_model": model}
        return other

    def cells(
        self, lengths: Sequence[int], numbers: Sequence[bool] = (False, True), forms: Sequence[str] = FORMS
    ) -> list[Cell]:
        """Every measured wording at every length, short ones first."""
        return [
            Cell(wording, form, other, length)
            for length in lengths
            for other in numbers
            for form in forms
            for wording in range(len(MEASURED))
        ]

    def run(
        self, cells: Iterable[Cell], trials: int, seed: int = 0, progress: Callable[[int], None] | None = None
    ) -> Iterator[Trial]:
        """`trials` prompts of each cell, their depths evenly spread; `progress` is told how many are done at a time."""
        waiting: dict[tuple[int, str], list[tuple[Cell, Prompt]]] = {}
        for cell in cells:
            batch = waiting.setdefault((cell.length, cell.form), [])
            batch += [(cell, self._prompt(cell, depth, seed)) for depth in spread(trials)]
            size = max(1, self._tokens // cell.length)
            while len(batch) >= size:
                yield from self._asked(batch[:size], progress)
                del batch[:size]
        for batch in waiting.values():
            if batch:
                yield from self._asked(batch, progress)

    def _prompt(self, cell: Cell, depth: float, seed: int) -> Prompt:
        rng = random.Random(f"{seed} {cell} {depth}")
        return self._texts[cell.numbers].prompt(cell.length, depth, rng, cell.said)

    @torch.inference_mode()
    def _asked(self, batch: list[tuple[Cell, Prompt]], progress: Callable[[int], None] | None) -> Iterator[Trial]:
        # Prompts of one length are equally long: no padding.
        ids = torch.tensor([prompt.ids for _, prompt in batch], device=self._model.device)
        room, seen = _ROOM[batch[0][0].form], torch.ones_like(ids)
        out = self._model.generate(ids, attention_mask=seen, do_sample=False, max_new_tokens=room)
        answers = self.tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
        for (cell, prompt), answer in zip(batch, answers):
            yield Trial(cell.wording, cell.form, cell.numbers, cell.length, prompt.depth, prompt.key, answer.strip())
        if progress:
            progress(len(batch))


def with_numbers(text: str, words: int = 60, seed: int = 0) -> str:
    """`text` with a sentence that has another number in it about every `words` words."""
    rng, parts, since = random.Random(seed), [], 0
    for sentence in _SENTENCE_GAP.split(text):
        parts.append(sentence)
        since += sentence.count(" ") + 1
        if since > words * rng.uniform(0.5, 1.5):
            parts.append(rng.choice(MEASURED_NUMBERS).format(k=rng.randrange(10 ** rng.randint(1, 5))))
            since = 0
    return " ".join(parts)


def share(trials: Iterable[Trial]) -> float:
    """The share of `trials` that found the key."""
    found = [trial.found for trial in trials]
    return sum(found) / len(found)


def batch_tokens(device: str) -> int:
    """How many tokens a batch may have."""
    return 200_000 if device.startswith("cuda") else 16_384
