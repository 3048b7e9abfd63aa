"""Qwen3.5 text models with Dual Chunk Attention."""

from transformers.models.qwen3_5.modeling_qwen3_5 import (
    Qwen3_5ForCausalLM,
    Qwen3_5TextForSequenceClassification,
    Qwen3_5TextModel,
)

from .configuration_dca_qwen3_5_text import DualChunkQwen3_5TextConfig
from .dual_chunk_model import DualChunkMixin, register_auto_classes


class DualChunkQwen3_5TextModel(DualChunkMixin, Qwen3_5TextModel):
    config_class = DualChunkQwen3_5TextConfig


class DualChunkQwen3_5ForCausalLM(DualChunkMixin, Qwen3_5ForCausalLM):
    config_class = DualChunkQwen3_5TextConfig


class DualChunkQwen3_5TextForSequenceClassification(DualChunkMixin, Qwen3_5TextForSequenceClassification):
    config_class = DualChunkQwen3_5TextConfig


register_auto_classes(
    DualChunkQwen3_5TextModel,
    DualChunkQwen3_5ForCausalLM,
    DualChunkQwen3_5TextForSequenceClassification,
)
