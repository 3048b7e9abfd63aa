"""extend: what is shared, what stays as it was, what is refused, and families that are not listed."""

import copy
import warnings
from dataclasses import asdict

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    Cohere2Config,
    DogeConfig,
    FalconConfig,
    GPT2Config,
    LlamaForCausalLM,
    OlmoConfig,
    Phi3Config,
    SmolLM3Config,
)

from dca_hub import DcaHubError, extend
from dca_hub.compat import cache_of, with_cache
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.sizes import default_sizes
from support.explicit_reference import explicit_logits
from support.tiny_models import FAMILIES, GEOMETRY, as_dca, tiny_config, tiny_model, tokens

families = pytest.mark.parametrize("family", FAMILIES)
SMALL = {
    "vocab_size": 97,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}


def built(config_class, **changes):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config_class(**{**SMALL, "intermediate_size": 96, **changes})).eval()


@torch.no_grad()
@families
def test_weights_are_shared_and_the_given_model_stays_plain(family):
    plain, ids = tiny_model(family), tokens(60)
    config, logits, keys = plain.config.to_dict(), plain(ids).logits, list(plain.state_dict())
    dca = as_dca(plain)
    dca(ids)
    assert plain.config.to_dict() == config and type(plain).__name__ == type(dca).__name__.removeprefix("DualChunk")
    assert torch.equal(plain(ids).logits, logits)
    assert list(dca.state_dict()) == keys
    assert all(mine is base for mine, base in zip(dca.parameters(), plain.parameters(), strict=True))
    pointers = [[p.data_ptr() for p in model.state_dict().values()] for model in (plain, dca)]
    assert pointers[0] == pointers[1]
    assert not any(p.is_meta for p in (*dca.parameters(), *dca.buffers()))
    assert plain.config._attn_implementation == "sdpa"
    rotary = plain.base_model.rotary_emb
    assert rotary.config is plain.config and rotary is not dca.base_model.rotary_emb.inner


@torch.no_grad()
def test_dynamic_frequencies_of_the_given_model_are_left_to_it():
    plain = tiny_model("llama", rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0})
    dca = as_dca(plain)
    plain(tokens(90))
    long = plain.base_model.rotary_emb.inv_freq.clone()
    dca(tokens(20))
    dca(tokens(70))
    assert torch.equal(plain.base_model.rotary_emb.inv_freq, long)


@torch.no_grad()
@families
def test_two_sizes_of_one_model_live_side_by_side(family):
    plain, ids = tiny_model(family), tokens(60)
    other = DualChunkGeometry(16, 4, 32, 0.2)
    first, second = as_dca(plain), as_dca(plain, other)
    a, b = first(ids).logits, second(ids).logits
    assert (a - b).abs().max() > 0.01
    assert torch.equal(first(ids).logits, a)
    torch.testing.assert_close(b, explicit_logits(plain, ids, other), rtol=0, atol=1e-4)


@torch.no_grad()
def test_another_model_of_the_class_is_not_touched():
    bystander = tiny_model("llama", seed=3)
    before = bystander(tokens(60)).logits
    dca = as_dca(tiny_model("llama"))
    dca(tokens(60))
    assert torch.equal(bystander(tokens(60)).logits, before)
    assert torch.equal(tiny_model("llama", seed=3)(tokens(60)).logits, before)


@torch.no_grad()
@families
@pytest.mark.parametrize(
    "auto", [AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoModelForQuestionAnswering]
)
def test_other_heads(family, auto):
    torch.manual_seed(0)
    plain = auto.from_config(tiny_config(family)).eval()
    dca = as_dca(plain)
    short, long = tokens(GEOMETRY.chunk_length), tokens(60)
    assert torch.equal(dca(short)[0], plain(short)[0])
    assert (dca(long)[0] - plain(long)[0]).abs().max() > 1e-3
    bare = as_dca(plain.base_model)
    assert torch.equal(bare(long).last_hidden_state, dca.base_model(long).last_hidden_state)


def test_head_without_a_class_of_its_own_is_told_to_be_unlisted():
    plain = tiny_model("llama")
    other = type("MyLlama", (type(plain),), {})(plain.config).eval()
    with pytest.warns(UserWarning, match="MyLlama is not in the list of supported models"):
        assert as_dca(other)(tokens(40)).logits.isfinite().all()


