"""Qwen3-Next models with Dual Chunk Attention."""

from transformers.models.qwen3_next.modeling_qwen3_next import (
    Qwen3NextForCausalLM,
    Qwen3NextForQuestionAnswering,
    Qwen3NextForSequenceClassification,
    Qwen3NextForTokenClassification,
    Qwen3NextModel,
)

from .configuration_dca_qwen3_next import DualChunkQwen3NextConfig
from .dual_chunk_model import DualChunkMixin, register_auto_classes


class DualChunkQwen3NextModel(DualChunkMixin, Qwen3NextModel):
    config_class = DualChunkQwen3NextConfig


class DualChunkQwen3NextForCausalLM(DualChunkMixin, Qwen3NextForCausalLM):
    config_class = DualChunkQwen3NextConfig


class DualChunkQwen3NextForSequenceClassification(DualChunkMixin, Qwen3NextForSequenceClassification):
    config_class = DualChunkQwen3NextConfig


class DualChunkQwen3NextForTokenClassification(DualChunkMixin, Qwen3NextForTokenClassification):
    config_class = DualChunkQwen3NextConfig


class DualChunkQwen3NextForQuestionAnswering(DualChunkMixin, Qwen3NextForQuestionAnswering):
    config_class = DualChunkQwen3NextConfig


register_auto_classes(
    DualChunkQwen3NextModel,
    DualChunkQwen3NextForCausalLM,
    DualChunkQwen3NextForSequenceClassification,
    DualChunkQwen3NextForTokenClassification,
    DualChunkQwen3NextForQuestionAnswering,
)
