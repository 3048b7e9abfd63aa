"""Mistral models with Dual Chunk Attention."""

from transformers import (
    MistralForCausalLM,
    MistralForQuestionAnswering,
    MistralForSequenceClassification,
    MistralForTokenClassification,
    MistralModel,
)

from .configuration_dca_mistral import DualChunkMistralConfig
from .dual_chunk_model import DualChunkMixin, register_auto_classes


class DualChunkMistralModel(DualChunkMixin, MistralModel):
    config_class = DualChunkMistralConfig


class DualChunkMistralForCausalLM(DualChunkMixin, MistralForCausalLM):
    config_class = DualChunkMistralConfig


class DualChunkMistralForSequenceClassification(DualChunkMixin, MistralForSequenceClassification):
    config_class = DualChunkMistralConfig


class DualChunkMistralForTokenClassification(DualChunkMixin, MistralForTokenClassification):
    config_class = DualChunkMistralConfig


class DualChunkMistralForQuestionAnswering(DualChunkMixin, MistralForQuestionAnswering):
    config_class = DualChunkMistralConfig


register_auto_classes(
    DualChunkMistralModel,
    DualChunkMistralForCausalLM,
    DualChunkMistralForSequenceClassification,
    DualChunkMistralForTokenClassification,
    DualChunkMistralForQuestionAnswering,
)
