"""Padding, holes and packed documents: each row and each document gives what it gives alone."""

import pytest
import torch
from transformers import DynamicCache

from dca_hub.compat import cache_of, with_cache
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from support.tiny_models import GEOMETRY, as_dca, tiny_dca, tokens

CLOSE = {"rtol": 0, "atol": 5e-5}
LENGTHS = (61, 17, 40, 1, 33)


def ragged(side: str, lengths=LENGTHS):
    """Rows of the given lengths padded to the longest, their mask, and the rows alone."""
    longest = max(lengths)
    rows = [tokens(length, seed=20 + i) for i, length in enumerate(lengths)]
    before = lambda n: (longest - n, 0) if side == "left" else (0, longest - n)
    ids = torch.cat([torch.nn.functional.pad(row, before(row.shape[1])) for row in rows])
    mask = torch.cat([torch.nn.functional.pad(torch.ones_like(row), before(row.shape[1])) for row in rows])
    return ids, mask, rows


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("positions", ["none", "counted", "arange"])
def test_padded_rows_give_what_they_give_alone(dca, side, positions):
    ids, mask, rows = ragged(side)
    position_ids = {
        "none": None,
        "counted": (mask.cumsum(-1) - 1).masked_fill(mask == 0, 1),
        "arange": torch.arange(ids.shape[1])[None],
    }[positions]
    logits = dca(ids, attention_mask=mask, position_ids=position_ids).logits
    assert logits.isfinite().all()
    for given, mine, row in zip(logits, mask.bool(), rows):
        torch.testing.assert_close(given[mine], dca(row).logits[0], **CLOSE)


@torch.no_grad()
def test_mask_of_booleans_or_floats_is_a_mask(models):
    _, dca = models("mistral")
    ids, mask, _ = ragged("left")
    expected = dca(ids, attention_mask=mask).logits
    for given in (mask.bool(), mask.float()):
        assert torch.equal(dca(ids, attention_mask=given).logits, expected)


@torch.no_grad()
def test_holes_in_the_mask_are_as_if_the_tokens_were_not_there(dca):
    ids = tokens(70)
    mask = torch.ones_like(ids)
    mask[0, [3, 15, 16, 40, 41, 42, 43, 69]] = 0
    seen = mask[0].bool()
    logits = dca(ids, attention_mask=mask).logits
    torch.testing.assert_close(logits[0, seen], dca(ids[:, seen]).logits[0], **CLOSE)
    torch.testing.assert_close(
        dca(ids, attention_mask=mask, position_ids=mask.cumsum(-1) - 1).logits[0, seen], logits[0, seen], **CLOSE
    )


@torch.no_grad()
def test_row_without_any_token_harms_no_other(dca):
    ids = tokens(40, batch=3)
    mask = torch.ones_like(ids)
    mask[1] = 0
    logits = dca(ids, attention_mask=mask).logits
    assert logits.isfinite().all()
    torch.testing.assert_close(logits[[0, 2]], dca(ids[[0, 2]]).logits, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_with_weights_asked_for(dca, side):
    """The dense path serves the same rows."""
    ids, mask, rows = ragged(side)
    out = dca(ids, attention_mask=mask, output_attentions=True)
    for given, mine, row in zip(out.logits, mask.bool(), rows):
        torch.testing.assert_close(given[mine], dca(row).logits[0], **CLOSE)
    assert len(out.attentions) == 2
    for weights in out.attentions:
        assert weights.shape == (len(rows), 4, ids.shape[1], ids.shape[1])
        sums = weights.sum(-1)
        torch.testing.assert_close(sums, mask[:, None].expand_as(sums).float(), rtol=0, atol=1e-5)


DOCUMENTS = (37, 1, 20, 45)


def packed(lengths=DOCUMENTS):
    documents = [tokens(length, seed=40 + i) for i, length in enumerate(lengths)]
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    return torch.cat(documents, dim=1), positions, documents


@torch.no_grad()
@pytest.mark.parametrize("mask", ["no mask", "mask of ones"])
@pytest.mark.parametrize("weights", [False, True], ids=["fast", "dense"])
def test_packed_documents_give_what_they_give_alone(dca, mask, weights):
    ids, positions, documents = packed()
    mask = None if mask == "no mask" else torch.ones_like(ids)
    out = dca(ids, position_ids=positions, attention_mask=mask, output_attentions=weights)
    alone = torch.cat([dca(document).logits for document in documents], dim=1)
    torch.testing.assert_close(out.logits, alone, **CLOSE)


@torch.no_grad()
def test_packed_rows_of_other_layouts_share_a_batch(dca):
    a, at_a, documents_a = packed((50, 23))
    b, at_b, documents_b = packed((10, 3, 60))
    out = dca(torch.cat([a, b]), position_ids=torch.cat([at_a, at_b])).logits
    for row, documents in zip(out, (documents_a, documents_b)):
        alone = torch.cat([dca(document).logits for document in documents], dim=1)
        torch.testing.assert_close(row, alone[0], **CLOSE)


@torch.no_grad()
def test_packed_documents_are_not_continued_as_one_text(models):
    _, dca = models("llama")
    ids, positions, documents = packed()
    assert cache_of(dca(ids, position_ids=positions)) is None
    cache = DynamicCache(config=dca.config)
    dca(ids, position_ids=positions, **with_cache(dca, cache))
    with pytest.raises(ValueError, match="several documents packed"):
        dca(ids[:, :1], **with_cache(dca, cache))
    cache.crop(-cache.get_seq_length())
    whole = dca(documents[0]).logits
    dca(documents[0][:, :-1], **with_cache(dca, cache))
    torch.testing.assert_close(dca(documents[0][:, -1:], **with_cache(dca, cache)).logits, whole[:, -1:], **CLOSE)


@torch.no_grad()
def test_packed_and_padded(dca):
    ids, positions, documents = packed((37, 20))
    ids, positions = (torch.nn.functional.pad(x, (6, 4)) for x in (ids, positions))
    mask = torch.zeros_like(ids)
    mask[:, 6:-4] = 1
    out = dca(ids, position_ids=positions, attention_mask=mask).logits[:, 6:-4]
    alone = torch.cat([dca(document).logits for document in documents], dim=1)
    torch.testing.assert_close(out, alone, **CLOSE)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_packed_documents_have_the_gradients_of_documents_alone(pair, temperature):
    dca = as_dca(pair[0], DualChunkGeometry(24, 8, 32, temperature))
    ids, positions, documents = packed()
    mine = gradients(dca, dca(ids, position_ids=positions).logits.square().sum())
    alone = gradients(dca, sum(dca(document).logits.square().sum() for document in documents))
    for a, b in zip(mine, alone):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5 * b.abs().max().item() + 1e-6)
    dca.zero_grad()


