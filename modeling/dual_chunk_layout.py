"""Which positions the slots of a call hold: from mask, cache and position_ids to contiguous runs of positions.

Dual Chunk Attention counts chunks from the first real token of a document. So every forward is laid out once, before
the layers run: left padding, holes in a mask, packed documents and a filled cache all become segments of contiguous
positions, and padding that nobody may see simply has no segment.
"""

from dataclasses import dataclass

import torch

from .dual_chunk_attention import capped_dual_chunk_attention, dual_chunk_attention, naive_dual_chunk_attention
from .dual_chunk_decode import DecodeStep, attend_positioned, refuse_decode
from .dual_chunk_geometry import DualChunkGeometry
from .dual_chunk_rotary import Frequencies
from .dual_chunk_rotation import HALF_SPLIT, RelationRotations, RotaryLayout, relation_rotations
from .dual_chunk_sparse import SparseCall

Slots = slice | torch.Tensor


@dataclass(frozen=True)
class Extras:
    """What some models add to their attention: a sink's logit a head [H], and a soft cap on the logits."""

    sinks: torch.Tensor | None = None
    softcap: float | None = None


@dataclass(frozen=True)
class Segment:
    """A document, or the part of it that is here: `keys` are its cache slots in order of position, `queries` the slots,
    among the given queries, of its last positions. `rows` are the batch rows that share this layout."""

    rows: slice
    queries: Slots
    keys: Slots
    rotations: RelationRotations


@dataclass(frozen=True)
class SegmentedLayout:
    """Segments that can each go through the fast path."""

    segments: tuple[Segment, ...]

    def attend(
        self,
        query,
        key,
        value,
        geometry: DualChunkGeometry,
        scaling: float,
        extras: Extras,
        sparse: SparseCall | None = None,
    ):
        whole = len(self.segments) == 1 and self.segments[0].rows == slice(0, query.shape[0])
        if whole and self.segments[0].queries == slice(0, query.shape[2]):
            return self._segment(self.segments[0], query, key, value, geometry, scaling, extras, sparse), None
        out = query.new_zeros(*query.shape[:3], value.shape[-1])
        for segment in self.segments:
            part = self._segment(segment, query, key, value, geometry, scaling, extras, sparse)
            out[segment.rows, :, segment.queries] = part
        return out, None

    @staticmethod
    def _segment(segment: Segment, query, key, value, geometry, scaling, extras, sparse):
        rows, keys = segment.rows, segment.keys
        tensors = query[rows][:, :, segment.queries], key[rows][:, :, keys], value[rows][:, :, keys]
        shared = {"geometry": geometry, "scaling": scaling, "rotations": segment.rotations, "sinks": extras.sinks}
        if extras.softcap is not None:
            return capped_dual_chunk_attention(*tensors, extras.softcap, **shared)
        if sparse is not None and sparse.refusal(*tensors[:2]) is None:
            return sparse.attend(*tensors, **shared)
        return dual_chunk_attention(*tensors, **shared)


@dataclass(frozen=True)
class PositionedLayout:
    """Explicit positions for every slot, [B, Q] and [B, K], negative where nothing is held; computed densely.

    For a few queries (decoding a ragged batch, a compiled step over a static cache), and for what needs every weight:
    `visible` is a caller's own mask, `every_weight` asks for the weights. Memory grows with Q x K, but for one query a
    row on a GPU, which `dual_chunk_decode` serves.
    """

    query_positions: torch.Tensor
    key_positions: torch.Tensor
    rotations: RelationRotations
    visible: torch.Tensor | None = None
    every_weight: bool = False

    def causal_mask(self) -> torch.Tensor:
        """The keys that each query sees, bool [B, 1, Q, K]."""
        keys, queries = self.key_positions[:, None, None, :], self.query_positions[:, None, :, None]
        seen = (keys <= queries) & (keys >= 0)
        return seen if self.visible is None else seen & self.visible

    def attend(
        self,
        query,
        key,
        value,
        geometry: DualChunkGeometry,
        scaling: float,
        extras: Extras,
        dropout: float = 0.0,
    ):
        rotations = self.rotations.to(query.device)
        special = extras.sinks is not None or extras.softcap is not None or rotations.layout != HALF_SPLIT
        needs_weights = self.every_weight or self.visible is not None or dropout > 0 or special
        if not needs_weights and refuse_decode(query, key, in_graph=True) is None:
            step = DecodeStep.of(rotations, self.key_positions.to(query.device), self.query_positions.to(query.device))
            return attend_positioned(query, key, value, step, geometry.chunk_length, scaling), None
        return naive_dual_chunk_attention(
            query,
            key,
            value,
            rotations,
            self.query_positions.to(query.device),
            self.key_positions.to(query.device),
            geometry.chunk_length,
            scaling,
            visible=None if self.visible is None else self.visible.to(query.device),
            dropout=dropout,
            sinks=extras.sinks,
            softcap=extras.softcap,
        )


