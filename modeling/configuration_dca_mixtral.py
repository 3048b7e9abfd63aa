"""The configuration of Mixtral models with Dual Chunk Attention."""

from transformers import MixtralConfig

from .dual_chunk_config import DualChunkConfigMixin, auto_classes


class DualChunkMixtralConfig(DualChunkConfigMixin, MixtralConfig):
    """A `MixtralConfig` with `dual_chunk_attention_config` (see dual_chunk_config)."""

    auto_classes = auto_classes("mixtral", "Mixtral")

    def __init__(self, **kwargs):
        super().__init__(**kwargs)


DualChunkMixtralConfig.register_for_auto_class()
