"""Turns a loaded model into its DCA model, in one line."""

import copy
import warnings
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from dca_hub import families
from dca_hub.errors import DcaHubError, one_line
from dca_hub.modeling.dual_chunk_config import (
    CLASS_PREFIX,
    CONFIG_KEY,
    SPARSE_KEY,
    DualChunkConfigMixin,
    config_from_geometry,
)
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_layers import rotary_name, text_model
from dca_hub.modeling.dual_chunk_model import DualChunkMixin
from dca_hub.modeling.dual_chunk_rotary import DualChunkRotary
from dca_hub.modeling.dual_chunk_selection import SparseAttention
from dca_hub.sizes import Asked, may_change_length, reach_of_config, sized

# What transformers and bitsandbytes note on a model after building it.
_CARRIED = (
    "hf_device_map",
    "hf_quantizer",
    "is_quantized",
    "is_loaded_in_4bit",
    "is_loaded_in_8bit",
    "quantization_method",
    "generation_config",
)
# Distances are exact up to 4 tokens across a border, and where C is reached: a text of 9 tokens meets no other.
_EXACT = DualChunkGeometry(chunk_size=8, local_size=4, pretraining_length=16)


def extend(
    model: PreTrainedModel,
    pretraining_length: int | None = None,
    *,
    chunk_size: int | None = None,
    local_size: int | None = None,
    temperature: float | None = None,
    sparse: SparseAttention | str | float | bool | None = None,
) -> PreTrainedModel:
    """The DCA model of a loaded model. The two share their weights; the given one stays as it is, plain and usable.

    Args:
        model: a transformers model with rotary positions, of any head (causal LM, classification, bare model).
        pretraining_length: L, the length it was trained at, in tokens. By default what its config says:
            `dual_chunk_attention_config`, else `max_position_embeddings`.
        chunk_size, local_size: C and w, in tokens; by default the rule of `dca_hub.sizes` for its family.
        temperature: f of the attention temperature; by default what its config says, else none.
        sparse: read long texts with block-sparse attention, an approximation: a `SparseAttention`, the name of a
            method ("xattention", "vertical_slash"), the share of attention to keep, or True. False is dense; None is
            what its config says, else dense.

    Raises:
        DcaHubError: the model has no rotary positions, is a DCA model already, or cannot be served; it says why.

    Layers that see everything and have rotary positions are changed; those with a window, without rotary positions or
    without attention stay what they are. `extended.dual_chunk_plan.describe()` says how many are which.
    """
    if not isinstance(model, PreTrainedModel):
        raise DcaHubError(
            f"extend takes a transformers model, not {type(model).__name__}: extend the model before it is wrapped."
        )
    # A package brings its own modeling files, so that its mixin is another class of the same name.
    if any(kind.__name__ == DualChunkMixin.__name__ for kind in type(model).__mro__):
        raise DcaHubError("This is a DCA model already: load the base model without DCA to choose other sizes.")
    try:
        asked = Asked(pretraining_length, chunk_size, local_size, temperature)
        said = _said(model.config)
        geometry = sized(said, None, asked).geometry
        dca_class, config_class = _classes(model)
        config = copy.deepcopy(model.config)
        config.__class__ = config_class  # deep copy and change: from_dict would lose what is not serialised
        config._attn_implementation_internal = None
        setattr(config, CONFIG_KEY, _settings(geometry, sparse, getattr(model.config, CONFIG_KEY, None)))
        # An adapter trained on this model would record the folder of the base, and be loaded onto plain attention.
        config._name_or_path = ""
        if may_change_length({"rope_parameters": getattr(config, "rope_parameters", None)}):
            config.max_position_embeddings = reach_of_config(said, geometry)
        extended = sharing(model, dca_class, config)
    except ValueError as error:
        raise DcaHubError(str(error)) from None
    except LookupError:  # the model's own table of attention classes
        raise DcaHubError(
            f"{type(model).__name__} computes its attention in its own code, which Dual Chunk Attention cannot replace."
        ) from None
    plain = text_model(model)
    # A shell of its own: its buffers may be replaced, never changed.
    rotary: Any = copy.copy(getattr(plain, rotary_name(plain)))
    rotary._buffers = dict(rotary._buffers)
    for name in ("_hf_hook", "_old_forward", "forward"):  # of accelerate, they would call the module that was copied
        vars(rotary).pop(name, None)
    rotary.config = config
    _rotary(extended).inner = rotary
    if model.config.model_type not in families.FAMILIES:
        _try_out(model, extended)
    if not getattr(config_class, "auto_classes", None):
        warnings.warn(
            f"{type(model).__name__} is not in the list of supported models ({', '.join(families.FAMILIES)}); its "
            "rotary positions fit Dual Chunk Attention, and it is extended anyway, in memory only. "
            f"{_rotary(extended).plan.describe()}",
            stacklevel=2,
        )
    return extended


