"""The configuration of GLM-4.5 models with Dual Chunk Attention."""

from transformers import Glm4MoeConfig

from .dual_chunk_config import DualChunkConfigMixin, auto_classes


class DualChunkGlm4MoeConfig(DualChunkConfigMixin, Glm4MoeConfig):
    """A `Glm4MoeConfig` with `dual_chunk_attention_config` (see dual_chunk_config)."""

    auto_classes = auto_classes(
        "glm4_moe",
        "Glm4Moe",
        {
            "AutoModel": "Glm4MoeModel",
            "AutoModelForCausalLM": "Glm4MoeForCausalLM",
        },
    )

    def __init__(self, **kwargs):
        super().__init__(**kwargs)


DualChunkGlm4MoeConfig.register_for_auto_class()
