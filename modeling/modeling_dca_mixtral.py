"""Mixtral models with Dual Chunk Attention."""

from transformers import (
    MixtralForCausalLM,
    MixtralForQuestionAnswering,
    MixtralForSequenceClassification,
    MixtralForTokenClassification,
    MixtralModel,
)

from .configuration_dca_mixtral import DualChunkMixtralConfig
from .dual_chunk_model import DualChunkMixin, register_auto_classes


class DualChunkMixtralModel(DualChunkMixin, MixtralModel):
    config_class = DualChunkMixtralConfig


class DualChunkMixtralForCausalLM(DualChunkMixin, MixtralForCausalLM):
    config_class = DualChunkMixtralConfig


class DualChunkMixtralForSequenceClassification(DualChunkMixin, MixtralForSequenceClassification):
    config_class = DualChunkMixtralConfig


class DualChunkMixtralForTokenClassification(DualChunkMixin, MixtralForTokenClassification):
    config_class = DualChunkMixtralConfig


class DualChunkMixtralForQuestionAnswering(DualChunkMixin, MixtralForQuestionAnswering):
    config_class = DualChunkMixtralConfig


register_auto_classes(
    DualChunkMixtralModel,
    DualChunkMixtralForCausalLM,
    DualChunkMixtralForSequenceClassification,
    DualChunkMixtralForTokenClassification,
    DualChunkMixtralForQuestionAnswering,
)
