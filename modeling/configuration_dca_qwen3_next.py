"""The configuration of Qwen3-Next models with Dual Chunk Attention."""

from transformers import Qwen3NextConfig

from .dual_chunk_config import DualChunkConfigMixin, auto_classes


class DualChunkQwen3NextConfig(DualChunkConfigMixin, Qwen3NextConfig):
    """A `Qwen3NextConfig` with `dual_chunk_attention_config` (see dual_chunk_config)."""

    auto_classes = auto_classes("qwen3_next", "Qwen3Next")

    def __init__(self, **kwargs):
        super().__init__(**kwargs)


DualChunkQwen3NextConfig.register_for_auto_class()
