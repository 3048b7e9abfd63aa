"""The configuration of Qwen2 models with Dual Chunk Attention."""

from transformers import Qwen2Config

from .dual_chunk_config import DualChunkConfigMixin, auto_classes


class DualChunkQwen2Config(DualChunkConfigMixin, Qwen2Config):
    """A `Qwen2Config` with `dual_chunk_attention_config` (see dual_chunk_config)."""

    auto_classes = auto_classes("qwen2", "Qwen2")

    def __init__(self, **kwargs):
        super().__init__(**kwargs)


DualChunkQwen2Config.register_for_auto_class()
