"""The cache that grows holds what a DynamicCache holds, and copies nothing while it has room."""

import copy

import pytest
import torch
from transformers import DynamicCache

from dca_hub.compat import with_cache
from dca_hub.modeling import dual_chunk_cache
from dca_hub.modeling.dual_chunk_cache import EightBitLayer, GrowingCache, GrowingLayer
from support.tiny_models import tiny_dca, tokens


def filled(layer, *lengths, seed=0):
    """A layer after updates of so many tokens, which are the same for every layer."""
    generator = torch.Generator().manual_seed(seed)
    for length in lengths:
        layer.update(*torch.randn(2, 1, 2, length, 4, generator=generator))
    return layer


def plain(*lengths, seed=0):
    return filled(DynamicCache().layer_class_to_replicate(), *lengths, seed=seed)


def assert_same(mine, wanted):
    assert torch.equal(mine.keys, wanted.keys) and torch.equal(mine.values, wanted.values)
    assert mine.get_seq_length() == wanted.get_seq_length()


def test_holds_what_a_dynamic_cache_holds():
    lengths = (300, 1, 1, 500, 1, 2000, 1)
    assert_same(filled(GrowingLayer(), *lengths), plain(*lengths))


def test_a_token_is_written_and_nothing_is_copied():
    layer = filled(GrowingLayer(), 300)
    where, changed = layer.keys.data_ptr(), 0
    for step in range(2000):
        filled(layer, 1, seed=step)
        changed += layer.keys.data_ptr() != where
        where = layer.keys.data_ptr()
    assert changed < 8, "the cache is copied at every token"
    assert layer._held[0].shape[-2] < 1.1 * layer.keys.shape[-2] + 257


def test_what_is_cut_off_is_written_anew():
    layer = filled(GrowingLayer(), 30)
    kept = layer.keys[..., :20, :].clone()
    layer.crop(-10)
    new = torch.randn(2, 1, 2, 3, 4)
    layer.update(*new)
    assert torch.equal(layer.keys, torch.cat([kept, new[0]], dim=-2))


def test_copies_do_not_write_into_each_other():
    layer = filled(GrowingLayer(), 30)
    other, before = copy.copy(layer), layer.keys.clone()
    for one in (layer, other):
        one.crop(-10)
    filled(layer, 5, seed=1)
    filled(other, 5, seed=2)
    for one, seed in ((layer, 1), (other, 2)):
        assert torch.equal(one.keys[..., :20, :], before[..., :20, :])
        assert torch.equal(one.keys[..., 20:, :], plain(5, seed=seed).keys)


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.reorder_cache(torch.tensor([0])),
        lambda layer: layer.batch_repeat_interleave(1),
        lambda layer: layer.batch_select_indices(torch.tensor([0])),
        lambda layer: layer.reset(),
    ],
)
def test_goes_on_after_a_change(change):
    mine, wanted = filled(GrowingLayer(), 30), plain(30)
    for layer in (mine, wanted):
        change(layer)
        filled(layer, 4, seed=1)
    assert_same(mine, wanted)


def test_gradients_flow_as_through_a_dynamic_cache():
    layer, first = GrowingLayer(), torch.randn(1, 2, 3, 4, requires_grad=True)
    layer.update(first, first)
    keys, _ = layer.update(torch.randn(1, 2, 1, 4, requires_grad=True), torch.randn(1, 2, 1, 4))
    assert torch.equal(torch.autograd.grad(keys.sum(), first)[0], torch.ones_like(first))


def away(layer):
    layer.offload()
    return layer


@pytest.mark.parametrize("kind", [GrowingLayer, EightBitLayer])
@pytest.mark.parametrize("here", [True, False], ids=["brought back", "away"])
@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.reorder_cache(torch.tensor([0])),
        lambda layer: layer.crop(-10),
        lambda layer: layer.batch_repeat_interleave(2),
        lambda layer: layer.reset(),
        lambda layer: None,
    ],
    ids=["reorder", "crop", "repeat", "reset", "nothing"],
)
def test_a_layer_comes_back_from_the_host_as_it_went(kind, here, change):
    mine, wanted = away(filled(kind(), 30)), filled(kind(), 30)
    if here:
        mine.prefetch()
    for layer in (mine, wanted):
        change(layer)
    for length in (4, 1, 300):
        batch = 1 if wanted.keys is None else wanted.keys.shape[0]
        new = torch.randn(2, batch, 2, length, 4)
        for found, true in zip(mine.update(*new), wanted.update(*new)):
            assert torch.equal(found, true)
        assert_same(away(mine), wanted)


