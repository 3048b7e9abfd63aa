"""Filled caches: decoding, prefill in pieces and continuations at any offset give the full forward's logits."""

import pytest
import torch
from transformers import DynamicCache, StaticCache

from dca_hub.compat import with_cache
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from support.tiny_models import GEOMETRY, as_dca, tiny_dca, tiny_model, tokens

CLOSE = {"rtol": 0, "atol": 5e-5}
WARM = DualChunkGeometry(24, 8, 32, temperature=0.3)
caches = pytest.mark.parametrize("kind", ["dynamic", "static"])


def new_cache(model, kind: str):
    return (
        DynamicCache(config=model.config) if kind == "dynamic" else StaticCache(config=model.config, max_cache_len=96)
    )


def in_pieces(model, ids, pieces, cache, **kwargs):
    logits, start = [], 0
    for length in pieces:
        logits.append(model(ids[:, start : start + length], **with_cache(model, cache), **kwargs).logits)
        start += length
    assert start == ids.shape[1]
    return torch.cat(logits, dim=1)


@torch.no_grad()
@caches
@pytest.mark.parametrize("geometry", [GEOMETRY, WARM], ids=["plain", "temperature"])
def test_decoding_token_for_token(pair, kind, geometry):
    dca = as_dca(pair[0], geometry)
    ids = tokens(70, batch=2)
    whole = dca(ids).logits
    torch.testing.assert_close(in_pieces(dca, ids, [1] * 70, new_cache(dca, kind)), whole, **CLOSE)
    torch.testing.assert_close(in_pieces(dca, ids, [37] + [1] * 33, new_cache(dca, kind)), whole, **CLOSE)


@torch.no_grad()
@caches
@pytest.mark.parametrize("pieces", [[5, 1, 11, 13, 16, 3, 21], [32, 38], [16, 16, 16, 22], [17, 1, 46, 6], [69, 1]])
def test_prefill_in_odd_pieces(dca, kind, pieces):
    ids = tokens(70, batch=2)
    torch.testing.assert_close(in_pieces(dca, ids, pieces, new_cache(dca, kind)), dca(ids).logits, **CLOSE)


@torch.no_grad()
@caches
def test_continuation_by_many_tokens_at_every_offset(models, kind):
    _, dca = models("qwen2")
    ids = tokens(90)
    whole = dca(ids).logits
    for offset in range(1, 89):
        cache = new_cache(dca, kind)
        dca(ids[:, :offset], **with_cache(dca, cache))
        out = dca(ids[:, offset : offset + 19], **with_cache(dca, cache)).logits
        torch.testing.assert_close(out, whole[:, offset : offset + 19], **CLOSE)


@torch.no_grad()
def test_continuation_may_name_its_positions(dca):
    ids = tokens(60)
    cache = DynamicCache()
    dca(ids[:, :21], **with_cache(dca, cache))
    out = dca(ids[:, 21:], **with_cache(dca, cache), position_ids=torch.arange(21, 60)[None]).logits
    torch.testing.assert_close(out, dca(ids).logits[:, 21:], **CLOSE)
    with pytest.raises(ValueError, match="count on from the cache"):
        dca(ids[:, :3], **with_cache(dca, cache), position_ids=torch.arange(3)[None])


@torch.no_grad()
def test_cropped_cache_continues(dca):
    """Assisted decoding takes back what was not accepted, across a chunk border too."""
    ids, other = tokens(60), tokens(60, seed=8)
    cache = DynamicCache()
    dca(ids[:, :30], **with_cache(dca, cache))
    dca(other[:, 30:37], **with_cache(dca, cache))
    cache.crop(-7)
    out = dca(ids[:, 30:], **with_cache(dca, cache)).logits
    torch.testing.assert_close(out, dca(ids).logits[:, 30:], **CLOSE)


@torch.no_grad()
def test_static_cache_is_reused_after_reset(dca):
    cache = new_cache(dca, "static")
    dca(tokens(80, seed=4), **with_cache(dca, cache))
    cache.reset()
    ids = tokens(50)
    torch.testing.assert_close(in_pieces(dca, ids, [20, 29, 1], cache), dca(ids).logits, **CLOSE)


@torch.no_grad()
@caches
def test_ragged_batch_in_pieces(dca, kind):
    """Left-padded rows of other lengths: prefill in pieces, many tokens, then one by one, each row as alone."""
    first, second = tokens(70), tokens(47, seed=6)
    ids = torch.cat([first, torch.cat([torch.zeros(1, 23, dtype=torch.long), second], 1)])
    mask = torch.ones_like(ids)
    mask[1, :23] = 0
    cache, start, logits = new_cache(dca, kind), 0, []
    for length in (9, 22, 30, 1, 1, 7):
        part = slice(start, start + length)
        logits.append(dca(ids[:, part], attention_mask=mask[:, : part.stop], **with_cache(dca, cache)).logits)
        start = part.stop
    logits = torch.cat(logits, dim=1)
    torch.testing.assert_close(logits[:1], dca(first).logits, **CLOSE)
    torch.testing.assert_close(logits[1:, 23:], dca(second).logits, **CLOSE)


@torch.no_grad()
def test_mask_that_does_not_cover_the_cache_is_refused(models):
    _, dca = models("llama")
    cache = DynamicCache()
    dca(tokens(20), **with_cache(dca, cache))
    with pytest.raises(ValueError, match="20 are cached and 5 are new"):
        dca(tokens(5), **with_cache(dca, cache), attention_mask=torch.ones(1, 5, dtype=torch.long))


@torch.no_grad()
def test_dynamic_scaling_continues_with_the_frequencies_of_its_first_call():
    """Keys in a cache keep the frequencies they were rotated with; another cache, or none, has its own."""
    model = tiny_dca("llama", rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0})
    ids = tokens(80)
    cache = DynamicCache()
    model(ids[:, :60], **with_cache(model, cache))
    frozen = model.base_model.rotary_emb.inverse_frequencies(60)
    steps = [model(ids[:, i : i + 1], **with_cache(model, cache)).logits for i in range(60, 80)]
    model(tokens(95))
    linear = tiny_model("llama")
    linear.base_model.rotary_emb.inv_freq.copy_(frozen)
    expected = as_dca(linear)(ids).logits
    torch.testing.assert_close(torch.cat(steps, 1), expected[:, 60:], **CLOSE)


class _OfItsOwn:
    """A cache that is not a `Cache`, as some hybrid models of transformers 5.10 have."""

    def __init__(self):
        self._cache = DynamicCache()

    def __getattr__(self, name: str):
        return getattr(self._cache, name)


@torch.no_grad()
def test_a_cache_of_another_class_is_continued():
    dca, ids = tiny_dca("llama"), tokens(50)
    torch.testing.assert_close(in_pieces(dca, ids, [30, 20], _OfItsOwn()), dca(ids).logits, **CLOSE)
