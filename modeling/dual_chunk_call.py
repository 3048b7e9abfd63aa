"""What happens in each call of a model: its layout, made before the layers run, and the attention that they call."""

import inspect
import sys
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import AttentionInterface, Cache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.utils import logging

from .dual_chunk_cache import GrowingCache
from .dual_chunk_geometry import DualChunkGeometry
from .dual_chunk_guards import ATTENTION, LAYERED_ATTENTION, refuse_other_attention
from .dual_chunk_layers import Gain, Layer, Plan, Table
from .dual_chunk_layout import (
    Extras,
    Layout,
    PositionedLayout,
    Slotting,
    compiled,
    documents,
    positioned,
    positions_of,
    segmented,
)
from .dual_chunk_rotary import DualChunkRotary, Frequencies, with_lengths
from .dual_chunk_selection import SparseAttention
from .dual_chunk_sparse import SparseCall, SparseWatch

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class DualChunkCall:
    """All that the attention of changed layers needs to know of one forward call. Where other layers are left as they
    are, it brings the changed ones' `position_embeddings` too. A layer may make masks of its own (`own_masks`), or
    multiply its rotated queries by a `gain`."""

    geometry: DualChunkGeometry
    layout: Layout
    position_embeddings: Any = None
    sparse: SparseAttention | None = None
    watch: SparseWatch | None = None
    own_masks: bool = False
    gain: Gain | None = None

    def serve(self, module, query, key, value, mask, scaling, dropout, **kwargs):
        """The attention of a changed layer, as transformers calls it."""
        for name in ("sliding_window", "position_bias"):
            given = kwargs.get(name)
            if given is not None and not (name == "sliding_window" and given == 0):
                raise ValueError(
                    f"Dual Chunk Attention does not serve layers with {name}; set it to null in the config."
                )
        layout = self.layout
        if mask is not None:
            if not self.own_masks:
                raise ValueError(
                    f"{type(module).__name__} masks keys by a rule of its own, which Dual Chunk Attention lacks."
                )
            layout = replace(layout, visible=mask)
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        extras = Extras(kwargs.get("s_aux"), kwargs.get("softcap"))
        if self.gain is not None:
            query, key, value = _gain_on_keys(query, key, value, self.gain(module))
        # Latent attention has values of another size than its keys.
        size, wide = value.shape[-1], max(query.shape[-1], value.shape[-1])
        query, key, value = (x if x.shape[-1] == wide else _widened(x, wide) for x in (query, key, value))
        sparse = self.sparse and SparseCall(self.sparse, getattr(module, "layer_idx", 0), self.watch)
        out, weights = self._attend(layout, query, key, value, scaling, extras, dropout, sparse)
        return out[..., :size].transpose(1, 2).contiguous(), weights

    def _attend(self, layout: Layout, query, key, value, scaling, extras: Extras, dropout: float, sparse):
        if isinstance(layout, PositionedLayout):
            return layout.attend(query, key, value, self.geometry, scaling, extras, dropout)
        return layout.attend(query, key, value, self.geometry, scaling, extras, sparse)


def _gain_on_keys(query, key, value, gain: torch.Tensor):
    """Queries [B, H, Q, D] without the gain that they got after their rotation, and keys with it, for the same scores:
    only what stands before a gain can be rotated further. A gain of each head takes a key of each head."""
    if gain.dim() > 1:
        groups = query.shape[1] // key.shape[1]
        key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    gain = gain.to(query.device)
    return (query / gain).to(query.dtype), (key * gain).to(key.dtype), value


@dataclass(frozen=True)
class BaseAttention:
    """What a layer that is left as it is gets: the base model's own attention, at its own positions."""

    weights: bool

    def serve(self, module, query, key, value, mask, scaling, dropout, **kwargs):
        """By PyTorch's attention where that knows all that the layer asks for, else by the module's readable one."""
        kwargs |= {"scaling": scaling, "dropout": dropout}
        special = any(kwargs.get(name) is not None for name in ("s_aux", "softcap", "position_bias"))
        if not special and not self.weights:
            return sdpa_attention_forward(module, query, key, value, mask, **kwargs)
        readable = sys.modules[type(module).__module__].eager_attention_forward
        return readable(module, query, key, value, _additive(mask, query, key), **kwargs)