Layout = SegmentedLayout | PositionedLayout


@dataclass(frozen=True)
class Slotting:
    """What a forward call says of its slots.

    Args:
        batch, queries: the shape of the input tokens.
        past: tokens already cached; a tensor where a static cache counts them on the device.
        cache_length: slots that the cache hands back (a static cache has more than it holds), or None without one.
        attention_mask: [B, past + queries] of zeros and ones, or None.
        position_ids: [B or 1, queries], or None.
    """

    batch: int
    queries: int
    past: int | torch.Tensor
    cache_length: int | None
    attention_mask: torch.Tensor | None
    position_ids: torch.Tensor | None
    device: torch.device

    @property
    def keys(self) -> int:
        return self.queries if self.cache_length is None else self.cache_length


def documents(slotting: Slotting) -> list[list[torch.Tensor]]:
    """The documents of each batch row, each as its slots (int64 on the CPU) in order of position.

    Raises:
        ValueError: a mask that does not cover the cached tokens, or position_ids that contradict mask and cache.
    """
    past, total = int(slotting.past), int(slotting.past) + slotting.queries
    mask, positions = slotting.attention_mask, slotting.position_ids
    if mask is not None and mask.shape[1] < total:
        raise ValueError(
            f"attention_mask covers {mask.shape[1]} tokens, but {past} are cached and {slotting.queries} are new: "
            "pass a mask over all of them."
        )
    mask = None if mask is None else mask[:, :total].cpu().bool().expand(slotting.batch, -1)
    positions = None if positions is None else positions.cpu().expand(slotting.batch, -1)
    every = torch.arange(total)
    rows = []
    for row in range(slotting.batch):
        slots = every if mask is None or bool(mask[row].all()) else mask[row].nonzero()[:, 0]
        if positions is None or not len(slots):
            rows.append([slots])
        elif past:
            _check_continuation(positions[row], slots, past)
            rows.append([slots])
        else:
            rows.append(_split(positions[row], slots))
    return rows


def _check_continuation(positions: torch.Tensor, slots: torch.Tensor, past: int) -> None:
    """position_ids of a call on a filled cache must count on from it: by tokens, or by slots with the padding."""
    new = slots >= past
    given, by_token = positions[slots[new] - past], torch.arange(len(slots))[new]
    if not torch.equal(given, by_token) and not torch.equal(given, slots[new]):
        raise ValueError(
            f"position_ids start at {given[:1].tolist()} but the cache holds {int((~new).sum())} tokens of this row: "
            "Dual Chunk Attention needs positions that count on from the cache; leave position_ids out."
        )


def _split(positions: torch.Tensor, slots: torch.Tensor) -> list[torch.Tensor]:
    """Splits a row where its positions start again; a hole that the mask cuts out is no new start."""
    given = positions[slots]
    restarts = (given[1:] - given[:-1] != 1) & (given[1:] - given[:-1] != slots[1:] - slots[:-1])
    return list(slots.tensor_split((restarts.nonzero()[:, 0] + 1).tolist()))


def positions_of(rows: list[list[torch.Tensor]], slotting: Slotting) -> torch.Tensor:
    """The positions of the new tokens, int64 [B or 1, Q]: each counted within its document, 0 for padding."""
    past = int(slotting.past)
    if all(len(row) == 1 and len(row[0]) == past + slotting.queries for row in rows):
        return torch.arange(past, past + slotting.queries, device=slotting.device).unsqueeze(0)
    return _slot_positions(rows, past + slotting.queries)[:, past:].clamp(min=0).to(slotting.device)


def _slot_positions(rows: list[list[torch.Tensor]], length: int) -> torch.Tensor:
    """The position that each of `length` slots holds, -1 where it holds padding."""
    positions = torch.full((len(rows), length), -1)
    for row, docs in enumerate(rows):
        for slots in docs:
            positions[row, slots] = torch.arange(len(slots))
    return positions


