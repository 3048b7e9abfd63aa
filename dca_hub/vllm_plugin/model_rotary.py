"""What the layers of a model loaded by vLLM share: its geometry, and the table of cosines and sines it rotates with."""

import torch
from vllm.model_executor.layers import rotary_embedding

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.vllm_plugin import stage
from dca_hub.vllm_plugin.config import geometry_in_config, model_config_of
from dca_hub.vllm_plugin.rotary_table import RotaryTable


def geometry_and_table(vllm_config, layer_names, head_size: int, device) -> tuple[DualChunkGeometry, RotaryTable]:
    """Those of the loaded model that the layers belong to.

    Raises:
        ValueError: as `model_table`.
    """
    model_config = model_config_of(vllm_config, layer_names)
    geometry = geometry_in_config(model_config)
    stage.built(torch.device(device).type, bool(vllm_config.compilation_config.mode))
    return geometry, model_table(model_config, head_size, device, geometry)


def model_table(model_config, head_size: int, device: torch.device, geometry: DualChunkGeometry) -> RotaryTable:
    """The table that the layers of a loaded model rotate with.

    Raises:
        ValueError: the model rotates in a way of its own, or its table ends before the model length.
    """
    config, made = model_config.hf_config, len(rotary_embedding._ROPE_DICT)
    rope = rotary_embedding.get_rope(
        head_size,
        max_position=config.max_position_embeddings,
        rope_parameters=getattr(config, "rope_parameters", None),
        dtype=model_config.dtype,
    )
    if len(rotary_embedding._ROPE_DICT) != made:
        raise ValueError(
            "this model's layers do not rotate with vLLM's ordinary half-split RoPE, which Dual Chunk Attention needs: "
            "serve it with vLLM's own model class (--model-impl vllm), or with transformers."
        )
    known, needed = len(rope.cos_sin_cache), max(model_config.max_model_len, geometry.chunk_size + 1)
    if known < needed:
        raise ValueError(
            f"the RoPE scaling of this model knows {known:,} positions, and a model length of "
            f"{model_config.max_model_len:,} with chunk_size {geometry.chunk_size:,} needs {needed:,}: choose a "
            "smaller --max-model-len and chunk_size, or a larger factor in rope_parameters."
        )
    return RotaryTable(rope.cos_sin_cache.to(device))
