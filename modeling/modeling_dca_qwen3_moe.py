"""Qwen3Moe models with Dual Chunk Attention."""

from transformers import (
    Qwen3MoeForCausalLM,
    Qwen3MoeForQuestionAnswering,
    Qwen3MoeForSequenceClassification,
    Qwen3MoeForTokenClassification,
    Qwen3MoeModel,
)

from .configuration_dca_qwen3_moe import DualChunkQwen3MoeConfig
from .dual_chunk_model import DualChunkMixin, register_auto_classes


class DualChunkQwen3MoeModel(DualChunkMixin, Qwen3MoeModel):
    config_class = DualChunkQwen3MoeConfig


class DualChunkQwen3MoeForCausalLM(DualChunkMixin, Qwen3MoeForCausalLM):
    config_class = DualChunkQwen3MoeConfig


class DualChunkQwen3MoeForSequenceClassification(DualChunkMixin, Qwen3MoeForSequenceClassification):
    config_class = DualChunkQwen3MoeConfig


class DualChunkQwen3MoeForTokenClassification(DualChunkMixin, Qwen3MoeForTokenClassification):
    config_class = DualChunkQwen3MoeConfig


class DualChunkQwen3MoeForQuestionAnswering(DualChunkMixin, Qwen3MoeForQuestionAnswering):
    config_class = DualChunkQwen3MoeConfig


register_auto_classes(
    DualChunkQwen3MoeModel,
    DualChunkQwen3MoeForCausalLM,
    DualChunkQwen3MoeForSequenceClassification,
    DualChunkQwen3MoeForTokenClassification,
    DualChunkQwen3MoeForQuestionAnswering,
)