def test_padded_rows_have_the_gradients_of_rows_alone(pair):
    dca = as_dca(pair[0], GEOMETRY)
    ids, mask, rows = ragged("left")
    logits = dca(ids, attention_mask=mask).logits
    mine = gradients(dca, logits[mask.bool()].square().sum())
    alone = gradients(dca, sum(dca(row).logits.square().sum() for row in rows))
    for a, b in zip(mine, alone):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5 * b.abs().max().item() + 1e-6)
    dca.zero_grad()


@torch.no_grad()
@pytest.mark.parametrize("scaling", ["linear", "yarn", "llama3"])
def test_padding_and_packing_under_rope_scaling(scaling):
    from support.tiny_models import SCALINGS, tiny_dca

    dca = tiny_dca("llama", rope_parameters=dict(SCALINGS[scaling]))
    ids, mask, rows = ragged("left")
    logits = dca(ids, attention_mask=mask).logits
    for given, mine, row in zip(logits, mask.bool(), rows):
        torch.testing.assert_close(given[mine], dca(row).logits[0], **CLOSE)
    ids, positions, documents = packed()
    alone = torch.cat([dca(document).logits for document in documents], dim=1)
    torch.testing.assert_close(dca(ids, position_ids=positions).logits, alone, **CLOSE)


@torch.no_grad()
def test_dynamic_scaling_goes_by_each_rows_own_length():
    """Alone, a row of 61 tokens has other frequencies than one of 17; so it has in a batch, and while it decodes."""
    dca = tiny_dca("llama", rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0})
    ids, mask, rows = ragged("left")
    logits = dca(ids, attention_mask=mask).logits
    out = dca.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False, pad_token_id=0)
    weights = dca(ids, attention_mask=mask, output_attentions=True).logits
    for number, row in enumerate(rows):
        alone = dca(row).logits[0]
        torch.testing.assert_close(logits[number][mask[number].bool()], alone, **CLOSE)
        torch.testing.assert_close(weights[number][mask[number].bool()], alone, **CLOSE)
        expected = dca.generate(row, max_new_tokens=6, do_sample=False, pad_token_id=0)[0, row.shape[1] :]
        assert torch.equal(out[number, ids.shape[1] :], expected)


@torch.no_grad()
def test_dynamic_scaling_goes_by_each_packed_documents_own_length():
    dca = tiny_dca("llama", rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0})
    documents = [tokens(length, seed=length) for length in (61, 9, 45)]
    positions = torch.cat([torch.arange(document.shape[1])[None] for document in documents], dim=1)
    for extra in ({}, {"output_attentions": True}):
        packed = dca(torch.cat(documents, dim=1), position_ids=positions, use_cache=False, **extra).logits
        expected = torch.cat([dca(document).logits for document in documents], dim=1)
        torch.testing.assert_close(packed, expected, **CLOSE)


@torch.no_grad()
def test_a_cache_of_dynamic_scaling_cannot_serve_other_rows():
    dca = tiny_dca("llama", rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0})
    cache = cache_of(dca(tokens(40, batch=2)))
    cache.batch_select_indices(torch.tensor([1]))
    with pytest.raises(ValueError, match="filled for 2 rows and now serves 1"):
        dca(tokens(1), **with_cache(dca, cache))
