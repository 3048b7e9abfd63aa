"""Training: gradients of whole models, gradient checkpointing, dropout, autocast and low precision."""

import copy

import pytest
import torch

from support.tiny_models import GEOMETRY, as_dca, tiny_model, tokens


def gradients(model, **kwargs):
    model.zero_grad()
    ids = tokens(60, batch=2)
    model(ids, labels=ids, **kwargs).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def own(pair):
    """A DCA model of its own weights, that a test may train."""
    return as_dca(copy.deepcopy(pair[0]), GEOMETRY)


def same(mine, others, tolerance=1e-4):
    assert mine.keys() == others.keys() and mine
    for name, grad in mine.items():
        error = (grad - others[name]).norm() / others[name].norm().clamp(min=1e-6)
        assert error < tolerance, f"{name}: {error:.2e}"


def test_gradients_are_those_of_the_dense_path(pair):
    """The dense path is the naive twin under PyTorch's own autograd."""
    dca = own(pair)
    same(gradients(dca), gradients(dca, output_attentions=True))


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(pair, reentrant):
    dca = own(pair).train()
    expected = gradients(dca)
    dca.gradient_checkpointing_enable({"use_reentrant": reentrant})
    if reentrant:
        dca.enable_input_require_grads()
    same(gradients(dca, use_cache=False), expected, 1e-5)


def test_checkpointing_that_was_on_stays_on():
    plain = tiny_model("llama").train()
    expected = gradients(as_dca(plain))
    plain.gradient_checkpointing_enable()
    dca = as_dca(plain)
    assert dca.is_gradient_checkpointing and dca.training
    same(gradients(dca, use_cache=False), expected, 1e-5)


@torch.no_grad()
def test_dropout_of_attention(family):
    dca, ids = as_dca(tiny_model(family, attention_dropout=0.25)), tokens(60)
    still = dca(ids, output_attentions=True)
    assert torch.equal(dca(ids, output_attentions=True).logits, still.logits), "dropout is off in eval mode"
    dca.train()
    torch.manual_seed(0)
    first = dca(ids).logits
    torch.manual_seed(0)
    out = dca(ids, output_attentions=True)
    assert torch.equal(out.logits, first), "the same seed drops the same weights"
    whole, dropped = still.attentions[0], out.attentions[0]
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.75)
    share = kept[whole != 0].float().mean().item()
    assert 0.72 < share < 0.78


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_training_under_autocast(pair, dtype):
    """The usual way to fine-tune: float32 weights, half-precision products."""
    dca, ids = own(pair), tokens(60, batch=2)
    expected = gradients(dca)
    dca.zero_grad()
    with torch.autocast("cpu", dtype=dtype):
        dca(ids, labels=ids).loss.backward()
    mine = torch.cat([p.grad.flatten() for p in dca.parameters() if p.grad is not None])
    whole = torch.cat([grad.flatten() for grad in expected.values()])
    assert mine.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(mine, whole, dim=0) > 0.95


@torch.no_grad()
def test_generation_under_autocast(dca):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = dca.generate(tokens(40), max_new_tokens=5, do_sample=False, pad_token_id=0)
    assert out.shape == (1, 45)


@torch.no_grad()
def test_bfloat16_models_err_no_more_than_their_base(pair):
    """Against float32 logits: the DCA model's error, beyond the chunk length, stays within twice the base model's."""
    plain, dca = pair
    ids = tokens(70)
    half = copy.deepcopy(plain).to(torch.bfloat16)
    base_error = (half(ids).logits.float() - plain(ids).logits).pow(2).mean().sqrt()
    error = (as_dca(half)(ids).logits.float() - dca(ids).logits).pow(2).mean().sqrt()
    assert error < 2 * base_error


def test_step_of_training_reaches_the_shared_weights(pair):
    plain = copy.deepcopy(pair[0])
    dca, ids = as_dca(plain, GEOMETRY), tokens(60)
    before = dca(ids, labels=ids).loss
    optimizer = torch.optim.SGD(dca.parameters(), lr=0.05)
    before.backward()
    optimizer.step()
    assert dca(ids, labels=ids).loss < before
    for mine, base in zip(dca.parameters(), plain.parameters()):
        assert mine is base
