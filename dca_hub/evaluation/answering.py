"""Answers of a model to the requests of lm-evaluation-harness: greedy text, and the likelihood of given words."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dca_hub import thoughts
from dca_hub.control_tokens import ControlTokens, encode
from dca_hub.evaluation.cutting import cut, unmarked
from dca_hub.generation import PIECE, PromptCache, Sampling, decode
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

    def words(self, text: str) -> str:
        return self._controls.defused(text)

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
    request = replace(request, context=reader.safe(request.context), continuation=reader.words(request.continuation))
    if request.kind == "generate_until":
        return _generate(cache, reader, request, length, progress)
    return _likelihood(cache, reader, request, length, progress)


def _generate(cache: PromptCache, reader: Reader, request: Request, length: int, progress) -> dict[str, Any]:
    thinks = reader.chat and reader.prompter.thinks
    room = request.room + (min(thoughts.ROOM, length // 4) if thinks else 0)
    found = cut(reader.tokenizer, request.context, length - room, special=reader.special(request.context))
    until = request.options.get("until") or []
    stops = [until] if isinstance(until, str) else until
    total = len(found.ids) + room  # what is written counts too: long answers take longer than their prompts
    _read(cache, found.ids, total, progress)

    def said(tokens: list[int]) -> str:
        text = decode(cache.model, reader.tokenizer, tokens)
        return thoughts.separate(text, reader.prompter.opens_thoughts).answer if thinks else text

    def is_enough(so_far: list[int]) -> bool:
        if progress:
            progress(len(found.ids) + len(so_far), total)
        return _end(said(so_far), stops) is not None

    written = cache.generate(found.ids, Sampling(room), is_enough=is_enough)
    cache.keep(len(found.ids) - 1)  # what was written is no part of another prompt
    text = said(written)
    return {"answer": text[: _end(text, stops)], "cut": found.removed}


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
