"""The configuration of Mistral models with Dual Chunk Attention."""

from transformers import MistralConfig

from .dual_chunk_config import DualChunkConfigMixin, auto_classes


class DualChunkMistralConfig(DualChunkConfigMixin, MistralConfig):
    """A `MistralConfig` with `dual_chunk_attention_config` (see dual_chunk_config)."""

    auto_classes = auto_classes("mistral", "Mistral")

    def __init__(self, **kwargs):
        super().__init__(**kwargs)


DualChunkMistralConfig.register_for_auto_class()