def test_sizes_by_default_follow_the_familys_rule():
    geometry = extend(tiny_model("llama")).base_model.rotary_emb.geometry
    assert geometry == DualChunkGeometry(24, 4, 32)
    geometry = extend(tiny_model("qwen2")).base_model.rotary_emb.geometry
    assert geometry == DualChunkGeometry(24, 2, 32)
    geometry = extend(tiny_model("llama"), 64).base_model.rotary_emb.geometry
    assert geometry == DualChunkGeometry(*default_sizes(64, "llama"), 64)
    geometry = extend(tiny_model("llama"), chunk_size=20, temperature=0.1).base_model.rotary_emb.geometry
    assert geometry == DualChunkGeometry(20, 4, 32, 0.1)
    geometry = extend(tiny_model("llama"), chunk_size=3).base_model.rotary_emb.geometry
    assert geometry == DualChunkGeometry(3, 2, 32)


def test_sizes_in_the_config_come_first():
    """As Qwen2.5-1M publishes them, with the keys of its sparse attention."""
    sizes = {"chunk_size": 28, "local_size": 4, "original_max_position_embeddings": 30, "temperature": 0.1}
    config = tiny_config("qwen2", dual_chunk_attention_config=sizes | {"sparse_attention_enabled": True})
    dca = extend(AutoModelForCausalLM.from_config(config))
    assert dca.base_model.rotary_emb.geometry == DualChunkGeometry(28, 4, 30, 0.1)


@torch.no_grad()
def test_temperature():
    plain, ids = tiny_model("llama"), tokens(60)
    warm = DualChunkGeometry(24, 8, 32, 0.3)
    dca = extend(plain, 32, chunk_size=24, local_size=8, temperature=0.3)
    torch.testing.assert_close(dca(ids).logits, explicit_logits(plain, ids, warm), rtol=0, atol=1e-4)
    assert dca.config.dual_chunk_attention_config["temperature"] == 0.3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pretraining_length": 8}, "at least 16"),
        ({"pretraining_length": 32.0}, "whole number"),
        ({"chunk_size": 33}, "must not exceed"),
        ({"chunk_size": 0}, "chunk_size must be a whole number"),
        ({"chunk_size": 24, "local_size": 24}, "must be smaller than chunk_size"),
        ({"local_size": -1}, "local_size must be a whole number"),
        ({"temperature": -1}, "temperature must be a number"),
    ],
)
def test_sizes_that_are_none_are_refused_in_a_sentence(arguments, words):
    with pytest.raises(DcaHubError, match=words) as error:
        extend(tiny_model("llama"), **arguments)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_what_is_no_model_is_refused():
    for thing in (nn.Linear(2, 2), "llama", nn.DataParallel(tiny_model("llama"))):
        with pytest.raises(DcaHubError, match="extend takes a transformers model"):
            extend(thing)
    with pytest.raises(DcaHubError, match="a DCA model already"):
        extend(as_dca(tiny_model("llama")))


@pytest.mark.parametrize(
    ("config_class", "changes", "words"),
    [
        (GPT2Config, {"n_positions": 32}, "needs RoPE"),
        (
            Cohere2Config,
            {"num_key_value_heads": 2, "sliding_window": 12, "num_hidden_layers": 4},
            "nothing for Dual Chunk",
        ),
        (FalconConfig, {"alibi": False, "new_decoder_architecture": False}, "in its own code"),
    ],
)
def test_families_that_do_not_fit_are_refused_in_a_sentence(config_class, changes, words):
    if config_class is GPT2Config:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=97, n_embd=64, n_layer=2, n_head=4, **changes))
    else:
        model = built(config_class, **changes)
    with pytest.raises(DcaHubError, match=words) as error, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        extend(model, 32)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_plan_is_told():
    """SmolLM3 leaves rotary positions out of some layers, Qwen2 gives some a window: they stay what they are."""
    plain = built(SmolLM3Config, num_key_value_heads=2, no_rope_layers=[1, 0])
    extended = as_dca(plain)
    words = extended.dual_chunk_plan.describe()
    assert words == "1 of 2 layers have Dual Chunk Attention; 1 left as they are: no rotary positions."
    assert [layer.changed for layer in extended.dual_chunk_plan.layers] == [True, False]
    windowed = tiny_model("qwen2", sliding_window=12, use_sliding_window=True, max_window_layers=1)
    words = as_dca(windowed).dual_chunk_plan.describe()
    assert words == "1 of 2 layers have Dual Chunk Attention; 1 left as they are: a window of 12 tokens."


