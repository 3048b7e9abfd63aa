"""What a DCA model cannot run, refused in words."""

from .dual_chunk_config import PUBLIC_ATTENTION

# The name under which the attention is registered. Not the public one (dual_chunk_config), and without "flash",
# which transformers would route through its own flash paths.
ATTENTION = "dual_chunk"
ROPE_TYPES = ("default", "linear", "dynamic", "yarn", "llama3")


def refuse_other_attention(name: str | None) -> None:
    """Raises ValueError for an attention implementation that would read this model's keys as the base model's."""
    if name not in (None, ATTENTION, PUBLIC_ATTENTION):
        raise ValueError(
            f"a DCA model cannot run attn_implementation={name!r}: its cached keys stand at positions within their "
            "chunk. Leave attn_implementation out; flash-attn is used by itself where it is installed."
        )


def refuse_unfit(config) -> None:
    """Raises ValueError for a configuration whose attention Dual Chunk Attention cannot stand in for."""
    windows = [kind for kind in getattr(config, "layer_types", None) or () if kind != "full_attention"]
    if windows or getattr(config, "sliding_window", None) is not None:
        raise ValueError(
            f"this model attends through a sliding window ({getattr(config, 'sliding_window', None)} tokens), which "
            "Dual Chunk Attention replaces: set sliding_window to null in its config to let every layer see everything."
        )
    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type") or "default"
    if isinstance(kind, str) and kind not in ROPE_TYPES:
        raise ValueError(f"Dual Chunk Attention does not serve rope_type {kind!r}, only {', '.join(ROPE_TYPES)}.")
