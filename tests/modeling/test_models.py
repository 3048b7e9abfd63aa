"""Whole models of every family: the definition, the golden cases, the base model up to the chunk length, no state."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from dca_hub import extend
from dca_hub.compat import cache_of, with_cache
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from support.explicit_reference import explicit_logits, inverse_frequencies
from support.tiny_models import GEOMETRY, SCALINGS, as_dca, tiny_model, tokens

WARM = DualChunkGeometry(24, 8, 32, temperature=0.3)


@torch.no_grad()
def test_logits_are_those_of_the_definition(pair):
    plain, dca = pair
    ids = tokens(75)
    expected = explicit_logits(plain, ids, GEOMETRY)
    torch.testing.assert_close(dca(ids).logits, expected, rtol=0, atol=1e-4)
    # The reference is trusted because the same code, told to place everything absolutely, gives the base model.
    torch.testing.assert_close(plain(ids).logits, explicit_logits(plain, ids, GEOMETRY, dca=False), rtol=0, atol=1e-4)
    assert (expected - plain(ids).logits)[:, 40:].abs().amax(-1).min() > 0.1


@torch.no_grad()
@pytest.mark.parametrize(("C", "w", "L", "f"), [(24, 8, 32, 0.3), (32, 0, 32, 0), (17, 5, 20, 0.1), (20, 19, 32, 0)])
def test_other_sizes_and_temperature(pair, C, w, L, f):
    geometry, ids = DualChunkGeometry(C, w, L, f), tokens(75, seed=3)
    expected = explicit_logits(pair[0], ids, geometry)
    torch.testing.assert_close(as_dca(pair[0], geometry)(ids).logits, expected, rtol=0, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("scaling", SCALINGS)
def test_rope_scaling_goes_through_the_models_own_frequencies(family, scaling):
    plain = tiny_model(family, rope_parameters=dict(SCALINGS[scaling]))
    unscaled = tiny_model(family)
    for length in (25, 75):
        ids = tokens(length)
        expected = explicit_logits(plain, ids, GEOMETRY)
        torch.testing.assert_close(as_dca(plain)(ids).logits, expected, rtol=0, atol=1e-4)
        if length == 75:
            assert (expected - explicit_logits(unscaled, ids, GEOMETRY)).abs().max() > 0.1
    factor = inverse_frequencies(plain.config, 75)[1]
    assert (factor > 1) == (scaling == "yarn"), "YaRN puts a factor on cosines and sines, the others none"


@torch.no_grad()
def test_up_to_the_chunk_length_logits_are_the_base_models(pair):
    """Bit for bit: one chunk runs the very kernel that the base model's SDPA runs."""
    plain, dca = pair
    for length in (1, 2, 15, GEOMETRY.chunk_length):
        ids = tokens(length, batch=2, seed=length)
        if length == 1:  # one query takes the path of decoding
            torch.testing.assert_close(dca(ids).logits, plain(ids).logits, rtol=0, atol=1e-5)
        else:
            assert torch.equal(dca(ids).logits, plain(ids).logits)


@torch.no_grad()
def test_through_the_window_logits_are_the_base_models(pair):
    """The second chunk sees exact distances up to C, C included: the query after that is the first to differ."""
    plain, dca = pair
    ids = tokens(GEOMETRY.chunk_size + 2, batch=2)
    out, base = dca(ids).logits, plain(ids).logits
    torch.testing.assert_close(out[:, :-1], base[:, :-1], rtol=0, atol=5e-5)
    assert (out - base)[:, -1].abs().max() > 1e-2


@torch.no_grad()
def test_up_to_the_chunk_length_cached_steps_are_the_base_models(pair):
    ids = tokens(GEOMETRY.chunk_length, batch=2)
    a, b = (model(ids[:, :7], use_cache=True) for model in reversed(pair))
    for step in (slice(7, 8), slice(8, 12), slice(12, 16)):
        a, b = (m(ids[:, step], **with_cache(m, cache_of(o))) for m, o in zip(reversed(pair), (a, b)))
        torch.testing.assert_close(a.logits, b.logits, rtol=0, atol=1e-5)


def test_up_to_the_chunk_length_gradients_are_the_base_models(pair):
    ids = tokens(GEOMETRY.chunk_length, batch=2)
    gradients = []
    for model in pair:
        loss = model(ids, labels=ids).loss
        gradients.append(torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad]))
    for mine, base in zip(*gradients):
        torch.testing.assert_close(mine, base, rtol=1e-4, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("scaling", [None, *SCALINGS])
def test_no_state_outlives_a_call(family, scaling):
    """A short prompt gives the same bits after a long one, a padded one and a generation as before them."""
    changes = {} if scaling is None else {"rope_parameters": dict(SCALINGS[scaling])}
    plain = tiny_model(family, **changes)
    dca = as_dca(plain, WARM)
    short = tokens(28)
    first = dca(short).logits
    base_first = plain(short).logits
    dca(tokens(90))
    dca(tokens(40, 2), attention_mask=torch.tensor([[0] * 5 + [1] * 35, [1] * 40]))
    dca.generate(tokens(60), max_new_tokens=3, do_sample=False)
    assert torch.equal(dca(short).logits, first)
    assert torch.equal(plain(short).logits, base_first)


@torch.no_grad()
def test_extending_after_the_base_model_ran_long_is_extending_before():
    plain = tiny_model("llama", rope_parameters=dict(SCALINGS["dynamic"]))
    short = tokens(30)
    expected = as_dca(plain)(short).logits
    plain(tokens(90))  # leaves the frequencies of 90 tokens in the base model's rotary module
    assert torch.equal(as_dca(plain)(short).logits, expected)


GOLDEN = (
    "llama-L64-w0-n200-m0-s1",
    "mistral-L64-w8-n150-m0-s4",
    "mixtral-L64-w8-n150-m0-s3",
    "qwen2-L64-w8-n170-m0-s2",
)


@torch.no_grad()
@pytest.mark.parametrize("name", GOLDEN)
def test_golden_case(shared, name):
    folder = shared / "golden" / name
    case, expected = json.loads((folder / "case.json").read_text()), load_file(folder / "expected.safetensors")
    ids, chunk = expected["input_ids"], case["chunk_size"]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = extend(model, case["pretraining_length"], chunk_size=chunk, local_size=case["local_window"])
    torch.testing.assert_close(model(ids).logits, expected["logits"], rtol=0, atol=2e-4)

    count = len(case["greedy"])
    for cache in (True, False):
        out = model.generate(ids, max_new_tokens=count, do_sample=False, use_cache=cache, eos_token_id=None)
        assert out[0, ids.shape[1] :].tolist() == case["greedy"]
    head = model(ids[:, :77])
    tail = model(ids[:, 77:], **with_cache(model, cache_of(head)))
    torch.testing.assert_close(torch.cat([head.logits, tail.logits], 1), expected["logits"], rtol=0, atol=2e-4)
