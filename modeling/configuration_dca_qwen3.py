"""The configuration of Qwen3 models with Dual Chunk Attention."""

from transformers import Qwen3Config

from .dual_chunk_config import DualChunkConfigMixin, auto_classes


class DualChunkQwen3Config(DualChunkConfigMixin, Qwen3Config):
    """A `Qwen3Config` with `dual_chunk_attention_config` (see dual_chunk_config)."""

    auto_classes = auto_classes("qwen3", "Qwen3")

    def __init__(self, **kwargs):
        super().__init__(**kwargs)


DualChunkQwen3Config.register_for_auto_class()
