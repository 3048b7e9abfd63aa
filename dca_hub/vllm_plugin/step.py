"""What vLLM holds about the step that it runs, by layer."""

from typing import Any

from vllm.forward_context import get_forward_context


def layer_metadata(layer_name: str) -> Any:
    """The attention metadata of a layer: vLLM writes the cache outside of `forward` and hands on none there."""
    metadata = get_forward_context().attn_metadata
    if isinstance(metadata, list):
        metadata = metadata[0]
    return metadata[layer_name] if isinstance(metadata, dict) else metadata
