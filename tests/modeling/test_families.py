"""Models whose layers are of several kinds, and other layouts: each against an explicit reference, and packaged."""

import copy

import pytest
import torch
import transformers
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, DynamicCache, StaticCache

from benchmarks import families
from dca_hub import extend
from dca_hub.compat import with_cache
from support.tiny_models import MIXED, tokens

pytestmark = pytest.mark.filterwarnings("ignore:.*not in the list of supported models")
# A type for each kind of layer, and for each rotary layout.
KINDS = {
    "qwen2": "windows in some layers",
    "gemma3_text": "windows, and a rotary table for each kind of layer",
    "gemma2": "windows and soft caps",
    "olmo3": "windows",
    "gpt_oss": "windows, sinks and tables of half the size",
    "smollm3": "layers without rotary positions",
    "qwen3_next": "linear layers and a part that is rotated",
    "qwen3_5_text": "linear layers and mrope",
    "cohere": "interleaved pairs",
    "glm": "interleaved pairs in a part of the head",
    "ernie4_5": "interleaved pairs",
    "stablelm": "layers that hand on nothing but positions",
    "glm4_moe": "a part that is rotated",
    "deepseek_v3": "latent attention",
    "deepseek_v2": "latent attention in interleaved pairs",
    "nanochat": "pairs that rotate the other way",
    "qwen2_moe": "a window of 0, which is none",
    "hunyuan_v1_dense": "queries and keys that are weighed after their rotation",
    "dory": "the same, head by head, in layers that run more than once",
    "granite_swa": "a rotary base for each layer, windows and sinks",
    "minimax": "linear layers that are handed positions",
    "lfm3": "windows, convolutions and a table for each kind",
    "zaya": "attention behind a convolution, in windows and without",
    "gptj": "sines and cosines from a fixed table",
    "doge": "masks that the model makes itself",
    "mllama": "a text model whose base is not its base_model",
}


@pytest.mark.parametrize("model_type", KINDS)
def test_kinds_of_layers_and_layouts(model_type):
    if model_type not in CONFIG_MAPPING:
        pytest.skip(f"this version of transformers has no {model_type}")
    row = families.examine(model_type)
    if row.outcome == "refused" and f"transformers {transformers.__version__} " not in families.DOCUMENT.read_text():
        pytest.skip(f"under a version older than the table's: {row.words}")
    assert row.outcome == "served", row.words
    assert len(row.checks) == 4 and row.is_right, row.checks


def test_padding_that_the_model_sees_is_not_excused(monkeypatch):
    """Only a base model that sees padding itself excuses the DCA model."""
    padded = families._padded

    def without_mask(model, ids):
        if hasattr(model, "dual_chunk_plan"):
            return model(torch.nn.functional.pad(ids[:, :-7], (7, 0)), use_cache=False).logits[:, 7:]
        return padded(model, ids)

    monkeypatch.setattr(families, "_padded", without_mask)
    row = families.examine("llama")
    assert not row.is_right and dict(row.checks)["padding"] > families.IN_STEPS


def test_the_reference_would_show_a_wrong_layout(monkeypatch):
    """A layout that is taken for another one is far from the reference."""
    monkeypatch.setattr("dca_hub.modeling.dual_chunk_layers._partner", lambda apply: 4)
    monkeypatch.setattr("dca_hub.extending._try_out", lambda *models: None)
    row = families.examine("cohere")
    assert dict(row.checks)["reference"] > 1e-3


def test_layers_that_are_left_keep_their_caches():
    model = families.build("gemma3_text")
    dca = extend(model, families.L, chunk_size=families.C, local_size=families.W)
    cache = DynamicCache(config=dca.config)
    with torch.no_grad():
        dca(tokens(60), **with_cache(dca, cache))
    kinds = [layer.keys.shape[2] for layer in cache.layers]
    windows = [kind == "sliding_attention" for kind in dca.config.layer_types]
    assert [length < 60 for length in kinds] == windows and any(windows) and not all(windows)


