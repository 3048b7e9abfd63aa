"""Checkpoints as people have them: plain ones are untouched, DCA comes by an override, what cannot be is refused."""

import json

import pytest

from dca_hub.modeling.dual_chunk_config import CONFIG_KEY, config_from_geometry
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from support.engine_results import apart, check_written, prompt

pytestmark = pytest.mark.vllm
HOOKS = "dca_hub.vllm_plugin.hooks"
# config.json of Qwen2.5-7B-Instruct-1M, what is about positions and attention.
QWEN_1M = {
    "dual_chunk_attention_config": {
        "chunk_size": 262144,
        "local_size": 8192,
        "original_max_position_embeddings": 262144,
    },
    "max_position_embeddings": 1010000,
    "max_window_layers": 28,
    "rope_theta": 10000000.0,
    "sliding_window": 1010000,
    "use_sliding_window": False,
}


def edit(folder, changes: dict) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")


@pytest.fixture
def plain(served, tmp_path):
    served().plain.save_pretrained(tmp_path / "plain")
    return tmp_path / "plain"


def test_a_plain_model_is_untouched_to_the_bit(plain, engine):
    requests = [{"ids": prompt(200), "max_tokens": 20, "prompt_logprobs": True}]
    with_plugin, without, broken = (
        engine(plain, requests, **how)["rounds"] for how in ({}, {"env": {"VLLM_PLUGINS": ""}}, {"broken": [HOOKS]})
    )
    assert with_plugin == without == broken


def test_an_override_makes_a_plain_checkpoint_a_dca_model(served, plain, engine):
    model, ids = served(), prompt(300)
    config = served().model.config.dual_chunk_attention_config
    requests = [{"ids": ids, "max_tokens": 4, "prompt_logprobs": True}]
    result = engine(plain, requests, hf_overrides={CONFIG_KEY: config, "max_position_embeddings": 2048})
    assert apart(result["rounds"][0][0]["prompt_logprobs"], model.logprobs(ids)) < 1e-4
    check_written(model, ids, result["rounds"][0][0])


def test_a_package_whose_code_is_trusted(served, engine):
    model, ids = served("qwen3"), prompt(200)
    result = engine(model.folder, [{"ids": ids, "prompt_logprobs": True}], trust_remote_code=True)
    assert apart(result["rounds"][0][0]["prompt_logprobs"], model.logprobs(ids)) < 1e-4


@pytest.mark.parametrize("trusted", [False, True])
def test_without_the_plug_in_vllm_refuses_a_dca_model(trusted, served, engine):
    """By the native class it would run plain attention without a word; trusted, by its Transformers backend."""
    without = {"env": {"VLLM_PLUGINS": ""}, "trust_remote_code": trusted}
    said = engine(served().folder, [{"ids": prompt(5)}], fails=True, **without)
    assert ("a DCA model cannot run attn_implementation='vllm'" if trusted else "DualChunkLlamaForCausalLM") in said


def test_the_config_of_qwen_1m(served, tmp_path, engine):
    theta = {"rope_parameters": {"rope_type": "default", "rope_theta": QWEN_1M["rope_theta"]}}
    small = DualChunkGeometry(64, 16, 64)
    model, ids = served("qwen2", small, **theta), prompt(300)
    folder = tmp_path / "qwen"
    model.plain.save_pretrained(folder)
    edit(folder, QWEN_1M)
    requests = [{"ids": ids, "prompt_logprobs": True}]
    result = engine(folder, requests, max_model_len=2048)
    assert apart(result["rounds"][0][0]["prompt_logprobs"], model.logprobs(ids, dca=False)) < 1e-4

    engines_keys = {"sparse_attention_enabled": True, "sparse_attention_threshold": 1.0}
    edit(folder, {CONFIG_KEY: config_from_geometry(small) | engines_keys})
    result = engine(folder, requests, max_model_len=2048)
    assert apart(result["rounds"][0][0]["prompt_logprobs"], model.logprobs(ids)) < 1e-4


@pytest.mark.parametrize(
    "how, words",
    [
        ({"broken": [HOOKS]}, "the plug-in that serves it could not be installed (ModuleNotFoundError"),
        ({"hf_overrides": {"sliding_window": 64}}, "attends through a sliding window"),
        ({"hf_overrides": {CONFIG_KEY: {"chunk_size": 64}}}, "lacks local_size, original_max_position_embeddings"),
    ],
    ids=["plug-in broken", "sliding window", "settings incomplete"],
)
def test_a_dca_model_that_cannot_be_right_is_refused(how, words, served, engine):
    model = served("mistral" if "sliding" in words else "llama")
    assert words in engine(model.folder, [{"ids": prompt(5)}], fails=True, **how)
