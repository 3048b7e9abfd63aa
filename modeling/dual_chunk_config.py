"""What every DCA configuration adds to its base model's: the sizes of the chunks, checked, and how it is saved."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .dual_chunk_geometry import DualChunkGeometry

if TYPE_CHECKING:
    from transformers import PreTrainedConfig as _Base

    from .dual_chunk_selection import SparseAttention
else:
    _Base = object  # mixed into the configuration class of any family

CONFIG_KEY = "dual_chunk_attention_config"
# What config.json says. It is registered nowhere: transformers then refuses to load the model without remote code,
# where it would otherwise run the base model's plain attention without a word.
PUBLIC_ATTENTION = "dca"
CLASS_PREFIX = "DualChunk"  # of class names, also in `architectures`: an engine that knows no such class says so
_KEYS = {
    "chunk_size": "chunk_size",
    "local_size": "local_size",
    "original_max_position_embeddings": "pretraining_length",
    "temperature": "temperature",
}
SPARSE_KEY = "sparse"
# Written by Qwen2.5-1M's engines. Sparse attention is an approximation, which only `sparse` asks for here; its method
# vertical_slash then reads sparse_attention_config.
_QWEN_KEYS = {"sparse_attention_enabled", "sparse_attention_config", "sparse_attention_threshold"}


def geometry_from_config(config: Any) -> DualChunkGeometry:
    """The geometry in the `dual_chunk_attention_config` of a model's configuration.

    Raises:
        ValueError: the key is missing, or what it holds is not a geometry; the message names the key.
    """
    settings = getattr(config, CONFIG_KEY, None)
    if settings is None:
        raise ValueError(
            f"this configuration has no {CONFIG_KEY!r}: add it with chunk_size, local_size and "
            "original_max_position_embeddings, or package the model with dca_hub."
        )
    if not isinstance(settings, Mapping):
        raise ValueError(f"{CONFIG_KEY} must be a mapping, not {settings!r}.")
    missing = [key for key in _KEYS if key not in settings and key != "temperature"]
    unknown = sorted(set(settings) - set(_KEYS) - _QWEN_KEYS - {SPARSE_KEY})
    if missing or unknown:
        words = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unknown {', '.join(unknown)}"] * bool(unknown)
        raise ValueError(f"{CONFIG_KEY} {' and '.join(words)}; its keys are {', '.join(_KEYS)}.")
    try:
        return DualChunkGeometry(**{name: settings[key] for key, name in _KEYS.items() if key in settings})
    except ValueError as error:
        raise ValueError(f"{CONFIG_KEY}: {error}") from None


def sparse_from_config(config: Any) -> "SparseAttention | None":
    """The sparse attention that the `dual_chunk_attention_config` of a model's configuration asks for, checked against
    its geometry, or None.

    Raises:
        ValueError: what it asks for is not sparse attention, or does not fit the chunks.
    """
    from .dual_chunk_selection import SparseAttention  # it brings torch, which the catalogue does without

    settings = getattr(config, CONFIG_KEY, None) or {}
    try:
        sparse = SparseAttention.of(settings.get(SPARSE_KEY), settings)
        if sparse is not None:
            sparse.check(geometry_from_config(config))
    except ValueError as error:
        raise ValueError(f"{CONFIG_KEY}: {error}") from None
    return sparse


def config_from_geometry(geometry: DualChunkGeometry) -> dict[str, int | float]:
    """The `dual_chunk_attention_config` of a geometry; the temperature only where there is one."""
    settings = {key: getattr(geometry, name) for key, name in _KEYS.items()}
    return settings if geometry.temperature else {k: v for k, v in settings.items() if k != "temperature"}


def own_architectures(names: Sequence[str]) -> list[str]:
    """The DCA classes of some classes of transformers, or of DCA."""
    return [CLASS_PREFIX + name.removeprefix(CLASS_PREFIX) for name in names]


def auto_classes(family: str, name: str, classes: Mapping[str, str] | None = None) -> dict[str, str]:
    """The `auto_map` of a family: each auto class of transformers and the `module.Class` that serves it. `classes` has
    the base model's class for each auto class where they are not the five that are named after the configuration."""
    if classes is None:
        heads = ("", "ForCausalLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
        classes = {f"AutoModel{head}": f"{name}{head or 'Model'}" for head in heads}
    return {
        "AutoConfig": f"configuration_dca_{family}.{CLASS_PREFIX}{name}Config",
        **{auto: f"modeling_dca_{family}.{CLASS_PREFIX}{base}" for auto, base in classes.items()},
    }


class DualChunkConfigMixin(_Base):
    """Mixed into a base model's configuration class; keeps its `model_type`."""

    auto_classes = None

    def __init__(self, **kwargs):
        if kwargs.get("attn_implementation") == PUBLIC_ATTENTION:
            kwargs["attn_implementation"] = None  # the model class puts its own in
        super().__init__(**kwargs)
        if getattr(self, CONFIG_KEY, None) is not None:
            geometry_from_config(self)
            sparse_from_config(self)

    def to_dict(self) -> dict[str, Any]:
        """What is saved: transformers finds its way by `auto_map`, and engines that would run plain attention without a
        word find `architectures` that they do not have."""
        settings = super().to_dict()
        if settings.get("architectures"):
            settings["architectures"] = own_architectures(settings["architectures"])
        settings["attn_implementation"] = PUBLIC_ATTENTION
        if self.auto_classes:
            settings["auto_map"] = dict(self.auto_classes)
        return settings
