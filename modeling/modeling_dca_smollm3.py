"""SmolLM3 models with Dual Chunk Attention."""

from transformers.models.smollm3.modeling_smollm3 import (
    SmolLM3ForCausalLM,
    SmolLM3ForQuestionAnswering,
    SmolLM3ForSequenceClassification,
    SmolLM3ForTokenClassification,
    SmolLM3Model,
)

from .configuration_dca_smollm3 import DualChunkSmolLM3Config
from .dual_chunk_model import DualChunkMixin, register_auto_classes


class DualChunkSmolLM3Model(DualChunkMixin, SmolLM3Model):
    config_class = DualChunkSmolLM3Config


class DualChunkSmolLM3ForCausalLM(DualChunkMixin, SmolLM3ForCausalLM):
    config_class = DualChunkSmolLM3Config


class DualChunkSmolLM3ForSequenceClassification(DualChunkMixin, SmolLM3ForSequenceClassification):
    config_class = DualChunkSmolLM3Config


class DualChunkSmolLM3ForTokenClassification(DualChunkMixin, SmolLM3ForTokenClassification):
    config_class = DualChunkSmolLM3Config


class DualChunkSmolLM3ForQuestionAnswering(DualChunkMixin, SmolLM3ForQuestionAnswering):
    config_class = DualChunkSmolLM3Config


register_auto_classes(
    DualChunkSmolLM3Model,
    DualChunkSmolLM3ForCausalLM,
    DualChunkSmolLM3ForSequenceClassification,
    DualChunkSmolLM3ForTokenClassification,
    DualChunkSmolLM3ForQuestionAnswering,
)
