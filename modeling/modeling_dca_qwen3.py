"""Qwen3 models with Dual Chunk Attention."""

from transformers import (
    Qwen3ForCausalLM,
    Qwen3ForQuestionAnswering,
    Qwen3ForSequenceClassification,
    Qwen3ForTokenClassification,
    Qwen3Model,
)

from .configuration_dca_qwen3 import DualChunkQwen3Config
from .dual_chunk_model import DualChunkMixin, register_auto_classes


class DualChunkQwen3Model(DualChunkMixin, Qwen3Model):
    config_class = DualChunkQwen3Config


class DualChunkQwen3ForCausalLM(DualChunkMixin, Qwen3ForCausalLM):
    config_class = DualChunkQwen3Config


class DualChunkQwen3ForSequenceClassification(DualChunkMixin, Qwen3ForSequenceClassification):
    config_class = DualChunkQwen3Config


class DualChunkQwen3ForTokenClassification(DualChunkMixin, Qwen3ForTokenClassification):
    config_class = DualChunkQwen3Config


class DualChunkQwen3ForQuestionAnswering(DualChunkMixin, Qwen3ForQuestionAnswering):
    config_class = DualChunkQwen3Config


register_auto_classes(
    DualChunkQwen3Model,
    DualChunkQwen3ForCausalLM,
    DualChunkQwen3ForSequenceClassification,
    DualChunkQwen3ForTokenClassification,
    DualChunkQwen3ForQuestionAnswering,
)
