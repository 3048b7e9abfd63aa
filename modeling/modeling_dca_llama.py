"""Llama models with Dual Chunk Attention."""

from transformers import (
    LlamaForCausalLM,
    LlamaForQuestionAnswering,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
    LlamaModel,
)

from .configuration_dca_llama import DualChunkLlamaConfig
from .dual_chunk_model import DualChunkMixin, register_auto_classes


class DualChunkLlamaModel(DualChunkMixin, LlamaModel):
    config_class = DualChunkLlamaConfig


class DualChunkLlamaForCausalLM(DualChunkMixin, LlamaForCausalLM):
    config_class = DualChunkLlamaConfig


class DualChunkLlamaForSequenceClassification(DualChunkMixin, LlamaForSequenceClassification):
    config_class = DualChunkLlamaConfig


class DualChunkLlamaForTokenClassification(DualChunkMixin, LlamaForTokenClassification):
    config_class = DualChunkLlamaConfig


class DualChunkLlamaForQuestionAnswering(DualChunkMixin, LlamaForQuestionAnswering):
    config_class = DualChunkLlamaConfig


register_auto_classes(
    DualChunkLlamaModel,
    DualChunkLlamaForCausalLM,
    DualChunkLlamaForSequenceClassification,
    DualChunkLlamaForTokenClassification,
    DualChunkLlamaForQuestionAnswering,
)
