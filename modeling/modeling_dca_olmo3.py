"""Olmo 3 models with Dual Chunk Attention."""

from transformers.models.olmo3.modeling_olmo3 import (
    Olmo3ForCausalLM,
    Olmo3ForSequenceClassification,
    Olmo3Model,
)

from .configuration_dca_olmo3 import DualChunkOlmo3Config
from .dual_chunk_model import DualChunkMixin, register_auto_classes


class DualChunkOlmo3Model(DualChunkMixin, Olmo3Model):
    config_class = DualChunkOlmo3Config


class DualChunkOlmo3ForCausalLM(DualChunkMixin, Olmo3ForCausalLM):
    config_class = DualChunkOlmo3Config


class DualChunkOlmo3ForSequenceClassification(DualChunkMixin, Olmo3ForSequenceClassification):
    config_class = DualChunkOlmo3Config


register_auto_classes(
    DualChunkOlmo3Model,
    DualChunkOlmo3ForCausalLM,
    DualChunkOlmo3ForSequenceClassification,
)
