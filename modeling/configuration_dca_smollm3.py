"""The configuration of SmolLM3 models with Dual Chunk Attention."""

from transformers import SmolLM3Config

from .dual_chunk_config import DualChunkConfigMixin, auto_classes


class DualChunkSmolLM3Config(DualChunkConfigMixin, SmolLM3Config):
    """A `SmolLM3Config` with `dual_chunk_attention_config` (see dual_chunk_config)."""

    auto_classes = auto_classes("smollm3", "SmolLM3")

    def __init__(self, **kwargs):
        super().__init__(**kwargs)


DualChunkSmolLM3Config.register_for_auto_class()
