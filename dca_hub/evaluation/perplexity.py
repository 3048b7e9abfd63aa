"""Perplexity of a text by context length, always over the same tokens.

The last `scored` tokens of windows that end at the same places are scored, whatever the context: a sliding window
with a stride of `scored` (Press et al., arXiv 2108.12409, and the measurements of DCA), at evenly spaced places.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from dca_hub.errors import UserError
from dca_hub.evaluation.prefill import prefill

LOGITS_AT_ONCE = 128  # positions; a large vocabulary makes 75 MB of them


@dataclass(frozen=True)
class Perplexity:
    """The mean over `tokens` scored tokens, and the standard error of its logarithm over windows."""

    context: int
    tokens: int
    nats: float
    error: float

    @property
    def value(self) -> float:
        return math.exp(self.nats)


def measure(
    model: PreTrainedModel,
    ids: list[int],
    contexts: list[int],
    *,
    bos: int | None = None,
    scored: int = 256,
    windows: int = 20,
    first: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Perplexity]:
    """Perplexity of `ids` for each context length in tokens, `bos` included where there is one.

    The windows end from the longest context on, or from token `first` if that is later: calls with different contexts
    score the same tokens if `first` is the longest context of all.

    Raises UserError when the text is shorter than the longest context, or a context has no room for scored tokens.
    """
    longest = max(first, *contexts)
    if len(ids) < longest or min(contexts) <= scored:
        raise UserError(f"Contexts must be longer than {scored} and at most the text's {len(ids)} tokens.")
    span = (len(ids) - longest) / max(1, windows - 1)
    ends = sorted({longest + round(k * span) for k in range(windows)})
    found = []
    for number, context in enumerate(contexts):
        sums = []
        for k, end in enumerate(ends):
            sums.append(_nats(model, _window(ids, end, context, bos), scored) / scored)
            if progress:
                progress(number * len(ends) + k + 1, len(contexts) * len(ends))
        mean = sum(sums) / len(sums)
        variance = sum((value - mean) ** 2 for value in sums) / max(1, len(sums) - 1)
        found.append(Perplexity(context, scored * len(sums), mean, math.sqrt(variance / len(sums))))
    return found


def _window(ids: list[int], end: int, context: int, bos: int | None) -> list[int]:
    return ids[end - context : end] if bos is None else [bos, *ids[end - context + 1 : end]]


@torch.inference_mode()
def _nats(model: PreTrainedModel, window: list[int], scored: int) -> float:
    """Negative log-likelihood of the last `scored` tokens of a window."""
    head, targets = window[:-scored], window[-scored:]
    logits, cache = prefill(model, head)
    total = F.cross_entropy(logits.float()[None], torch.tensor(targets[:1], device=logits.device)).item()
    for start in range(0, scored - 1, LOGITS_AT_ONCE):
        part = torch.tensor([targets[start : start + LOGITS_AT_ONCE]], device=model.device)
        out = model(input_ids=part, past_key_values=cache, use_cache=True).logits[0].float()
        following = torch.tensor(targets[start + 1 : start + 1 + LOGITS_AT_ONCE], device=model.device)
        total += F.cross_entropy(out[: len(following)], following, reduction="sum").item()
    return total
