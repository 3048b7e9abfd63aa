"""Reading a prompt in pieces into a cache, and generating from there: the one loop behind every answer of the product.

transformers' own `generate` writes the tokens, so that an answer is the one that a user of the model would get, its
generation config included (end tokens, repetition penalty). What is added here is the prompt: it is read in pieces,
which bounds memory and keeps Stop within reach, and what is cached is not read again.
"""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from dca_hub.compat import with_cache
from dca_hub.devices import shares_work
from dca_hub.modeling.dual_chunk_cache import GrowingCache

PIECE = 2048  # tokens a forward pass, where every machine must compute the same
_FIRST_PIECE, _LEAST_PIECE, _MOST_PIECE = 256, 64, 8192  # tokens, where a person may press Stop
_PIECE_SECONDS = 1.0  # how soon Stop is heard; 0.4 took a third of the speed of a small model on a CPU with AMX
_ANSWER = 1024  # tokens behind a prompt that its cache has room for from the start


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn: greedily by default, else at a temperature, from the `top_p` share of likely tokens.
    `stop_repeats` ends an answer that has begun to repeat itself, where answers are streamed."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stop_repeats: bool = False

    def options(self) -> dict[str, Any]:
        """The arguments of `generate`."""
        if self.temperature <= 0:
            greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
            return {"max_new_tokens": self.max_new_tokens, **greedy}
        drawn = {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p}
        return {"max_new_tokens": self.max_new_tokens, **drawn}


GREEDY = Sampling()


class PromptCache:
    """A model's cache, and which tokens are in it.

    A prompt is read with `read` and answered with `generate`. Both keep what the cache shares with the prompt, so a
    document that several questions follow is read once. An error within a forward pass empties the cache, which may
    have reached some layers only.

    bits: of each cached number, 16 (the model's own dtype) or 8.
    offload: keep the cache in the host's memory, but for two layers.
    """

    def __init__(self, model: PreTrainedModel, bits: int = 16, offload: bool = False):
        self.model, self.bits, self.offload = model, bits, offload
        self.clear()

    def clear(self) -> None:
        self._cache = GrowingCache(config=self.model.config, bits=self.bits, offloading=self.offload)
        self.tokens = []

    def fork(self) -> "PromptCache":
        """A cache of its own that begins with the same tokens; the two share their memory until they grow, which makes
        new tensors and leaves the old ones as they are."""
        other = copy.copy(self)
        other.tokens, other._cache = list(self.tokens), copy.copy(self._cache)
        other._cache.layers = [copy.copy(layer) for layer in self._cache.layers]
        return other

    def missing(self, prompt: Sequence[int]) -> int:
        """How many tokens `read` would read."""
        return max(0, len(prompt) - 1 - self._common(prompt))

    def read(self, prompt: Sequence[int], piece: int | None = None, *, whole_pieces: bool = False) -> Iterator[int]:
        """Reads all of a prompt but its last token, with which `generate` begins.

        Args:
            piece: tokens a forward pass; by default as many as take about a second, or `PIECE` where other
                processes read along, whose clocks differ.
            whole_pieces: keep whole pieces of the cache only, so that the results do not depend, in their last bits,
                on what was read before.

        Yields how many tokens have been read after each piece. Closing the iterator stops the work there.
        """
        if piece is None and shares_work():
            piece = PIECE
        common = self._common(prompt)
        self.keep(common - common % piece if piece and whole_pieces else common)
        begin, end = len(self.tokens), len(prompt) - 1
        self._cache.reserve(end + _ANSWER)
        size = piece or _FIRST_PIECE
        while (at := len(self.tokens)) < end:
            started = time.monotonic()
            logits = self.forward(prompt[at : min(at + size, end)])
            if piece is None:
                logits[-1, 0].item()  # a GPU computes long after it was told to
                rate = _PIECE_SECONDS / max(time.monotonic() - started, 1e-6)
                size = int(min(max(size * min(2.0, rate), _LEAST_PIECE), _MOST_PIECE))
            yield len(self.tokens) - begin

    def keep(self, length: int) -> None:
        """Cuts the cache back to its first `length` tokens."""
        if length < len(self.tokens) and any(getattr(layer, "is_sliding", False) for layer in self._cache.layers):
            self.clear()  # a sliding window has dropped what would be needed
        elif length < len(self.tokens):
            self._cache.crop(length - len(self.tokens))  # negative: so many tokens off its end
            self.tokens = self.tokens[:length]

    @torch.inference_mode()
    def forward(self, tokens: Sequence[int], logits_to_keep: int = 1) -> torch.Tensor:
        """Appends tokens to the cache; gives the logits after the last `logits_to_keep` of them (0: all), [n, V]."""
        ids = torch.tensor([list(tokens)], device=self.model.device)
        try:
            out = self.model(
                input_ids=ids, **with_cache(self.model, self._cache), use_cache=True, logits_to_keep=logits_to_keep
            )
        except BaseException:
            self.clear()
            raise
        self.tokens.extend(tokens)
        return out.logits[0]

    @torch.inference_mode()
    def generate(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        is_enough: Callable[[list[int]], bool] | None = None,
        **options: Any,
    ) -> list[int]:
        """The tokens that follow a prompt, as transformers' `generate` writes them; an end token is the last of them.

        Args:
            is_enough: called after each token with all that are written; True ends the answer, and so does raising,
                which passes through and empties the cache.
            options: more arguments of `generate`.
        """
        self.keep(self._common(prompt))
        ids = torch.tensor([list(prompt)], device=self.model.device)
        if is_enough:
            options["stopping_criteria"] = StoppingCriteriaList([_Enough([is_enough], len(prompt))])
        try:
            model: Any = self.model  # `generate` is declared as a tensor or a module
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                **with_cache(self.model, self._cache),
                **{"pad_token_id": _pad_token(self.model), **sampling.options(), **options},
            )
        except BaseException:
            self.clear()
            raise
        sequence = out[0].tolist()
        self.tokens = sequence[: self._cache.get_seq_length()]  # the last one has been written, and not read
        return sequence[len(prompt) :]

    def _common(self, prompt: Sequence[int]) -> int:
        """How many tokens cache and prompt have in common, at most all of the prompt but its last token."""
        most = max(0, min(len(self.tokens), len(prompt) - 1))
        return next((at for at in range(most) if self.tokens[at] != prompt[at]), most)