@torch.no_grad()
@pytest.mark.parametrize("model_type", ["gemma3_text", "gpt_oss", "smollm3"])
def test_static_caches(model_type):
    model = families.build(model_type)
    dca, ids = extend(model, families.L, chunk_size=families.C, local_size=families.W), tokens(60)
    whole = dca(ids, use_cache=False).logits
    cache, out = StaticCache(config=dca.config, max_cache_len=64), []
    for start, end in ((0, 37), *((at, at + 1) for at in range(37, 60))):
        out.append(dca(ids[:, start:end], **with_cache(dca, cache)).logits)
    torch.testing.assert_close(torch.cat(out, 1), whole, rtol=0, atol=1e-6 * whole.abs().max().item())


@torch.no_grad()
def test_packed_documents_stay_apart_in_every_layer():
    model = families.build("gemma3_text")
    dca = extend(model, families.L, chunk_size=families.C, local_size=families.W)
    a, b = tokens(35, seed=1), tokens(25, seed=2)
    positions = torch.cat([torch.arange(35), torch.arange(25)])[None]
    out = dca(torch.cat([a, b], 1), position_ids=positions).logits
    alone = torch.cat([dca(x).logits for x in (a, b)], 1)
    torch.testing.assert_close(out, alone, rtol=0, atol=1e-6 * alone.abs().max().item())
    with pytest.raises(ValueError, match="only without a cache and a mask"):
        dca(torch.cat([a, b], 1), position_ids=positions, attention_mask=torch.ones(1, 60))


def test_packed_documents_are_refused_where_linear_layers_would_mix_them():
    dca = extend(families.build("qwen3_next"), families.L, chunk_size=families.C, local_size=families.W)
    positions = torch.cat([torch.arange(35), torch.arange(25)])[None]
    with pytest.raises(ValueError, match="linear layers cannot keep documents packed in one row apart"):
        dca(tokens(60), position_ids=positions)


def test_masks_of_four_dimensions_are_refused_where_layers_differ():
    dca = extend(families.build("gemma3_text"), families.L, chunk_size=families.C, local_size=families.W)
    with pytest.raises(ValueError, match="attention_mask has four dimensions"):
        dca(tokens(9), attention_mask=torch.ones(1, 1, 9, 9, dtype=torch.bool))


def test_gradients_reach_sinks_and_every_layer():
    dca = extend(families.build("gpt_oss"), families.L, chunk_size=families.C, local_size=families.W).train()
    dca.gradient_checkpointing_enable()
    dca(tokens(60), use_cache=False).logits.square().sum().backward()
    for layer in dca.model.layers:
        assert layer.self_attn.sinks.grad.abs().min() > 0 and layer.self_attn.q_proj.weight.grad.abs().sum() > 0


def test_every_packaged_family_of_several_kinds_is_examined():
    assert set(MIXED) <= KINDS.keys(), "name the new family in KINDS"


@torch.no_grad()
@pytest.mark.parametrize("family", MIXED)
def test_packaged_families_save_and_load(family, tmp_path):
    config = copy.deepcopy(families.build(family).config)
    config._attn_implementation = "eager"
    plain = AutoModelForCausalLM.from_config(config).eval()
    dca = extend(plain, families.L, chunk_size=families.C, local_size=families.W)
    assert type(dca).__module__.endswith(f"modeling_dca_{family}")
    dca.save_pretrained(tmp_path)
    assert "dual_chunk_layers.py" in {path.name for path in tmp_path.iterdir()}
    with pytest.raises((ValueError, ImportError)):
        AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True, trust_remote_code=False)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True, trust_remote_code=True).eval()
    assert again.dual_chunk_plan.describe() == dca.dual_chunk_plan.describe()
    torch.testing.assert_close(again(tokens(60)).logits, dca(tokens(60)).logits, rtol=0, atol=1e-4)
    assert AutoConfig.from_pretrained(tmp_path, trust_remote_code=True).model_type == family
    for auto, served in dca.config.auto_classes.items():
        assert auto == "AutoConfig" or served.split(".")[1].startswith("DualChunk")
