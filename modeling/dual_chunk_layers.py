"""Which layers of a model Dual Chunk Attention changes, and why the others stay what they are.

Only full attention with rotary positions meets distances that it was not trained at. A sliding window within the
trained length, a layer without rotary positions and a linear layer do not: they keep their own
positions, masks and caches.
"""

import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .dual_chunk_geometry import DualChunkGeometry
from .dual_chunk_rotation import HALF_SPLIT, RotaryLayout

# Model types whose full layers have no rotary positions: those of the first kind always, those of the second where
# other layers have a window.
_ROTARY_IN_WINDOWS_ALONE = {"afmoe", "cohere2", "cohere2_moe", "flint", "lara_mini"}
_ROTARY_IN_WINDOWS_IF_ANY = {"exaone4", "exaone_moe", "kolibri1"}
# Modules that carry a state from token to token, by their names in transformers.
_MIXER = re.compile("Mamba|DeltaNet|Delta|ShortConv|Lightning|LinearAttention|Recurrent|Mixer|CCAProjection")
_ATTENTION = re.compile("(Attention|MLA)$")
_WINDOWED_KINDS = ("sliding_attention", "hybrid_sliding")
_ATTENTION_KINDS = ("full_attention", *_WINDOWED_KINDS, "chunked_attention", "attention", "hybrid")
_INDEXED_KINDS = ("indexed_attention", "heavily_compressed_attention", "compressed_sparse_attention")

Gain = Callable[[Any], torch.Tensor]  # of an attention module of any family
# What an attention module multiplies its queries by after it rotated them, per dimension [D] or [H, 1, D].
_GAINS: dict[str, Gain] = {
    "dory": lambda module: (module.sqk * module.sqk_scale).view(-1, 1, module.head_dim).square(),
    "hunyuan_v1_dense": lambda module: module.query_layernorm.weight,
    "hunyuan_v1_moe": lambda module: module.query_layernorm.weight,
}
# Model types whose attention modules make masks of their own from the causal one, by what keys and values hold.
_OWN_MASKS = {"doge"}


@dataclass(frozen=True)
class Table:
    """A rotary table: the `module` of the base model that has it, and the `kind` of layer it is for, or None where the
    module has one table for all."""

    module: str = "rotary_emb"
    kind: str | None = None


ONE_TABLE = Table()


@dataclass(frozen=True)
class Layer:
    """One attention module: `name` within the base model, `changed` or left, and `why` in words. A changed one also has
    the rotary `table` that serves it, its rotary `layout`, whether it makes `masks` of its own, and the `gain` of its
    rotated queries, if they have one: its scores then depend on more than distances."""

    index: int
    name: str
    changed: bool
    why: str
    table: Table = ONE_TABLE
    layout: RotaryLayout = HALF_SPLIT
    masks: bool = False
    gain: Gain | None = None


@dataclass(frozen=True)
class Plan:
    """What Dual Chunk Attention does to each layer of a model; `linear` counts layers that are no attention at all, and
    `mixes` tells of ones, or parts of them, that carry a state from token to token."""

    layers: tuple[Layer, ...]
    linear: int = 0
    mixes: bool = False

    @property
    def changed(self) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.changed)

    @property
    def is_uniform(self) -> bool:
        """Whether every attention layer is changed, by one rotary table: the rotary module itself can then change."""
        modules = [table.module for table in self.tables]
        return len(self.changed) == len(self.layers) and modules == ["rotary_emb"]

    @property
    def is_relative(self) -> bool:
        """Whether scores depend on distances alone."""
        return all(layer.gain is None for layer in self.changed)

    @property
    def makes_masks(self) -> bool:
        return any(layer.masks for layer in self.changed)

    @property
    def tables(self) -> dict[Table, RotaryLayout]:
        return {layer.table: layer.layout for layer in self.changed}

    def describe(self) -> str:
        """In a sentence: how many layers are changed, and how many are left for which reason."""
        left: dict[str, int] = {}
        for layer in self.layers:
            if not layer.changed:
                left[layer.why] = left.get(layer.why, 0) + 1
        if self.linear:
            left["no attention but a linear layer"] = self.linear
        total = len(self.layers) + self.linear
        words = "".join(f"; {count} left as they are: {why}" for why, count in left.items())
        return f"{len(self.changed)} of {total} layers have Dual Chunk Attention{words}."