def test_window_wider_than_the_trained_length_is_refused():
    windowed = tiny_model("qwen2", sliding_window=33, use_sliding_window=True, max_window_layers=1)
    with pytest.raises(
        DcaHubError, match=r"layer 1 attends through a sliding window \(33 tokens\) beyond the trained 32"
    ):
        as_dca(windowed)


def test_layers_with_a_mask_of_their_own_are_found(monkeypatch):
    """Where nobody has looked at what the mask is made of."""
    monkeypatch.setattr("dca_hub.modeling.dual_chunk_layers._OWN_MASKS", set())
    model = built(DogeConfig, num_key_value_heads=2)
    for layer in model.model.layers:
        nn.init.normal_(layer.self_attn.A)
    with pytest.raises(DcaHubError, match="masks keys by a rule of its own"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        extend(model, 32)


@torch.no_grad()
@pytest.mark.parametrize(
    ("config_class", "changes"),
    [
        (OlmoConfig, {}),
        (OlmoConfig, {"num_key_value_heads": 2}),
        (Phi3Config, {"num_key_value_heads": 2, "head_dim": 16}),
        (Phi3Config, {"num_key_value_heads": 2, "partial_rotary_factor": 0.5}),
    ],
    ids=["olmo", "olmo grouped", "phi3", "phi3 partial rotary"],
)
def test_families_that_are_not_listed_work_with_a_warning(config_class, changes, tmp_path):
    plain, ids = built(config_class, **changes), tokens(60)
    with pytest.warns(UserWarning, match="not in the list of supported models"):
        dca = as_dca(plain)
    whole = dca(ids).logits
    if "partial_rotary_factor" not in changes:
        torch.testing.assert_close(whole, explicit_logits(plain, ids, GEOMETRY), rtol=0, atol=1e-4)
    short = ids[:, : GEOMETRY.chunk_length]
    assert torch.equal(dca(short).logits, plain(short).logits)
    assert (whole - plain(ids).logits).abs().max() > 0.01
    head = dca(ids[:, :23])
    tail = dca(ids[:, 23:], **with_cache(dca, cache_of(head))).logits
    torch.testing.assert_close(torch.cat([head.logits, tail], 1), whole, rtol=0, atol=5e-5)
    with pytest.raises(ValueError, match="no modeling files that could load it again"):
        dca.save_pretrained(tmp_path / "saved")


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_models_keep_their_dtype(dtype):
    plain = tiny_model("llama").to(dtype)
    dca = as_dca(plain)
    assert dca.dtype == dtype and dca(tokens(60)).logits.dtype == dtype


@torch.no_grad()
def test_tied_embeddings_stay_tied():
    plain = tiny_model("qwen2", tie_word_embeddings=True)
    dca = as_dca(plain)
    assert dca.lm_head.weight is dca.get_input_embeddings().weight is plain.lm_head.weight
    assert dca(tokens(40)).logits.isfinite().all()


@torch.no_grad()
def test_hooks_and_settings_of_generation_go_with_it():
    plain = tiny_model("llama")
    plain.generation_config.max_new_tokens = 3
    plain.generation_config.do_sample = False
    seen = []
    plain.model.layers[0].mlp.down_proj.register_forward_hook(lambda *_: seen.append(1))
    dca = as_dca(plain)
    assert dca.generate(tokens(40)).shape == (1, 43)
    assert seen


@torch.no_grad()
def test_model_that_accelerate_has_spread_over_devices():
    plain, ids = tiny_model("llama"), tokens(60)
    expected = as_dca(plain)(ids, use_cache=False).logits
    # As `device_map="auto"` lays them on two GPUs; here both are the CPU.
    add_hook_to_module(plain, AlignDevicesHook(io_same_device=True))
    for module in (plain.model.embed_tokens, plain.model.rotary_emb, *plain.model.layers, plain.lm_head):
        add_hook_to_module(module, AlignDevicesHook(execution_device="cpu", place_submodules=True))
    extended = extend(plain, **asdict(GEOMETRY))
    assert hasattr(extended.model.layers[0], "_hf_hook")
    torch.testing.assert_close(extended(ids, use_cache=False).logits, expected)
    assert not torch.allclose(plain(ids, use_cache=False).logits, expected, atol=1e-2)


@torch.no_grad()
def test_copy_of_a_dca_model_is_a_dca_model():
    dca = as_dca(tiny_model("llama"))
    twin = copy.deepcopy(dca)
    ids = tokens(60)
    assert torch.equal(twin(ids).logits, dca(ids).logits)
    next(twin.parameters()).zero_()
    assert next(dca.parameters()).abs().sum() > 0


@torch.no_grad()
def test_new_modules_of_the_dca_model_are_its_own():
    """Replacing a layer or resizing the embeddings, as adapters do, leaves the given model whole."""
    plain, ids = tiny_model("llama"), tokens(60)
    before = plain(ids).logits
    dca = as_dca(plain)
    dca.resize_token_embeddings(120)
    dca.model.layers[0].self_attn.q_proj = nn.Linear(64, 64, bias=False)
    assert dca(ids).logits.shape[-1] == 120
    assert torch.equal(plain(ids).logits, before)


@torch.no_grad()
@pytest.mark.parametrize("bits", [4, 8])
def test_model_quantized_by_bitsandbytes(bits, tmp_path):
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    # bitsandbytes packs whole blocks of 64 weights and leaves small layers as they are; these are large enough.
    tiny_model("llama", hidden_size=128, head_dim=32, intermediate_size=256).save_pretrained(tmp_path)
    settings = BitsAndBytesConfig(
        load_in_4bit=bits == 4, load_in_8bit=bits == 8, bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype="float32"
    )
    try:
        plain = AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=settings, device_map="cpu")
        short = tokens(GEOMETRY.chunk_length)
        expected = plain(short).logits
    except (RuntimeError, ImportError, ValueError) as error:
        pytest.skip(f"bitsandbytes cannot run here: {error}")
    dca = as_dca(plain)
    assert dca.get_memory_footprint() == plain.get_memory_footprint()
    assert getattr(dca, f"is_loaded_in_{bits}bit")
    assert type(dca.model.layers[0].mlp.up_proj).__module__.startswith("bitsandbytes")
    torch.testing.assert_close(dca(short).logits, expected, rtol=0, atol=1e-5)
    ids = tokens(60)
    whole = dca(ids).logits
    assert (whole - plain(ids).logits).abs().max() > 0.01
    head = dca(ids[:, :30])
    tail = dca(ids[:, 30:], **with_cache(dca, cache_of(head))).logits
    torch.testing.assert_close(tail, whole[:, 30:], rtol=0, atol=1e-3 if bits == 4 else 0.3)
    assert dca.generate(ids, max_new_tokens=3, do_sample=False, pad_token_id=0).shape == (1, 63)


def test_an_extended_model_is_named_for_its_reach_and_for_no_folder(tmp_path):
    """Else `generate` warns of every longer text, and an adapter would be loaded onto the plain base."""
    plain = tiny_model("llama")
    plain.save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model = extend(base, 32)
    assert model.config.max_position_embeddings == 8 * 32 and base.config.max_position_embeddings == 32
    assert not model.config._name_or_path and not model.name_or_path and base.config._name_or_path


def test_a_scaling_that_reads_the_maximum_keeps_it():
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    assert extend(tiny_model("llama", rope_parameters=rope), 32).config.max_position_embeddings == 32


def test_the_model_of_a_package_is_called_a_dca_model_already():
    model = extend(tiny_model("llama"), 32)
    foreign = type("DualChunkMixin", (), {})  # as loaded with a package's own modeling files
    model.__class__ = type("DualChunkLlamaForCausalLM", (foreign, LlamaForCausalLM), {})
    with pytest.raises(DcaHubError, match="a DCA model already"):
        extend(model)
