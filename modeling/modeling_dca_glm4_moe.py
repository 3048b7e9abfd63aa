"""GLM-4.5 models with Dual Chunk Attention."""

from transformers.models.glm4_moe.modeling_glm4_moe import (
    Glm4MoeForCausalLM,
    Glm4MoeModel,
)

from .configuration_dca_glm4_moe import DualChunkGlm4MoeConfig
from .dual_chunk_model import DualChunkMixin, register_auto_classes


class DualChunkGlm4MoeModel(DualChunkMixin, Glm4MoeModel):
    config_class = DualChunkGlm4MoeConfig


class DualChunkGlm4MoeForCausalLM(DualChunkMixin, Glm4MoeForCausalLM):
    config_class = DualChunkGlm4MoeConfig


register_auto_classes(
    DualChunkGlm4MoeModel,
    DualChunkGlm4MoeForCausalLM,
)