def text_model(model) -> Any:
    """The module of a transformers model that holds its layers and their rotary module: its base model, but for some
    causal models of text and images, whose base model is the whole."""
    base = model.base_model
    return base if rotary_name(base) else getattr(model, "model", base)


def rotary_name(base) -> str:
    """Under which name a base model has the rotary module that serves all layers; empty where it has none."""
    return next((name for name in ("rotary_emb", "pos_emb") if _has_table(getattr(base, name, None))), "")


def _has_table(module) -> bool:
    names = vars(module).get("_buffers", {}) if isinstance(module, torch.nn.Module) else {}
    return hasattr(module, "inner") or any(name.endswith(("inv_freq", "embed_positions")) for name in names)


def plan_layers(base, geometry: DualChunkGeometry) -> Plan:
    """The plan for a base model of transformers, which may be on the meta device.

    Raises:
        ValueError: no layer would change, or one can neither be changed nor left; the message says why.
    """
    config = base.config
    found = _attention_modules(base)
    if not found:
        raise ValueError(
            f"{type(base).__name__} computes its attention in its own code, where Dual Chunk Attention has no way in."
        )
    windowed = any(_window(module, config, index) for index, _, module in found)
    layers = tuple(_layer(base, found_one, geometry, windowed) for found_one in found)
    kinds = getattr(config, "layer_types", None) or ()
    linear = sum(kind not in _ATTENTION_KINDS for kind in kinds) if len(layers) < len(kinds) else 0
    plan = Plan(layers, linear, bool(linear) or any(_MIXER.search(type(m).__name__) for m in base.modules()))
    if not plan.changed:
        raise ValueError(_nothing_to_change(config, layers))
    return plan


def _nothing_to_change(config, layers: tuple[Layer, ...]) -> str:
    window = getattr(config, "sliding_window", None)
    if all("window" in layer.why for layer in layers):
        return (
            f"this model attends through a sliding window ({window} tokens), which Dual Chunk Attention replaces: set "
            "sliding_window to null in its config to let every layer see everything."
        )
    return (
        "no layer of this model has both full attention and rotary positions, so there is nothing for Dual Chunk "
        f"Attention to change ({'; '.join(dict.fromkeys(layer.why for layer in layers))}): use the model as it is."
    )


def _attention_modules(base) -> list[tuple[int, str, torch.nn.Module]]:
    """The modules that take rotary positions into transformers' attention functions, with the index of their layer."""
    takers = [
        (name, module)
        for name, module in base.named_modules()
        if name
        and (not name.rpartition(".")[2].isdigit() or _ATTENTION.search(type(module).__name__))  # no whole layer
        and "position_embeddings" in inspect.signature(type(module).forward).parameters
    ]
    found = []
    for name, module in takers:
        if any(other.startswith(f"{name}.") for other, _ in takers):
            continue
        numbers = [int(part) for part in name.split(".") if part.isdigit()]
        if _MIXER.search(type(module).__name__) and numbers and _kind(base.config, numbers[0]) not in _ATTENTION_KINDS:
            continue  # a linear layer, which is handed the positions of all
        if not numbers or not hasattr(sys.modules[type(module).__module__], "ALL_ATTENTION_FUNCTIONS"):
            raise ValueError(
                f"{type(base).__name__} computes its attention in its own code, where Dual Chunk Attention has no way "
                "in."
            )
        index = getattr(module, "layer_idx", None)  # -1 in a block that several layers share
        found.append((numbers[0] if index is None or index < 0 else index, name, module))
    return found


def _kind(config, index: int) -> str | None:
    kinds = getattr(config, "layer_types", None) or ()
    return kinds[index] if index < len(kinds) else None


def _window(module, config, index: int) -> int | None:
    """The width of the window that a layer attends through, in tokens, or None."""
    kind = _kind(config, index)
    if kind == "chunked_attention":
        return config.attention_chunk_size
    if kind in _WINDOWED_KINDS or kind is None:
        return getattr(module, "sliding_window", None) or getattr(config, "sliding_window", None) or None
    return None


def _uses_rotary(module, config, index: int, window: int | None, windowed: bool) -> bool:
    model_type, kind, thetas = config.model_type, _kind(config, index), getattr(config, "layer_rope_theta", None)
    tables = getattr(config, "rope_parameters", None) or {}
    if not getattr(module, "use_rope", True) or (thetas and not thetas[index]):
        return False
    if kind in tables and tables[kind] is None:
        return False
    if window is not None or getattr(module, "force_rope", False):
        return True
    return not (model_type in _ROTARY_IN_WINDOWS_ALONE or (windowed and model_type in _ROTARY_IN_WINDOWS_IF_ANY))


