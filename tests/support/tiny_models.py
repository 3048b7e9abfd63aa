"""Tiny random models of every supported family, plain and as DCA models, for tests that need a whole model.

`FAMILIES` are those whose layers are all alike, which every test of `modeling` takes; the others are `MIXED`, in
`tests/modeling/test_families.py`.
"""

from dataclasses import asdict

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from dca_hub import extend, families
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry

FAMILIES = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe")
MIXED = tuple(family for family in families.FAMILIES if family not in FAMILIES)

VOCABULARY = 97
SCALINGS = {
    "linear": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0},
    "yarn": {
        "rope_type": "yarn",
        "factor": 4.0,
        "rope_theta": 10000.0,
        "original_max_position_embeddings": 32,
    },
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "rope_theta": 10000.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
}
# A chunk length (s = 16) that no length of a test is a multiple of by accident, and a window that fits a short test.
GEOMETRY = DualChunkGeometry(chunk_size=24, local_size=8, pretraining_length=32)

_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": GEOMETRY.pretraining_length,
    # Large enough that attention is sharp: with the library's 0.02 all keys weigh the same and positions hardly count.
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
}
_WINDOWS = {"sliding_window": 12, "layer_types": ["sliding_attention", "full_attention"]}
_LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
_OWN = {
    "llama": {},
    "mistral": {"sliding_window": None},
    "mixtral": {"sliding_window": None, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2": {},
    "qwen3": {},
    "qwen3_moe": _EXPERTS,
    "gemma3_text": _WINDOWS,
    "glm4_moe": {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48},
    "gpt_oss": {**_WINDOWS, "num_local_experts": 4, "num_experts_per_tok": 2},
    "olmo3": _WINDOWS,
    "qwen3_5_text": _LINEAR,
    "qwen3_next": {**_LINEAR, **_EXPERTS, "shared_expert_intermediate_size": 48},
    "smollm3": {"no_rope_layers": [1, 0]},
}


def tiny_config(family: str, **changes):
    """The configuration of a plain tiny model; two key/value heads serve four query heads."""
    if family not in _OWN:
        raise KeyError(f"_OWN of tests/support/tiny_models.py lacks {family!r}: add the sizes that its config needs.")
    settings = {**_SHAPE, **_OWN[family], **changes}
    return CONFIG_MAPPING[family](**settings)


def tiny_model(family: str, seed: int = 0, **changes):
    """A plain tiny causal LM with random float32 weights, in eval mode."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(tiny_config(family, **changes)).eval()
    model.generation_config.pad_token_id = 0
    return model


def tiny_dca(family: str, geometry: DualChunkGeometry = GEOMETRY, seed: int = 0, **changes):
    """The DCA model of `tiny_model(family)`."""
    return as_dca(tiny_model(family, seed, **changes), geometry)


def as_dca(model, geometry: DualChunkGeometry = GEOMETRY):
    return extend(model, **asdict(geometry))


def tokens(length: int, batch: int = 1, seed: int = 1) -> torch.Tensor:
    """Random token ids [batch, length], none of them padding."""
    return torch.randint(2, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))