class _Enough(StoppingCriteria):
    """Ends each row of a batch where its own function says so, and keeps how many tokens that were."""

    def __init__(self, are_enough: Sequence[Callable[[list[int]], bool]], prompt: int):
        self.are_enough, self.prompt = are_enough, prompt
        self.written: list[int | None] = [None] * len(are_enough)

    def __call__(self, input_ids, scores, **kwargs):
        for row, is_enough in enumerate(self.are_enough):
            if self.written[row] is None and is_enough(input_ids[row, self.prompt :].tolist()):
                self.written[row] = input_ids.shape[1] - self.prompt
        return torch.tensor([written is not None for written in self.written], device=input_ids.device)


def can_pad(model: PreTrainedModel) -> bool:
    """Whether prompts of unequal lengths can be answered in one batch as each would be alone: not where what stands in
    a prompt, its padding too, makes tokens less likely."""
    config = model.generation_config
    return (config.repetition_penalty or 1.0) == 1.0 and not config.no_repeat_ngram_size


@torch.inference_mode()
def generate_together(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    piece: int = PIECE,
    are_enough: Sequence[Callable[[list[int]], bool]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[int]]:
    """The tokens that follow each of several prompts, read and answered in one batch: what each gives alone, but for
    the last bits of the arithmetic. An end token is the last of a row.

    Args:
        prompts: token ids, padded on the left where they are of unequal lengths; see `can_pad`.
        piece: tokens of each prompt a forward pass.
        are_enough: for each prompt what is called after each token with all that are written; True ends its answer.
        progress: called with (tokens read, tokens of the longest prompt) after each piece; raising from it ends all.
    """
    longest, pad, device = max(map(len, prompts)), _pad_token(model), model.device
    ids = torch.tensor([[pad] * (longest - len(one)) + list(one) for one in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts], device=device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    padded, cache = not mask.all(), GrowingCache(config=model.config)
    for begin in range(0, longest - 1, piece):
        end = min(begin + piece, longest - 1)
        model(
            input_ids=ids[:, begin:end],
            attention_mask=mask[:, :end] if padded else None,
            position_ids=positions[:, begin:end],
            **with_cache(model, cache),
            use_cache=True,
            logits_to_keep=1,
        )
        if progress:
            progress(end, longest)
    enough = _Enough(are_enough or [lambda _: False] * len(prompts), longest)
    generating: Any = model
    out = generating.generate(
        input_ids=ids,
        attention_mask=mask,
        stopping_criteria=StoppingCriteriaList([enough] if are_enough else []),
        **with_cache(model, cache),
        **{"pad_token_id": pad, **sampling.options()},
    )
    ends = end_tokens(model)
    rows = zip(out[:, longest:].tolist(), enough.written, strict=True)
    return [_to_its_end(row[:written], ends) for row, written in rows]


def _to_its_end(row: list[int], ends: set[int]) -> list[int]:
    """A row of a batch without the padding behind its end."""
    at = next((at for at, token in enumerate(row) if token in ends), len(row))
    return row[: at + 1]


def end_tokens(model: PreTrainedModel) -> set[int]:
    """The end-of-sequence tokens of a model's generation config."""
    end = getattr(model, "generation_config", model.config).eos_token_id
    return set() if end is None else {end} if isinstance(end, int) else set(end)


def decode(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, written: Sequence[int]) -> str:
    """The text of an answer, without its end token, which not every tokenizer calls special."""
    ended = written and written[-1] in end_tokens(model)
    return str(tokenizer.decode(list(written[:-1] if ended else written), skip_special_tokens=True))


def _pad_token(model: PreTrainedModel) -> int:
    """Any token will do: one row alone is never padded, and `generate` warns where it has to choose by itself."""
    known = model.generation_config.pad_token_id
    return known if known is not None else next(iter(sorted(end_tokens(model))), 0)