def _additive(mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """A mask [B, 1, Q, K] for `sdpa`, where None is causal, as numbers to add to the logits."""
    if mask is None:
        queries, keys = query.shape[2], key.shape[2]
        mask = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)[None, None]
    if mask.dtype != torch.bool:
        return mask
    least = torch.finfo(torch.float32 if query.dtype == torch.float64 else query.dtype).min  # softmax is in float32
    return torch.zeros(mask.shape, dtype=query.dtype, device=mask.device).masked_fill(~mask, least)


@dataclass(frozen=True)
class LayeredCall:
    """The calls of a model whose layers are of several kinds: for changed ones by rotary table, and for the others."""

    by_table: dict[Table, DualChunkCall]
    base: BaseAttention


def enter_layer(layer: Layer, module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Forward pre-hook of an attention module, with its `Layer`: hands it its own part of the call."""
    kwargs = dict(kwargs)
    if args and not {"position_embeddings", "attention_mask"} <= kwargs.keys():
        names = list(inspect.signature(type(module).forward).parameters)[1:]
        args, kwargs = (), {**dict(zip(names, args)), **kwargs}
    rotary, call = kwargs.get("position_embeddings"), kwargs.get("dual_chunk")
    if call is None:
        call = getattr(rotary, "dual_chunk", None)
    if layer.changed:
        if rotary is None and call is not None:
            raise ValueError(f"layer {layer.index} gets no rotary positions, contrary to its config.")
        if isinstance(call, LayeredCall):
            call = call.by_table[layer.table]
            kwargs["position_embeddings"] = _to_device_of(rotary, call.position_embeddings)
        if "attention_mask" in kwargs:  # padding is in the layout; a mask that the module makes of it is none of ours
            mask = kwargs["attention_mask"]
            kwargs["attention_mask"] = {**mask, "causal": None} if isinstance(mask, dict) else None
        if layer.gain is not None and call is not None:
            call = replace(call, gain=layer.gain)
        if layer.masks and call is not None:
            call = replace(call, own_masks=True)
            assert isinstance(call.layout, PositionedLayout)  # such a plan is dense
            kwargs["attention_mask"] = call.layout.causal_mask()
    elif isinstance(call, LayeredCall):
        call = call.base
    kwargs["dual_chunk"] = call
    return args, kwargs


def _to_device_of(given, wanted):
    if isinstance(wanted, tuple):
        return tuple(_to_device_of(g, w) for g, w in zip(given, wanted))
    return wanted.to(given.device)


def attention_forward(
    module,
    query,
    key,
    value,
    attention_mask,
    scaling=None,
    dropout=0.0,
    dual_chunk: DualChunkCall | None = None,
    **kwargs,
):
    """The attention function that transformers calls in every layer; the call brings what is to be done.

    Shapes as in transformers: query [B, H, Q, D], key and value [B, G, K, D] after the cache; gives [B, Q, H, D] and
    the weights or None.
    """
    if dual_chunk is None:
        raise ValueError(
            "Dual Chunk Attention was called without the positions of the call: run the whole model, loaded with "
            "trust_remote_code=True or made by dca_hub.extend, and no layer on its own."
        )
    # By its own method: the call may come from another copy of this file than the one registered last.
    return dual_chunk.serve(module, query, key, value, attention_mask, scaling, dropout, **kwargs)


def _widened(x: torch.Tensor, size: int) -> torch.Tensor:
    return torch.nn.functional.pad(x, (0, size - x.shape[-1]))


def pass_mask(*args, attention_mask: torch.Tensor | None = None, **kwargs) -> torch.Tensor | None:
    """No mask is built: padding is in the layout of the call already."""
    return attention_mask


AttentionInterface.register(ATTENTION, attention_forward)
AttentionMaskInterface.register(ATTENTION, pass_mask)
AttentionInterface.register(LAYERED_ATTENTION, attention_forward)
AttentionMaskInterface.register(LAYERED_ATTENTION, sdpa_mask)


def lay_out_call(model, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Forward pre-hook of the base model: adds the call's layout, and the positions counted within documents."""
    refuse_other_attention(model.config._attn_implementation)
    names = list(inspect.signature(type(model).forward).parameters)[1:]
    kwargs = {**dict(zip(names, args)), **kwargs}
    rotary: DualChunkRotary = model.rotary_emb
    if rotary.is_dynamic and _cache_of(kwargs) is None and _makes_cache(model, kwargs):
        kwargs["cache" if "cache" in names else "past_key_values"] = GrowingCache(config=model.config)
    cache, plan = _cache_of(kwargs), rotary.plan
    slotting = _slotting(kwargs, cache, plan)
    mask, geometry = kwargs.get("attention_mask"), rotary.geometry
    visible = _fit_mask(mask if mask is not None and mask.dim() == 4 else None, slotting)
    if visible is not None and not plan.is_uniform:
        raise ValueError(
            "attention_mask has four dimensions, which cannot be right for layers of several kinds: pass the plain one."
        )
    dense = _why_dense(model, kwargs)

    on_device = isinstance(slotting.past, torch.Tensor) or slotting.attention_mask is not None
    if torch.compiler.is_compiling() and on_device and not rotary.is_dynamic:
        layouts = {}
        for table, of in plan.tables.items():
            inv_freq = rotary.inverse_frequencies(0, model, table)
            layouts[table], positions = compiled(slotting, inv_freq, geometry, visible, dense is not None, of)
    else:
        rows = documents(slotting)
        _keep_packed_apart(rows, cache, kwargs, plan)
        positions = positions_of(rows, slotting)
        lengths = [[len(slots) for slots in row] for row in rows]
        if rotary.is_dynamic:
            lengths = _rope_lengths(model, cache, lengths)
        ragged = slotting.queries == 1 and slotting.attention_mask is not None and not _alike(rows)
        if dense:
            logger.warning_once(
                f"Dual Chunk Attention computes every weight here, since {dense}: memory grows with Q x K."
            )
        layouts = {}
        for table, of in plan.tables.items():
            frequencies = Frequencies(
                lambda length, table=table: rotary.inverse_frequencies(length, model, table), lengths, of
            )
            if rotary.is_dynamic:
                positions = with_lengths(positions, frequencies.spread(rows, int(slotting.past), slotting.queries))
            if dense or ragged:
                layouts[table] = positioned(rows, slotting, frequencies, geometry, visible, dense is not None)
            else:
                layouts[table] = segmented(rows, slotting, frequencies, geometry)
    kwargs["dual_chunk"] = _as_call(model, layouts, positions, dense is not None)
    if not torch.compiler.is_compiling():
        positions.dual_chunk = kwargs["dual_chunk"]  # pyright: ignore[reportAttributeAccessIssue]
    kwargs["position_ids"] = positions
    return (), kwargs


def _as_call(model, layouts: dict[Table, Layout], positions: torch.Tensor, weights: bool):
    rotary: DualChunkRotary = model.rotary_emb
    if rotary.plan.is_uniform:
        (layout,) = layouts.values()
        return DualChunkCall(rotary.geometry, layout, sparse=rotary.sparse, watch=rotary.watch)
    dtype = model.get_input_embeddings().weight.dtype
    calls = {
        table: DualChunkCall(
            rotary.geometry, layout, rotary.in_chunk(model, positions, dtype, table), rotary.sparse, rotary.watch
        )
        for table, layout in layouts.items()
    }
    return LayeredCall(calls, BaseAttention(weights))


def _cache_of(kwargs: dict[str, Any]) -> Cache | None:
    """The cache of a call, under whatever name and of whatever class: past_key_values became cache in transformers
    5.24, and in 5.10 some hybrid models have caches of their own that are not a `Cache`."""
    return next((value for value in kwargs.values() if _is_cache(value)), None)


def _is_cache(value: Any) -> bool:
    return all(callable(getattr(value, name, None)) for name in ("update", "get_seq_length", "get_mask_sizes"))


def _makes_cache(model, kwargs: dict[str, Any]) -> bool:
    use_cache = kwargs.get("use_cache")
    return bool(model.config.use_cache if use_cache is None else use_cache) and not model.training


def _keep_packed_apart(rows: list[list[torch.Tensor]], cache: Cache | None, kwargs: dict[str, Any], plan: Plan) -> None:
    """Keys of packed documents are rotated at positions counted in their own document, so a call that continued them as
    one text would be wrong. The cache itself is marked, or not made."""
    packed = any(len(row) > 1 for row in rows)
    if packed and plan.mixes:
        raise ValueError("linear layers cannot keep documents packed in one row apart: give each document its own row.")
    if packed and not plan.is_uniform and (cache is not None or kwargs.get("attention_mask") is not None):
        raise ValueError(
            "documents packed in one row are kept apart in every kind of layer only without a cache and a mask."
        )
    if cache is None:
        if packed:
            kwargs["use_cache"] = False
    elif int(cache.get_seq_length()) == 0:
        cache.holds_packed = packed  # pyright: ignore[reportAttributeAccessIssue]
    elif getattr(cache, "holds_packed", False):
        raise ValueError(
            "the cache holds several documents packed in one row, which cannot be continued: start with an empty "
            "cache and one document a row."
        )


def _slotting(kwargs: dict[str, Any], cache: Cache | None, plan: Plan) -> Slotting:
    tokens = kwargs.get("input_ids")
    tokens = kwargs.get("inputs_embeds") if tokens is None else tokens
    if tokens is None:
        raise ValueError("You must specify exactly one of input_ids or inputs_embeds")
    batch, queries = tokens.shape[:2]
    mask = kwargs.get("attention_mask")
    sliding, first = list(getattr(cache, "is_sliding", None) or ()), plan.changed[0].index
    if any(layer.index < len(sliding) and sliding[layer.index] for layer in plan.changed):
        raise ValueError("Dual Chunk Attention needs every key: use a cache without sliding windows.")
    return Slotting(
        batch=batch,
        queries=queries,
        past=0 if cache is None else cache.get_seq_length(first),
        cache_length=None if cache is None else _cache_length(cache, queries, first),
        attention_mask=mask if mask is not None and mask.dim() == 2 else None,
        position_ids=kwargs.get("position_ids"),
        device=tokens.device,
    )


def _cache_length(cache, queries: int, layer: int) -> int:
    """The slots that a cache hands back to a layer. Some versions of transformers 5 ask with the number of queries,
    earlier ones with their positions, of which only the number counts."""
    by_position = "cache_position" in inspect.signature(cache.get_mask_sizes).parameters
    return cache.get_mask_sizes(torch.arange(queries) if by_position else queries, layer)[0]


def _alike(rows: list[list[torch.Tensor]]) -> bool:
    return all(len(row) == 1 and torch.equal(row[0], rows[0][0]) for row in rows)


def _why_dense(model, kwargs: dict[str, Any]) -> str | None:
    """The reason for which a call needs the naive path, or None."""
    mask = kwargs.get("attention_mask")
    if mask is not None and mask.dim() == 4:
        return "attention_mask has four dimensions"
    if model.rotary_emb.plan.makes_masks:
        return f"{type(model).__name__} masks keys by a rule of its own"
    if kwargs.get("output_attentions", getattr(model.config, "output_attentions", False)):
        return "output_attentions is on"
    if model.training and getattr(model.config, "attention_dropout", 0.0):
        return "attention_dropout is on in training"
    return None


def _fit_mask(visible: torch.Tensor | None, slotting: Slotting) -> torch.Tensor | None:
    """A caller's own four-dimensional mask, with nothing visible in the slots that it does not cover."""
    if visible is None:
        return None
    short = slotting.keys - visible.shape[-1]
    if visible.shape[-2] != slotting.queries or short < 0:
        raise ValueError(
            f"attention_mask {tuple(visible.shape)} does not fit {slotting.queries} queries and {slotting.keys} keys."
        )
    unseen = False if visible.dtype == torch.bool else torch.finfo(visible.dtype).min
    return torch.nn.functional.pad(visible, (0, short), value=unseen)


def _rope_lengths(model, cache: Cache | None, lengths: list[list[int]]) -> list[list[int]]:
    """The lengths that dynamic NTK scaling goes by: those of the first call on a cache, so that its keys keep agreeing
    with the queries that come later. They are kept with the cache, not with the model."""
    if cache is None:
        return lengths
    if int(cache.get_seq_length()) == 0:
        cache.rope_lengths = lengths  # pyright: ignore[reportAttributeAccessIssue]
        return lengths
    first = getattr(cache, "rope_lengths", [])
    if len(first) != len(lengths):
        raise ValueError(
            f"the cache was filled for {len(first)} rows and now serves {len(lengths)}: under dynamic NTK scaling each "
            "row keeps the frequencies of its first call; start with an empty cache."
        )
    kept = [[max(row, default=1)] for row in first]
    trained = model.rotary_emb.inner.original_max_seq_len
    if any(now > max(then, trained) for (now,), (then,) in zip(lengths, kept)):
        logger.warning_once(
            "Dynamic NTK scaling keeps the frequencies of the first call on a cache; give a long text in one call, or "
            "use linear or YaRN scaling, for the frequencies of the whole length."
        )
    return kept
