"""Qwen2 models with Dual Chunk Attention."""

from transformers import (
    Qwen2ForCausalLM,
    Qwen2ForQuestionAnswering,
    Qwen2ForSequenceClassification,
    Qwen2ForTokenClassification,
    Qwen2Model,
)

from .configuration_dca_qwen2 import DualChunkQwen2Config
from .dual_chunk_model import DualChunkMixin, register_auto_classes


class DualChunkQwen2Model(DualChunkMixin, Qwen2Model):
    config_class = DualChunkQwen2Config


class DualChunkQwen2ForCausalLM(DualChunkMixin, Qwen2ForCausalLM):
    config_class = DualChunkQwen2Config


class DualChunkQwen2ForSequenceClassification(DualChunkMixin, Qwen2ForSequenceClassification):
    config_class = DualChunkQwen2Config


class DualChunkQwen2ForTokenClassification(DualChunkMixin, Qwen2ForTokenClassification):
    config_class = DualChunkQwen2Config


class DualChunkQwen2ForQuestionAnswering(DualChunkMixin, Qwen2ForQuestionAnswering):
    config_class = DualChunkQwen2Config


register_auto_classes(
    DualChunkQwen2Model,
    DualChunkQwen2ForCausalLM,
    DualChunkQwen2ForSequenceClassification,
    DualChunkQwen2ForTokenClassification,
    DualChunkQwen2ForQuestionAnswering,
)
