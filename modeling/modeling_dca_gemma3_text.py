"""Gemma 3 text models with Dual Chunk Attention."""

from transformers.models.gemma3.modeling_gemma3 import (
    Gemma3ForCausalLM,
    Gemma3TextForSequenceClassification,
    Gemma3TextModel,
)

from .configuration_dca_gemma3_text import DualChunkGemma3TextConfig
from .dual_chunk_model import DualChunkMixin, register_auto_classes


class DualChunkGemma3TextModel(DualChunkMixin, Gemma3TextModel):
    config_class = DualChunkGemma3TextConfig


class DualChunkGemma3ForCausalLM(DualChunkMixin, Gemma3ForCausalLM):
    config_class = DualChunkGemma3TextConfig


class DualChunkGemma3TextForSequenceClassification(DualChunkMixin, Gemma3TextForSequenceClassification):
    config_class = DualChunkGemma3TextConfig


register_auto_classes(
    DualChunkGemma3TextModel,
    DualChunkGemma3ForCausalLM,
    DualChunkGemma3TextForSequenceClassification,
)
