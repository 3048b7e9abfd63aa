"""What a DCA model is not served with, each in a sentence; needs no vLLM."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.vllm_plugin import refusals


def model(**config):
    given = {"model_type": "llama", "rope_parameters": None, "hidden_size": 256, "num_attention_heads": 4}
    return SimpleNamespace(hf_config=SimpleNamespace(**given | config))


def options(**changes):
    given = {"speculative_config": None, "kv_transfer_config": None, "parallel_config": parallel()}
    return SimpleNamespace(**given | changes)


def parallel(**changes):
    given = {"decode_context_parallel_size": 1, "prefill_context_parallel_size": 1, "use_ubatching": False}
    return SimpleNamespace(**given | changes)


def layer(**changes):
    given = {
        "use_mla": False,
        "has_sink": False,
        "use_sparse": False,
        "use_mm_prefix": False,
        "has_sliding_window": False,
        "use_non_causal": False,
        "attn_type": "decoder",
        "kv_cache_dtype": "auto",
        "use_batch_invariant": False,
    }
    return SimpleNamespace(**given | changes)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"rope_parameters": {"rope_type": "llama3"}},
        {"model_type": "qwen2", "sliding_window": 32768, "use_sliding_window": False},
        {"model_type": "qwen2", "head_dim": 64},
        {"model_type": "mistral", "sliding_window": None},
        {"layer_types": ["full_attention"]},
    ],
)
def test_models_that_are_served(config):
    refusals.refuse_model(model(**config))
    refusals.refuse_engine(options())
    refusals.refuse_engine(options(speculative_config=SimpleNamespace(method="ngram")))
    refusals.refuse_selection(layer(), "cuda")


@pytest.mark.parametrize(
    "config, words",
    [
        ({"model_type": "llama4"}, "models of type 'llama4'"),
        ({"model_type": "gpt_oss"}, "which have layers with a window beside full ones, and attention sinks"),
        ({"model_type": "smollm3"}, "which have layers without rotary positions"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "rope_type 'dynamic'"),
        ({"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1]}}, "rope_type 'mrope'"),
        ({"model_type": "mistral", "sliding_window": 4096}, "sliding window"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding window"),
        ({"model_type": "qwen2", "head_dim": 128}, "this one's is 128"),
    ],
)
def test_models_that_are_not(config, words):
    with pytest.raises(ValueError, match=words):
        refusals.refuse_model(model(**config))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"speculative_config": SimpleNamespace(method="eagle")}, "speculative decoding by 'eagle'"),
        ({"kv_transfer_config": object()}, "KV connector"),
        ({"parallel_config": parallel(decode_context_parallel_size=2)}, "tensor or pipeline parallel"),
        ({"parallel_config": parallel(use_ubatching=True)}, "without --enable-dbo"),
    ],
)
def test_options_that_are_not(changes, words):
    with pytest.raises(ValueError, match=words):
        refusals.refuse_engine(options(**changes))


@pytest.mark.parametrize("piecewise, operators, breakable, right", [
    (True, ["vllm::unified_kv_cache_update"], False, True),
    (True, ["vllm::unified_kv_cache_update"], True, False),
    (True, ["vllm::unified_attention"], False, False),
    (True, None, False, False),
    (False, [], True, True),
])  # fmt: skip
def test_graphs_that_keys_would_be_written_in(piecewise, operators, breakable, right):
    mode = SimpleNamespace(has_piecewise_cudagraphs=lambda: piecewise)
    compilation = SimpleNamespace(cudagraph_mode=mode, splitting_ops=operators)
    with nullcontext() if right else pytest.raises(ValueError, match="FULL_DECODE_ONLY"):
        refusals.refuse_graphs(compilation, breakable)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"use_mla": True}, "latent attention"),
        ({"has_sink": True}, "attention sinks"),
        ({"has_sliding_window": True}, "a sliding window"),
        ({"attn_type": "encoder_only"}, "non-causal attention"),
        ({"kv_cache_dtype": "fp8"}, "a quantized KV cache"),
    ],
)
def test_layers_that_are_not(changes, words):
    with pytest.raises(ValueError, match=words):
        refusals.refuse_selection(layer(**changes), "cpu")


def test_devices_and_features_of_layers():
    with pytest.raises(ValueError, match="no vLLM back end for 'rocm'"):
        refusals.refuse_selection(layer(), "rocm")
    refusals.refuse_layer(ALiBi=False, a_cap_on_logits=0, attention_sinks=None)
    with pytest.raises(ValueError, match="a cap on logits"):
        refusals.refuse_layer(a_cap_on_logits=30.0)


def test_pages_that_chunks_are_not_made_of():
    refusals.refuse_pages(DualChunkGeometry(4096, 1024, 4096), 128)
    with pytest.raises(ValueError, match=r"must be a multiple of the KV-cache block size .*: pass --block-size 32"):
        refusals.refuse_pages(DualChunkGeometry(100, 4, 100), 128)


def test_a_gpu_that_the_kernels_cannot_serve():
    backend = SimpleNamespace(validate_configuration=lambda **asked: ["dtype not supported"])
    asked = SimpleNamespace(_asdict=dict)
    refusals.refuse_backend(backend, asked, None)
    with pytest.raises(ValueError, match="dtype not supported"):
        refusals.refuse_backend(backend, asked, (8, 0))


def test_every_packaged_family_is_served_or_refused_by_name():
    from dca_hub.families import FAMILIES

    assert set(FAMILIES) == set(refusals.FAMILIES) | set(refusals._UNSERVED)
