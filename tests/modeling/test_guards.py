"""What a DCA model refuses, each in words, and what runs through the dense path."""

import copy
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch.torch_version import TorchVersion
from transformers import DynamicCache, MistralConfig

from dca_hub import DcaHubError, extend
from dca_hub.compat import with_cache
from dca_hub.modeling.dual_chunk_guards import LEAST_TORCH
from support.tiny_models import GEOMETRY, as_dca, tiny_config, tiny_model, tokens

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("version, refused", [("2.8.0+cu128", True), ("2.9.0", False), ("2.10.1+cpu", False)])
def test_a_pytorch_that_would_be_wrong_is_refused(monkeypatch, version, refused):
    model = tiny_model("llama")
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    refusal = pytest.raises(DcaHubError, match=r"needs PyTorch 2\.9 or later, and this is 2\.8\.0")
    with refusal if refused else nullcontext():
        extend(model, pretraining_length=32, chunk_size=24, local_size=8)


def test_the_least_pytorch_is_what_the_packages_require():
    required = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("torch")]
    assert required[0].startswith(f"torch>={LEAST_TORCH},")
    assert f'"torch>={LEAST_TORCH}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("name", ["sdpa", "eager", "flash_attention_2", "flex_attention", "paged|sdpa", "nothing"])
def test_no_other_attention_can_be_set(models, name):
    _, dca = models("llama")
    before = dca(tokens(50)).logits
    with pytest.raises(ValueError, match="DCA model cannot run attn_implementation"):
        dca.set_attn_implementation(name)
    assert torch.equal(dca(tokens(50)).logits, before)


def test_its_own_attention_may_be_set(models):
    _, dca = models("llama")
    before = dca(tokens(50)).logits
    dca.set_attn_implementation("dca")
    assert torch.equal(dca(tokens(50)).logits, before)


@pytest.mark.parametrize("name", ["flash_attention_2", "sdpa", "eager"])
def test_no_other_attention_can_be_asked_for_when_building(family, models, name):
    _, dca = models(family)
    with pytest.raises(ValueError, match="DCA model cannot run attn_implementation"):
        type(dca)._from_config(copy.deepcopy(dca.config), attn_implementation=name)


@pytest.mark.parametrize("name", ["sdpa", "eager"])
def test_config_that_was_tampered_with_is_refused_when_the_model_runs(name):
    """Libraries write the private field too; the base attention over keys within their chunk would be wrong."""
    dca = as_dca(tiny_model("llama"))
    dca.config._attn_implementation = name
    with pytest.raises(ValueError, match="DCA model cannot run attn_implementation"):
        dca(tokens(50))


def test_continuous_batching_is_refused(models):
    _, dca = models("llama")
    with pytest.raises(ValueError, match=r"not supported for continuous batching|DCA model cannot run"):
        dca.generate_batch([tokens(50)[0].tolist()], generation_config=dca.generation_config)


def test_layer_on_its_own_is_refused(models):
    _, dca = models("llama")
    base = dca.base_model
    hidden, positions = base.embed_tokens(tokens(5)), torch.arange(5)[None]
    with pytest.raises(ValueError, match="without the positions of the call"):
        base.layers[0](hidden, position_embeddings=base.rotary_emb(hidden, positions))


@pytest.mark.parametrize("family", ["mistral", "mixtral", "qwen3_moe"])
def test_sliding_window_in_every_layer_is_refused(family):
    changes = {"sliding_window": 16}
    if family.startswith("qwen"):
        changes |= {"use_sliding_window": True}
    with pytest.raises(DcaHubError, match=r"sliding window.*set sliding_window to null"):
        as_dca(tiny_model(family, **changes))


def test_mistrals_default_window_is_refused():
    assert MistralConfig().sliding_window == 4096
    with pytest.raises(DcaHubError, match=r"sliding window \(4096 tokens\)"):
        as_dca(tiny_model("mistral", sliding_window=4096))