def _settings(geometry: DualChunkGeometry, sparse, said: dict | None) -> dict:
    """The `dual_chunk_attention_config` of these sizes and, if there is any, of sparse attention."""
    settings = config_from_geometry(geometry)
    said = said or {}
    wanted = SparseAttention.of(said.get(SPARSE_KEY) if sparse is None else sparse, said)
    if wanted is None:
        return settings
    wanted.check(geometry)
    return {**settings, SPARSE_KEY: wanted.as_config(), **wanted.heads_as_config()}


def _rotary(extended) -> DualChunkRotary:
    return text_model(extended).rotary_emb


def sharing(model: PreTrainedModel, cls: type, config) -> PreTrainedModel:
    """A model of class `cls` and of that config with the weights and modules of `model`, all but its rotary module."""
    with torch.device("meta"):
        made = cls(config)
    _share(model, made)
    for name in _CARRIED:
        if name in vars(model):
            setattr(made, name, vars(model)[name])
    if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        made.gradient_checkpointing_enable()
    return made.train(model.training)


def _said(config) -> dict:
    """What a configuration says of sizes, as its config.json would."""
    return {name: getattr(config, name, None) for name in (CONFIG_KEY, "max_position_embeddings", "model_type")}


def _classes(model: PreTrainedModel) -> tuple[type, type]:
    """The DCA class and config class for a model: the published ones, or new ones for a family that is not listed."""
    if model.config.model_type in families.FAMILIES:
        family = families.find(model.config.model_type)
        dca_class = family.dca_class(type(model))
        if dca_class is not None:
            return dca_class, family.config_class
    config_class = type(model.config)

    def init(self, **kwargs):
        DualChunkConfigMixin.__init__(self, **kwargs)

    new_config = type(CLASS_PREFIX + config_class.__name__, (DualChunkConfigMixin, config_class), {"__init__": init})
    return type(CLASS_PREFIX + type(model).__name__, (DualChunkMixin, type(model)), {}), new_config


@torch.no_grad()
def _try_out(model: PreTrainedModel, extended: PreTrainedModel) -> None:
    """A text through both models of a family that is not listed, at sizes where Dual Chunk Attention is plain attention
    in all three relations: no distance is clamped yet. Layers without rotary positions, or with a mask of their own,
    come out different."""
    if model.device.type == "meta":
        return
    embedding: Any = model.get_input_embeddings().weight
    rotary = _rotary(extended)
    # Where scores depend on more than distances, keys that are moved are no longer those of the given model.
    length = _EXACT.chunk_size + 1 if rotary.plan.is_relative else _EXACT.chunk_length
    ids = torch.arange(length, device=embedding.device).unsqueeze(0) % len(embedding)
    was_training, geometry, rotary.geometry = model.training, rotary.geometry, _EXACT
    try:
        model.eval()
        extended.eval()
        mine, its = (text_model(m)(input_ids=ids, use_cache=False)[0].float() for m in (extended, model))
    except (TypeError, ValueError, RuntimeError, LookupError, AttributeError) as error:
        raise DcaHubError(
            f"{type(model).__name__} computes its attention in a way that Dual Chunk Attention does not support: "
            f"{one_line(error)}"
        ) from error
    finally:
        rotary.geometry = geometry
        model.train(was_training)
        extended.train(was_training)
    allowed = 0.01 if model.dtype in (torch.float32, torch.float64) else 0.1
    if not (mine - its).square().mean().sqrt() <= allowed * its.square().mean().sqrt():
        raise DcaHubError(
            f"{type(model).__name__} changes its attention in a way that Dual Chunk Attention does not support: the "
            "extended model differs from the given one where the two must be equal."
        )


def _share(source: nn.Module, target: nn.Module) -> None:
    """Puts the source's own modules into the target's frame: every module without children, and every module that is
    of another class than the target's (a quantized or adapted layer), is the very object, weights, hooks and all."""
    for name, tensor in source._parameters.items():
        target._parameters[name] = tensor
    for name, tensor in source._buffers.items():
        target._buffers[name] = tensor
    for name, child in source.named_children():
        counterpart = target._modules.get(name)
        if isinstance(counterpart, DualChunkRotary):
            continue
        if counterpart is not None and type(child) is type(counterpart) and next(child.children(), None) is not None:
            _share(child, counterpart)
        else:
            target._modules[name] = child
    hook: Any = getattr(source, "_hf_hook", None)
    if hook is not None:  # last: the hook of a layer looks at once where the weights in it are
        from accelerate.hooks import add_hook_to_module

        add_hook_to_module(target, copy.copy(hook))
