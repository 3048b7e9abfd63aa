"""gpt-oss models with Dual Chunk Attention."""

from transformers.models.gpt_oss.modeling_gpt_oss import (
    GptOssForCausalLM,
    GptOssForSequenceClassification,
    GptOssForTokenClassification,
    GptOssModel,
)

from .configuration_dca_gpt_oss import DualChunkGptOssConfig
from .dual_chunk_model import DualChunkMixin, register_auto_classes


class DualChunkGptOssModel(DualChunkMixin, GptOssModel):
    config_class = DualChunkGptOssConfig


class DualChunkGptOssForCausalLM(DualChunkMixin, GptOssForCausalLM):
    config_class = DualChunkGptOssConfig


class DualChunkGptOssForSequenceClassification(DualChunkMixin, GptOssForSequenceClassification):
    config_class = DualChunkGptOssConfig


class DualChunkGptOssForTokenClassification(DualChunkMixin, GptOssForTokenClassification):
    config_class = DualChunkGptOssConfig


register_auto_classes(
    DualChunkGptOssModel,
    DualChunkGptOssForCausalLM,
    DualChunkGptOssForSequenceClassification,
    DualChunkGptOssForTokenClassification,
)
