"""The configuration of Qwen3Moe models with Dual Chunk Attention."""

from transformers import Qwen3MoeConfig

from .dual_chunk_config import DualChunkConfigMixin, auto_classes


class DualChunkQwen3MoeConfig(DualChunkConfigMixin, Qwen3MoeConfig):
    """A `Qwen3MoeConfig` with `dual_chunk_attention_config` (see dual_chunk_config)."""

    auto_classes = auto_classes("qwen3_moe", "Qwen3Moe")

    def __init__(self, **kwargs):
        super().__init__(**kwargs)


DualChunkQwen3MoeConfig.register_for_auto_class()
