"""Reading a long prompt in pieces through the cache, so that memory stays bounded whatever its length."""

from collections.abc import Callable

import torch
from transformers import DynamicCache, PreTrainedModel

from dca_hub.caches import with_cache

PIECE = 2048  # tokens a forward pass


@torch.inference_mode()
def prefill(
    model: PreTrainedModel,
    ids: list[int],
    cache: DynamicCache | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    piece: int = PIECE,
) -> tuple[torch.Tensor, DynamicCache]:
    """Read `ids` behind what `cache` holds; gives the logits after the last of them [V] and the filled cache.

    `progress` is called with (tokens read, tokens in all) after each piece; raising from it stops the work.
    """
    cache = DynamicCache(config=model.config) if cache is None else cache
    for start in range(0, len(ids), piece):
        part = torch.tensor([ids[start : start + piece]], device=model.device)
        logits = model(input_ids=part, **with_cache(model, cache), use_cache=True, logits_to_keep=1).logits
        if progress:
            progress(min(start + piece, len(ids)), len(ids))
    return logits[0, -1], cache


@torch.inference_mode()
def continue_greedily(
    model: PreTrainedModel, logits: torch.Tensor, cache: DynamicCache, most: int, stop: set[int]
) -> list[int]:
    """Up to `most` tokens, the likeliest each time, from `logits` [V] on; ends before a token of `stop`."""
    answer: list[int] = []
    while len(answer) < most:
        token = int(logits.argmax())
        if token in stop:
            break
        answer.append(token)
        logits, cache = prefill(model, [token], cache)
    return answer


def stop_tokens(model: PreTrainedModel) -> set[int]:
    """The end-of-sequence tokens of a model's generation config."""
    end = getattr(model, "generation_config", model.config).eos_token_id
    return set() if end is None else {end} if isinstance(end, int) else set(end)