def test_only_what_is_new_goes_to_the_host(monkeypatch):
    copied, copy_rows = [], dual_chunk_cache._copy_rows
    monkeypatch.setattr(
        dual_chunk_cache, "_copy_rows", lambda to, x, a, b: copied.append((a, b)) or copy_rows(to, x, a, b)
    )
    layer = away(filled(GrowingLayer(), 30))
    for length in (5, 1):
        away(filled(layer, length))
    assert copied[::2] == [(0, 30), (0, 30), (30, 35), (0, 35), (35, 36)], "out, back, out, back, out"
    layer.crop(-10)
    copied.clear()
    away(filled(layer, 3))
    assert copied[::2] == [(0, 26), (26, 29)]


def test_copies_of_a_layer_on_the_host_do_not_write_into_each_other():
    layer = away(filled(GrowingLayer(), 30))
    other, before = copy.copy(layer), layer.keys.clone()
    for one, seed in ((layer, 1), (other, 2)):
        away(filled(one, 5, seed=seed))
    for one, seed in ((layer, 1), (other, 2)):
        assert torch.equal(one.keys[..., :30, :], before)
        assert torch.equal(one.keys[..., 30:, :], plain(5, seed=seed).keys)


@torch.no_grad()
def test_generates_the_same_tokens():
    model, ids = tiny_dca("llama"), tokens(70)
    options = {"max_new_tokens": 30, "do_sample": False, "pad_token_id": 0}
    wanted = model.generate(ids, **with_cache(model, DynamicCache(config=model.config)), **options)
    cache = GrowingCache(config=model.config)
    assert torch.equal(model.generate(ids, **with_cache(model, cache), **options), wanted)
    assert all(type(layer) is GrowingLayer for layer in cache.layers) and cache.get_seq_length() == 99


def test_what_is_reserved_is_made_at_once_and_outgrown():
    cache = GrowingCache()
    cache.layers = [GrowingLayer()]
    cache.reserve(5000)
    layer = filled(cache.layers[0], 300)
    where = layer.keys.data_ptr()
    assert layer._held[0].shape[-2] == 5000
    filled(layer, 4700)
    assert layer.keys.data_ptr() == where
    filled(layer, 1)
    assert layer.get_seq_length() == 5001 and layer._held[0].shape[-2] > 5001


@pytest.mark.parametrize("size", [4, 6, 64])
def test_eight_bits_keep_each_number_within_half_a_step(size):
    layer, wanted = EightBitLayer(), DynamicCache().layer_class_to_replicate()
    for length in (300, 1, 500):
        new = torch.randn(2, 2, 2, length, size) * torch.logspace(-8, 3, length).unsqueeze(-1)
        new[:, :, :, 0] = 0
        found, true = layer.update(*new), wanted.update(*new)
        for mine, its in zip(found, true):
            assert mine.dtype == its.dtype and mine.shape == its.shape
            assert ((mine - its).abs() <= its.abs().amax(-1, keepdim=True) / 253).all()
    assert layer.keys.dtype == torch.int8 and layer.get_seq_length() == wanted.get_seq_length() == 801
    layer.crop(-501)
    assert torch.equal(layer.update(*new)[0][..., :300, :], found[0][..., :300, :])
    with pytest.raises(ValueError, match="no gradients"):
        layer.update(*new.requires_grad_())


@torch.no_grad()
def test_a_model_reads_from_eight_bits_what_it_reads_from_sixteen_within_rounding():
    model, ids = tiny_dca("llama"), tokens(70)
    cache = GrowingCache(config=model.config, bits=8)
    first = model(ids[:, :40], **with_cache(model, cache)).logits
    second = model(ids[:, 40:], **with_cache(model, cache)).logits
    whole = model(ids, use_cache=False).logits
    error = (torch.cat([first, second], 1) - whole).norm() / whole.norm()
    assert 1e-5 < error < 0.02
    assert all(type(layer) is EightBitLayer for layer in cache.layers)
    with pytest.raises(ValueError, match="8 or 16 bits"):
        GrowingCache(bits=4)
