"""The configuration of gpt-oss models with Dual Chunk Attention."""

from transformers import GptOssConfig

from .dual_chunk_config import DualChunkConfigMixin, auto_classes


class DualChunkGptOssConfig(DualChunkConfigMixin, GptOssConfig):
    """A `GptOssConfig` with `dual_chunk_attention_config` (see dual_chunk_config)."""

    auto_classes = auto_classes(
        "gpt_oss",
        "GptOss",
        {
            "AutoModel": "GptOssModel",
            "AutoModelForCausalLM": "GptOssForCausalLM",
            "AutoModelForSequenceClassification": "GptOssForSequenceClassification",
            "AutoModelForTokenClassification": "GptOssForTokenClassification",
        },
    )

    def __init__(self, **kwargs):
        super().__init__(**kwargs)


DualChunkGptOssConfig.register_for_auto_class()
