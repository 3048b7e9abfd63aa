"""What a DCA model cannot run, refused in words."""

import torch

from .dual_chunk_config import PUBLIC_ATTENTION

# The name under which the attention is registered. Not the public one (dual_chunk_config), and without "flash",
# which transformers would route through its own flash paths.
ATTENTION = "dual_chunk"
# The same for models of which some layers stay as they are, and need their masks.
LAYERED_ATTENTION = "dual_chunk_layered"
ROPE_TYPES = ("default", "linear", "dynamic", "yarn", "llama3", "proportional")


LEAST_TORCH = "2.9"  # before it flash attention on a CPU reads beside the keys where query heads share them


def refuse_old_torch() -> None:
    """Raises ValueError where PyTorch is too old."""
    if torch.__version__ < LEAST_TORCH:
        raise ValueError(
            f"Dual Chunk Attention needs PyTorch {LEAST_TORCH} or later, and this is {torch.__version__}: "
            f"pip install 'torch>={LEAST_TORCH}'."
        )


def refuse_other_attention(name: str | None) -> None:
    """Raises ValueError for an attention implementation that would read this model's keys as the base model's."""
    if name not in (None, ATTENTION, LAYERED_ATTENTION, PUBLIC_ATTENTION):
        raise ValueError(
            f"a DCA model cannot run attn_implementation={name!r}: its cached keys stand at positions within their "
            "chunk. Leave attn_implementation out; flash-attn is used by itself where it is installed."
        )


def refuse_windows_alone(config) -> None:
    """Raises ValueError for a model whose attention, with a rotary module in each layer, is all in windows."""
    window = getattr(config, "attention_window_size", None)
    if window:
        raise ValueError(
            "no layer of this model has both full attention and rotary positions, so there is nothing for Dual Chunk "
            f"Attention to change (a window of {window:,} tokens): use the model as it is."
        )


def refuse_unfit(config) -> None:
    """Raises ValueError for a configuration whose attention Dual Chunk Attention cannot stand in for."""
    kinds = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    if window and (kinds is None or all(kind == "sliding_attention" for kind in kinds)):
        raise ValueError(
            f"this model attends through a sliding window ({window} tokens), which Dual Chunk Attention replaces: set "
            "sliding_window to null in its config to let every layer see everything."
        )
    rope = getattr(config, "rope_parameters", None) or {}
    tables = {kind: table for kind, table in rope.items() if isinstance(table, dict)} or {None: rope}
    for table in tables.values():
        kind = table.get("rope_type") or "default"
        if isinstance(kind, str) and kind not in ROPE_TYPES:
            raise ValueError(f"Dual Chunk Attention does not serve rope_type {kind!r}, only {', '.join(ROPE_TYPES)}.")
        if kind == "dynamic" and None not in tables:
            raise ValueError("Dual Chunk Attention does not serve dynamic NTK scaling by kind of layer.")
