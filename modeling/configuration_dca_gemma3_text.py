"""The configuration of Gemma 3 text models with Dual Chunk Attention."""

from transformers import Gemma3TextConfig

from .dual_chunk_config import DualChunkConfigMixin, auto_classes


class DualChunkGemma3TextConfig(DualChunkConfigMixin, Gemma3TextConfig):
    """A `Gemma3TextConfig` with `dual_chunk_attention_config` (see dual_chunk_config)."""

    auto_classes = auto_classes(
        "gemma3_text",
        "Gemma3Text",
        {
            "AutoModel": "Gemma3TextModel",
            "AutoModelForCausalLM": "Gemma3ForCausalLM",
            "AutoModelForSequenceClassification": "Gemma3TextForSequenceClassification",
        },
    )

    def __init__(self, **kwargs):
        super().__init__(**kwargs)


DualChunkGemma3TextConfig.register_for_auto_class()
