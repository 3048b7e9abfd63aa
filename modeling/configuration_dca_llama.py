"""The configuration of Llama models with Dual Chunk Attention."""

from transformers import LlamaConfig

from .dual_chunk_config import DualChunkConfigMixin, auto_classes


class DualChunkLlamaConfig(DualChunkConfigMixin, LlamaConfig):
    """A `LlamaConfig` with `dual_chunk_attention_config` (see dual_chunk_config)."""

    auto_classes = auto_classes("llama", "Llama")

    def __init__(self, **kwargs):
        super().__init__(**kwargs)


DualChunkLlamaConfig.register_for_auto_class()
