"""RoPE scaling of a loaded model, to compare with Dual Chunk Attention and to combine with it.

linear: positional interpolation (Chen et al., arXiv 2306.15595). ntk: a larger base, NTK-aware. yarn: Peng et al.,
arXiv 2309.00071.
"""

import copy

from transformers import PreTrainedModel

from dca_hub.errors import DcaHubError
from dca_hub.extending import sharing

SCALINGS = {"linear": "linear", "ntk": "NTK", "yarn": "YaRN"}


def rope_parameters(config, kind: str, factor: float, trained: int) -> dict[str, float | int | str]:
    """The `rope_parameters` of a config for one of `SCALINGS`, for texts `factor` times as long as the `trained` ones.

    Raises DcaHubError for an unknown kind, a factor below 1, or a model that is scaled already.
    """
    if kind not in SCALINGS:
        raise DcaHubError(f"There is no RoPE scaling {kind!r}: use {', '.join(SCALINGS)}.")
    if factor < 1:
        raise DcaHubError(f"A RoPE scaling stretches positions by a factor of at least 1, not {factor:g}.")
    held = getattr(config, "rope_parameters", None) or {}
    if held.get("rope_type", "default") != "default":
        raise DcaHubError(
            f"This model has a RoPE scaling of its own ({held['rope_type']}): compare scalings on a model without one."
        )
    theta = float(held.get("rope_theta") or 10000.0)
    if kind == "linear":
        return {"rope_type": "linear", "rope_theta": theta, "factor": float(factor)}
    if kind == "yarn":
        window = {"original_max_position_embeddings": trained}
        return {"rope_type": "yarn", "rope_theta": theta, "factor": float(factor), **window}
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return {"rope_type": "default", "rope_theta": theta * factor ** (size / (size - 2))}


def rescaled(model: PreTrainedModel, kind: str, factor: float, trained: int) -> PreTrainedModel:
    """The plain model with that scaling; it shares its weights with the given one, which stays as it is."""
    config = copy.deepcopy(model.config)
    config.rope_parameters = rope_parameters(config, kind, factor, trained)
    config.max_position_embeddings = max(config.max_position_embeddings, round(trained * factor))
    rotary = model.base_model.rotary_emb
    made = sharing(model, type(model), config)
    made.base_model.rotary_emb = type(rotary)(config).to(rotary.inv_freq.device)
    return made
