"""From a model's configuration to its geometry: what is asked for, checked before the model is built."""

import logging
from types import SimpleNamespace

from dca_hub.modeling.dual_chunk_config import CONFIG_KEY, SPARSE_KEY, geometry_from_config
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.vllm_plugin.refusals import refuse_model

# Where the settings wait while vLLM builds the model: under their own name its Qwen models would build the remains of
# an earlier Dual Chunk Attention.
SET_ASIDE = "dca_hub_attention_config"
_logger = logging.getLogger("vllm.dca_hub")
_DRAFT = "draft_model."  # begins vLLM's names of the layers of a draft model


def prepare(model_config) -> None:
    """Checks what a vLLM `ModelConfig` asks for and makes it ready; leaves a model without DCA as it is.

    Raises:
        ValueError: the settings are no geometry, or Dual Chunk Attention cannot serve this model.
    """
    config = model_config.hf_config
    settings = getattr(config, CONFIG_KEY, None)
    if settings is None:
        return
    geometry = geometry_from_config(config)
    refuse_model(model_config)
    if settings.get(SPARSE_KEY):
        _logger.warning(
            "vLLM serves this model with full attention: it ignores the sparse attention that the config asks for."
        )
    delattr(config, CONFIG_KEY)
    setattr(config, SET_ASIDE, dict(settings))
    # The model's table of cosines ends here; beyond it vLLM reads whatever memory follows.
    longest = max(model_config.max_model_len, geometry.chunk_size + 1)
    config.max_position_embeddings = max(config.max_position_embeddings, longest)


def asks_for_dca(vllm_config) -> bool:
    """Whether the model that a vLLM configuration is for is a DCA model."""
    model_config = getattr(vllm_config, "model_config", None)
    return model_config is not None and hasattr(model_config.hf_config, SET_ASIDE)


def model_config_of(vllm_config, layer_names):
    """The vLLM `ModelConfig` of the model that these layers belong to: a draft model has its own."""
    if layer_names and all(name.startswith(_DRAFT) for name in layer_names):
        return vllm_config.speculative_config.draft_model_config
    return vllm_config.model_config


def geometry_in_config(model_config) -> DualChunkGeometry:
    """The geometry of a DCA model, after `prepare`."""
    settings = getattr(model_config.hf_config, SET_ASIDE)
    return geometry_from_config(SimpleNamespace(**{CONFIG_KEY: settings}))