def segmented(
    rows: list[list[torch.Tensor]], slotting: Slotting, frequencies: Frequencies, geometry: DualChunkGeometry
) -> SegmentedLayout:
    """The segments of documents; neighbouring rows of one layout share a segment."""
    past, segments, ready = int(slotting.past), [], {}

    def rotations(first: int, last: int, length: int) -> RelationRotations:
        if (first, last, length) not in ready:
            positions = torch.arange(first, last, device=slotting.device)
            inv_freq = frequencies.of(length).to(slotting.device)
            ready[first, last, length] = relation_rotations(positions, inv_freq, geometry, frequencies.layout)
        return ready[first, last, length]

    row = 0
    while row < len(rows):
        end = row + 1
        while end < len(rows) and _same(rows[end], rows[row]):
            end += 1
        for slots, length in zip(rows[row], frequencies.lengths[row]):
            new = int((slots >= past).sum())
            if new:
                queries, keys = _as_slots(slots[-new:] - past, slotting), _as_slots(slots, slotting)
                its = rotations(len(slots) - new, len(slots), length)
                segments.append(Segment(slice(row, end), queries, keys, its))
        row = end
    return SegmentedLayout(tuple(segments))


def _same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b))


def _as_slots(slots: torch.Tensor, slotting: Slotting) -> Slots:
    """A slice where the slots are contiguous, so that keys and values stay views of the cache."""
    first, last = int(slots[0]), int(slots[-1])
    return slice(first, last + 1) if last - first + 1 == len(slots) else slots.to(slotting.device)


def positioned(
    rows: list[list[torch.Tensor]],
    slotting: Slotting,
    frequencies: Frequencies,
    geometry: DualChunkGeometry,
    visible: torch.Tensor | None = None,
    every_weight: bool = False,
) -> PositionedLayout:
    """Explicit positions of one document a row; documents packed in a row are kept apart by `visible`."""
    past = int(slotting.past)
    key_positions = _slot_positions(rows, slotting.keys)
    query_positions = key_positions[:, past : past + slotting.queries]
    if any(len(docs) > 1 for docs in rows):
        index = torch.full((len(rows), slotting.keys), -1)
        for row, docs in enumerate(rows):
            for number, slots in enumerate(docs):
                index[row, slots] = number
        same = (index[:, past : past + slotting.queries, None] == index[:, None, :]).unsqueeze(1).to(slotting.device)
        visible = same if visible is None else _both(same, visible)
    query_positions = query_positions.to(slotting.device)
    inv_freq = frequencies.each(rows, past, slotting.queries).to(slotting.device)
    placed = query_positions.clamp(min=0).unsqueeze(1)
    rotations = relation_rotations(placed, inv_freq, geometry, frequencies.layout)
    return PositionedLayout(query_positions, key_positions.to(slotting.device), rotations, visible, every_weight)


def _both(same: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    if visible.dtype == torch.bool:
        return same & visible
    return visible.masked_fill(~same, torch.finfo(visible.dtype).min)


def compiled(
    slotting: Slotting,
    inv_freq: torch.Tensor,
    geometry: DualChunkGeometry,
    visible: torch.Tensor | None = None,
    every_weight: bool = False,
    layout: RotaryLayout = HALF_SPLIT,
) -> tuple[Layout, torch.Tensor]:
    """The layout by tensors alone, for a graph that is being traced: nothing is read back from the device."""
    past, device = slotting.past, slotting.device
    slots = torch.arange(slotting.keys, device=device).unsqueeze(0)
    real = (slots < past + slotting.queries).expand(slotting.batch, -1)
    if slotting.attention_mask is not None:
        mask = slotting.attention_mask.to(device).bool()[:, : slotting.keys]
        real = real & torch.nn.functional.pad(mask, (0, slotting.keys - mask.shape[1]))
    at = (torch.arange(slotting.queries, device=device) + past).unsqueeze(0).expand(slotting.batch, -1)
    counted = real.long().cumsum(-1) - 1
    if slotting.position_ids is not None and slotting.queries > 1:
        starts = torch.zeros_like(real).scatter(1, at, _starts(slotting.position_ids.to(device), real.gather(1, at)))
        counted = counted - torch.where(starts, counted, 0).cummax(-1).values
        index = starts.long().cumsum(-1)
        same = (index.gather(1, at).unsqueeze(-1) == index.unsqueeze(1)).unsqueeze(1)
        visible = same if visible is None else _both(same, visible)
    key_positions = counted.masked_fill(~real, -1)
    query_positions = key_positions.gather(1, at)
    rotations = relation_rotations(query_positions.clamp(min=0).unsqueeze(1), inv_freq, geometry, layout)
    return PositionedLayout(query_positions, key_positions, rotations, visible, every_weight), query_positions.clamp(
        min=0
    )


def _starts(positions: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Where, among new tokens [B, Q], a document begins after another: the rule of `_split`, by tensors alone."""
    slots = torch.arange(real.shape[1], device=real.device).expand_as(real)
    latest = torch.where(real, slots, -1).cummax(-1).values
    before = torch.nn.functional.pad(latest[:, :-1], (1, 0), value=-1)
    positions = positions.expand_as(real)
    step = positions - positions.gather(1, before.clamp(min=0))
    return real & (before >= 0) & (step != 1) & (step != slots - before)
