"""What a model is compared with: ablations against their own definition, scalings against a model built so."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from dca_hub.errors import DcaHubError
from dca_hub.evaluation import variants
from dca_hub.evaluation.variants import ablate, rescaled, rope_parameters
from dca_hub.generation import PromptCache
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from support.explicit_reference import explicit_logits
from support.tiny_models import GEOMETRY, as_dca, tiny_config, tiny_model, tokens


@pytest.fixture(scope="module")
def plain():
    return tiny_model("llama")


@torch.no_grad()
def test_intra_only_is_the_plain_model_on_each_chunk(plain):
    ids, s = tokens(75), GEOMETRY.chunk_length
    whole = ablate(as_dca(plain), "intra")(ids).logits
    for start in range(0, 75, s):
        alone = plain(ids[:, start : start + s]).logits
        torch.testing.assert_close(whole[:, start : start + s], alone, rtol=0, atol=1e-4)


@torch.no_grad()
def test_intra_and_inter_have_no_successive_positions(plain):
    """Where C = s every successive query is placed at C already, so the ablation changes nothing; else it does."""
    ids, flat = tokens(75), DualChunkGeometry(16, 0, 32)
    expected = explicit_logits(plain, ids, flat)
    torch.testing.assert_close(ablate(as_dca(plain, flat), "intra+inter")(ids).logits, expected, rtol=0, atol=1e-4)
    whole, ablated = as_dca(plain)(ids).logits, ablate(as_dca(plain), "intra+inter")(ids).logits
    torch.testing.assert_close(whole[:, :16], ablated[:, :16])
    assert (whole - ablated)[:, 17:].abs().amax(-1).min() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("kept", ["intra", "intra+inter"])
def test_ablations_read_in_pieces_what_they_read_at_once(plain, kept):
    model, ids = ablate(as_dca(plain), kept), tokens(75)
    whole = model(ids).logits[0, -1]
    for piece in (1, 7, 16, 40):
        cache, tokens_ = PromptCache(model), ids[0].tolist()
        assert list(cache.read(tokens_, piece))[-1] == 74
        torch.testing.assert_close(cache.forward(tokens_[-1:])[0], whole, rtol=0, atol=1e-4)


def test_ablations_touch_no_other_model(plain):
    ids = tokens(75)
    with torch.no_grad():
        before = as_dca(plain)(ids).logits
        ablate(as_dca(plain), "intra")
        assert torch.equal(as_dca(plain)(ids).logits, before)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["linear", "ntk", "yarn"])
def test_scalings_are_those_of_a_model_built_so(plain, kind):
    rope = rope_parameters(plain.config, kind, 4.0, 32)
    fresh = AutoModelForCausalLM.from_config(tiny_config("llama", rope_parameters=dict(rope))).eval()
    fresh.load_state_dict(plain.state_dict())
    ids, before = tokens(75), plain(tokens(75)).logits
    scaled = rescaled(plain, kind, 4.0, 32)
    assert torch.equal(scaled(ids).logits, fresh(ids).logits)
    assert torch.equal(plain(ids).logits, before) and not torch.equal(scaled(ids).logits, before)
    assert all(mine is own for mine, own in zip(scaled.parameters(), plain.parameters()))
    theirs = explicit_logits(fresh, ids, GEOMETRY)
    torch.testing.assert_close(as_dca(scaled)(ids).logits, theirs, rtol=0, atol=2e-4)


def test_ntk_keeps_the_fastest_frequency_and_stretches_the_slowest_by_the_factor(plain):
    before = plain.base_model.rotary_emb.inv_freq
    after = rescaled(plain, "ntk", 4.0, 32).base_model.rotary_emb.inv_freq
    assert after[0] == before[0] and after[-1] == pytest.approx(before[-1].item() / 4, rel=1e-5)


def test_variants_share_weights_and_say_what_they_are(loaded):
    loaded = replace(loaded, geometry=DualChunkGeometry(192, 64, 256))  # chunks that blocks fit in
    found = variants.build(loaded, list(variants.COMPARED), dca_factor=2.0)
    assert [one.name for one in found] == ["DCA", *variants.COMPARED.values()]
    weights = loaded.base.lm_head.weight
    for one in found:
        assert one.model_for(256).lm_head.weight is weights
    by_name = {one.name: one for one in found}
    assert by_name["plain"].model_for(64) is loaded.base
    assert by_name["YaRN"].model_for(256) is loaded.base, "nothing to stretch within the trained length"
    assert by_name["YaRN"].model_for(1024).config.rope_parameters["factor"] == 4
    assert by_name["DCA, sparse 0.8"].model_for(64).base_model.rotary_emb.sparse.share == 0.8
    assert by_name["DCA, sparse 0.8"].describes["dual_chunk_attention_config"]["sparse"]["share"] == 0.8
    combined = by_name["DCA + linear"]
    assert combined.describes["dual_chunk_attention_config"]["original_max_position_embeddings"] == 512
    assert combined.dca and not by_name["linear"].dca


def test_what_cannot_be_compared_is_named(loaded, plain):
    with pytest.raises(DcaHubError, match="no 'plane' to compare"):
        variants.build(loaded, ["plane"])
    with pytest.raises(DcaHubError, match="at least 1"):
        variants.build(loaded, ["yarn"], factor=0.5)
    scaled = rescaled(plain, "linear", 2.0, 32)
    with pytest.raises(DcaHubError, match="scaling of its own"):
        rope_parameters(scaled.config, "yarn", 2.0, 32)
