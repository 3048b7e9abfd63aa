"""The configuration of Olmo 3 models with Dual Chunk Attention."""

from transformers import Olmo3Config

from .dual_chunk_config import DualChunkConfigMixin, auto_classes


class DualChunkOlmo3Config(DualChunkConfigMixin, Olmo3Config):
    """A `Olmo3Config` with `dual_chunk_attention_config` (see dual_chunk_config)."""

    auto_classes = auto_classes(
        "olmo3",
        "Olmo3",
        {
            "AutoModel": "Olmo3Model",
            "AutoModelForCausalLM": "Olmo3ForCausalLM",
            "AutoModelForSequenceClassification": "Olmo3ForSequenceClassification",
        },
    )

    def __init__(self, **kwargs):
        super().__init__(**kwargs)


DualChunkOlmo3Config.register_for_auto_class()