def _layer(base, found: tuple, geometry: DualChunkGeometry, windowed: bool) -> Layer:
    index, name, module = found
    config = base.config
    kind, window = _kind(config, index), _window(module, config, index)
    if kind in _INDEXED_KINDS:
        raise ValueError(
            f"layer {index} picks the keys that it attends to by scores of its own ({kind}), whose rotary positions "
            "Dual Chunk Attention has no way into."
        )
    if kind is not None and kind not in _ATTENTION_KINDS:
        raise ValueError(f"layer {index} is of kind {kind!r}, which Dual Chunk Attention does not know.")
    # "vision" is about the tokens of images, which a text model has none of.
    both_ways = getattr(config, "use_bidirectional_attention", None) not in (None, False, "vision")
    if getattr(module, "is_causal", True) is False or both_ways:
        raise ValueError(f"layer {index} sees later tokens, which Dual Chunk Attention does not.")
    if window is not None:
        if window > geometry.pretraining_length:
            raise ValueError(
                f"layer {index} attends through a sliding window ({window} tokens) beyond the trained "
                f"{geometry.pretraining_length}: set sliding_window to null in the config to let it see everything."
            )
        return Layer(index, name, False, f"a window of {window:,} tokens")
    if not _uses_rotary(module, config, index, window, windowed):
        return Layer(index, name, False, "no rotary positions")
    return Layer(
        index,
        name,
        changed=True,
        why="full attention with rotary positions",
        table=_table(base, index),
        layout=rotary_layout(module),
        masks=config.model_type in _OWN_MASKS,
        gain=_GAINS.get(config.model_type),
    )


def _table(base, index: int) -> Table:
    """The rotary table of a layer: one of its kind, or of its rotary base, or the one that all share."""
    kind, thetas = _kind(base.config, index), getattr(base.config, "layer_rope_theta", None)
    if thetas is None:
        return Table(kind=kind if hasattr(getattr(base, rotary_name(base)), f"{kind}_inv_freq") else None)
    bases = [rotary.config.rope_parameters["rope_theta"] for rotary in base.rotary_embs]
    return Table(f"rotary_embs.{bases.index(thetas[index])}")


def rotary_layout(module) -> RotaryLayout:
    """The rotary layout of an attention module, found by rotating one dimension by a right angle with the module's own
    function.

    Raises:
        ValueError: there is no such function, or it pairs dimensions in a way that is not known.
    """
    namespace = vars(sys.modules[type(module).__module__])
    names = [name for name in namespace if name.startswith("apply_rotary") and "vision" not in name]
    partners = {_partner(namespace[name]) for name in names if callable(namespace[name])}
    start = getattr(module, "qk_nope_head_dim", 0) or 0
    (partner,) = partners if len(partners) == 1 else (None,)
    if partner is None or abs(partner) not in (1, _PROBED // 2):
        raise ValueError(
            f"{type(module).__name__} lays out its rotary dimensions in a way that Dual Chunk Attention does not know."
        )
    return RotaryLayout(start, abs(partner) == 1, partner < 0)


_PROBED = 8


def _partner(apply) -> int | None:
    """The dimension that goes with the first of 8: where a rotation by a right angle takes it, negative where it comes
    out negative."""
    with torch.device("cpu"), torch.no_grad():
        one = torch.zeros(1, 1, 1, _PROBED, dtype=torch.float32)  # whatever the default: half tables make no complex
        one[..., 0] = 1
        full, half = (torch.zeros(1, 1, size, dtype=torch.float32) for size in (_PROBED, _PROBED // 2))
        tables = ((full, full + 1), (half, half + 1), (torch.complex(half, half + 1),))  # cos 0, sin 1
        if [name for name in inspect.signature(apply).parameters if name in ("sin", "cos")] == ["sin", "cos"]:
            tables = ((full + 1, full), (half + 1, half))
        for given in (*((one, one, *table) for table in tables), *((one, *table) for table in tables)):
            try:
                rotated = apply(*given)
                rotated = (rotated[0] if isinstance(rotated, tuple) else rotated).flatten()
            except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):
                continue
            if len(rotated) == _PROBED and int(rotated.count_nonzero()) == 1:
                at = int(rotated.abs().argmax())
                return at if rotated[at] > 0 else -at
    return None
