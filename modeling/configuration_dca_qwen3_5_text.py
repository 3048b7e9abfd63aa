"""The configuration of Qwen3.5 text models with Dual Chunk Attention."""

from transformers import Qwen3_5TextConfig

from .dual_chunk_config import DualChunkConfigMixin, auto_classes


class DualChunkQwen3_5TextConfig(DualChunkConfigMixin, Qwen3_5TextConfig):
    """A `Qwen3_5TextConfig` with `dual_chunk_attention_config` (see dual_chunk_config)."""

    auto_classes = auto_classes(
        "qwen3_5_text",
        "Qwen3_5Text",
        {
            "AutoModel": "Qwen3_5TextModel",
            "AutoModelForCausalLM": "Qwen3_5ForCausalLM",
            "AutoModelForSequenceClassification": "Qwen3_5TextForSequenceClassification",
        },
    )

    def __init__(self, **kwargs):
        super().__init__(**kwargs)


DualChunkQwen3_5TextConfig.register_for_auto_class()