def test_window_that_is_switched_off_is_served():
    plain = tiny_model("qwen2", sliding_window=16, use_sliding_window=False)
    assert as_dca(plain)(tokens(5)).logits.shape[1] == 5


def test_cache_with_a_window_is_refused(models):
    _, dca = models("llama")
    config = tiny_config("mistral", sliding_window=8)
    with pytest.raises(ValueError, match="cache without sliding windows"):
        dca(tokens(20), **with_cache(dca, DynamicCache(config=config)))


def test_longrope_is_refused():
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "short_factor": [1.0] * 8,
        "long_factor": [2.0] * 8,
        "original_max_position_embeddings": 32,
    }
    with pytest.raises(DcaHubError, match="does not serve rope_type 'longrope'"):
        as_dca(tiny_model("llama", rope_parameters=rope))


def test_inputs_are_asked_for(models):
    _, dca = models("llama")
    with pytest.raises(ValueError, match="exactly one of input_ids or inputs_embeds"):
        dca()


@torch.no_grad()
def test_weights_are_those_of_the_fast_path(dca):
    ids = tokens(70, batch=2)
    out = dca(ids, output_attentions=True)
    torch.testing.assert_close(out.logits, dca(ids).logits, rtol=0, atol=5e-5)
    for weights in out.attentions:
        assert weights.shape == (2, 4, 70, 70)
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 70))
        assert torch.equal(weights, weights.tril())
    assert dca(ids).attentions is None


@torch.no_grad()
def test_weights_on_a_filled_cache(dca):
    ids = tokens(70)
    cache = DynamicCache()
    dca(ids[:, :33], **with_cache(dca, cache))
    out = dca(ids[:, 33:], **with_cache(dca, cache), output_attentions=True)
    whole = dca(ids, output_attentions=True)
    torch.testing.assert_close(out.logits, whole.logits[:, 33:], rtol=0, atol=5e-5)
    for mine, all_of_it in zip(out.attentions, whole.attentions):
        torch.testing.assert_close(mine, all_of_it[:, :, 33:], rtol=0, atol=5e-5)


@torch.no_grad()
@pytest.mark.parametrize("form", ["bool", "additive", "additive infinity"])
def test_mask_of_four_dimensions(dca, form):
    """A causal mask of the caller's own changes nothing; one that hides a key hides it."""
    ids = tokens(50)
    seen = torch.ones(50, 50, dtype=torch.bool).tril()[None, None]

    def run(seen):
        least = float("-inf") if form.endswith("infinity") else torch.finfo(torch.float32).min
        mask = seen if form == "bool" else torch.zeros(seen.shape).masked_fill(~seen, least)
        return dca(ids, attention_mask=mask).logits

    whole = dca(ids).logits
    torch.testing.assert_close(run(seen), whole, rtol=0, atol=5e-5)
    hidden = seen.clone()
    hidden[..., 30:, 5] = False
    out = run(hidden)
    torch.testing.assert_close(out[:, :30], whole[:, :30], rtol=0, atol=5e-5)
    assert (out - whole)[:, 30:].abs().amax(-1).min() > 1e-3


@torch.no_grad()
def test_mask_of_four_dimensions_that_does_not_fit_is_refused(models):
    _, dca = models("llama")
    for shape in ((1, 1, 4, 5), (1, 1, 5, 6)):
        with pytest.raises(ValueError, match="does not fit 5 queries and 5 keys"):
            dca(tokens(5), attention_mask=torch.ones(shape, dtype=torch.bool))


def test_geometry_stands_in_the_config(models):
    plain, dca = models("llama")
    assert dca.config.dual_chunk_attention_config == {
        "chunk_size": GEOMETRY.chunk_size,
        "local_size": GEOMETRY.local_size,
        "original_max_position_embeddings": GEOMETRY.pretraining_length,
    }
    assert not hasattr(plain.config, "dual_chunk_attention_config")
    with pytest.raises(DcaHubError, match="a DCA model already"):
        extend(dca)
