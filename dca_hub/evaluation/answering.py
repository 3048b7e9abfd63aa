"""Answers of a model to the requests of lm-evaluation-harness: greedy text, and the likelihood of given words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dca_hub import thoughts
from dca_hub.control_tokens import ControlTokens, encode
from dca_hub.evaluation.cutting import cut, unmarked
from dca_hub.generation import PIECE, PromptCache, Sampling, decode, generate_together
from dca_hub.progress import OnProgress
from dca_hub.prompts import Prompter

_USUAL_ROOM = 256  # tokens of an answer where a task says nothing


@dataclass(frozen=True)
class Request:
    """One request: `kind` is generate_until or loglikelihood, `context` the prompt, `continuation` the words whose
    likelihood is wanted, `options` a task's generation settings."""

    kind: str
    context: str
    continuation: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def room(self) -> int:
        return int(self.options.get("max_gen_toks", self.options.get("max_new_tokens", _USUAL_ROOM)))


@dataclass(frozen=True)
class Reader:
    """How prompts become tokens. `chat` says that they are in a chat format, which begins the text itself; the messages
    in it have been defused before."""

    tokenizer: PreTrainedTokenizerBase
    chat: bool

    def safe(self, text: str) -> str:
        """A task's own words, of which none becomes a control token."""
        return text if self.chat else self._controls.defused(text)

    @cached_property
    def prompter(self) -> Prompter:
        return Prompter(self.tokenizer)

    @property
    def thinks(self) -> bool:
        return self.chat and self.prompter.thinks

    def words(self, text: str) -> str:
        return self._controls.defused(text)

    def made_safe(self, request: Request) -> Request:
        return replace(request, context=self.safe(request.context), continuation=self.words(request.continuation))

    @cached_property
    def _controls(self) -> ControlTokens:
        return ControlTokens(self.tokenizer)

    def special(self, text: str) -> bool:
        begins = self.tokenizer.bos_token
        return not self.chat and not (begins and text.startswith(begins))


def answer(
    model: PreTrainedModel,
    reader: Reader,
    request: Request,
    length: int,
    progress: OnProgress | None = None,
    cache: PromptCache | None = None,
) -> dict[str, Any]:
    """What a sample holds: `answer`, or `logprob` and `greedy`; and `cut`, the tokens that were cut off the prompt.

    The prompt and its answer together have at most `length` tokens. `cache` is one of this model that answered another
    request: of a prompt that begins alike, such as another question about one document, the rest alone is read.
    """
    cache = cache or PromptCache(model)
    request = reader.made_safe(request)
    if request.kind == "generate_until":
        return _generate(cache, reader, request, length, progress)
    return _likelihood(cache, reader, request, length, progress)


@dataclass(frozen=True)
class _Asked:
    """A prompt to be written on to: how many tokens were cut off it, the room of its answer, and where that stops."""

    reader: Reader
    ids: list[int]
    removed: int
    room: int
    stops: Sequence[str]

    @classmethod
    def of(cls, reader: Reader, request: Request, length: int) -> "_Asked":
        room = request.room + (min(thoughts.ROOM, length // 4) if reader.thinks else 0)
        found = cut(reader.tokenizer, request.context, length - room, special=reader.special(request.context))
        until = request.options.get("until") or []
        return cls(reader, found.ids, found.removed, room, [until] if isinstance(until, str) else until)

    def said(self, model: PreTrainedModel, tokens: list[int]) -> str:
        text = decode(model, self.reader.tokenizer, tokens)
        return thoughts.separate(text, self.reader.prompter.opens_thoughts).answer if self.reader.thinks else text

    def is_enough(self, model: PreTrainedModel, so_far: list[int]) -> bool:
        return len(so_far) >= self.room or _end(self.said(model, so_far), self.stops) is not None

    def sample(self, model: PreTrainedModel, written: list[int]) -> dict[str, Any]:
        text = self.said(model, written)
        return {"answer": text[: _end(text, self.stops)], "cut": self.removed}


def answer_together(
    model: PreTrainedModel,
    reader: Reader,
    requests: Sequence[Request],
    length: int,
    progress: OnProgress | None = None,
) -> list[dict[str, Any]]:
    """The samples of several requests that ask for text, read and answered in one batch."""
    asked = [_Asked.of(reader, reader.made_safe(request), length) for request in requests]
    room, longest = max(one.room for one in asked), max(len(one.ids) for one in asked)

    def ends(one: _Asked) -> Callable[[list[int]], bool]:
        def is_enough(so_far: list[int]) -> bool:
            if progress:
                progress(longest + len(so_far), longest + room)
            return one.is_enough(model, so_far)

        return is_enough

    tell = (lambda done, of: progress(done, of + room)) if progress else None
    ids, enough = [one.ids for one in asked], [ends(one) for one in asked]
    rows = generate_together(model, ids, Sampling(room), piece=PIECE, are_enough=enough, progress=tell)
    return [one.sample(model, row) for one, row in zip(asked, rows, strict=True)]


def _generate(cache: PromptCache, reader: Reader, request: Request, length: int, progress) -> dict[str, Any]:
    asked = _Asked.of(reader, request, length)
    total = len(asked.ids) + asked.room  # what is written counts too: long answers take longer than their prompts
    _read(cache, asked.ids, total, progress)

    def is_enough(so_far: list[int]) -> bool:
        if progress:
            progress(len(asked.ids) + len(so_far), total)
        return asked.is_enough(cache.model, so_far)

    written = cache.generate(asked.ids, Sampling(asked.room), is_enough=is_enough)
    cache.keep(len(asked.ids) - 1)  # what was written is no part of another prompt
    return asked.sample(cache.model, written)


def _end(text: str, stops: Sequence[str]) -> int | None:
    """Where the first of the stop strings begins in a text."""
    return min((text.find(stop) for stop in stops if stop and stop in text), default=None)


def _read(cache: PromptCache, ids: list[int], total: int, progress: OnProgress | None) -> None:
    for done in cache.read(ids, PIECE, whole_pieces=True):
        if progress:
            progress(done, total)


@torch.inference_mode()
def _likelihood(cache: PromptCache, reader: Reader, request: Request, length: int, progress) -> dict[str, Any]:
    tokenizer, context = reader.tokenizer, request.context
    spaces = len(context) - len(context.rstrip())  # a space belongs to the words that follow it
    context, words = context[: len(context) - spaces], context[len(context) - spaces :] + request.continuation
    special = reader.special(context)
    whole = encode(tokenizer, unmarked(context) + words, opening=special)
    before = encode(tokenizer, unmarked(context), opening=special)
    wanted = whole[len(before) :]
    found = cut(tokenizer, context, length - len(wanted), special=special)
    _read(cache, found.ids, len(found.ids), progress)
    logits = cache.forward([found.ids[-1], *wanted[:-1]], logits_to_keep=0)
    scores = F.log_softmax(logits.float(), dim=-1)
    at = torch.tensor(wanted, device=scores.device)
    total = scores.gather(1, at[:, None]).sum().item()
    return {"logprob": total, "greedy": bool((scores.argmax(-1) == at).all()), "cut": found.removed}
