"""The rotations that take queries, rotated at their position in the chunk, to where each relation has them.

Rotations compose: a query arrives rotated at `position mod s`, its position in the intra relation, and is rotated
further for the other two, so a model's own attention module needs no copy. The attention temperature goes with them.
Shapes: B batch, H query heads, Q queries, D head size, R the rotated part of D.
"""

from dataclasses import dataclass, field

import torch

from .dual_chunk_geometry import DualChunkGeometry, Relation

ORDER = tuple(Relation)


@dataclass(frozen=True)
class RotaryLayout:
    """Where in a head the rotated dimensions are, and which of them form pairs.

    Args:
        start: the first rotated dimension; latent attention has others before them.
        interleaved: whether dimension i goes with i + 1, as in GPT-J's layout, and not with i + R / 2, as in Llama's.
        reversed: whether pairs rotate the other way, as in NanoChat.
    """

    start: int = 0
    interleaved: bool = False
    reversed: bool = False

    def split(self, x: torch.Tensor, half: int) -> tuple[torch.Tensor, ...]:
        """[..., D] as what comes before the rotated dimensions, the two of each pair [..., R / 2], and the rest."""
        before, rotated, after = x.split((self.start, 2 * half, x.shape[-1] - self.start - 2 * half), dim=-1)
        first, second = rotated.unflatten(-1, (half, 2)).unbind(-1) if self.interleaved else rotated.chunk(2, dim=-1)
        return before, first, second, after

    def join(self, before, first, second, after) -> torch.Tensor:
        """The inverse of `split`."""
        pairs = [torch.stack([first, second], dim=-1).flatten(-2)] if self.interleaved else [first, second]
        return torch.cat([*(x for x in (before,) if x.shape[-1]), *pairs, *(x for x in (after,) if x.shape[-1])], -1)


HALF_SPLIT = RotaryLayout()


@dataclass(frozen=True)
class RelationRotations:
    """What rotates queries from the intra relation into the other two, and scales their logits.

    `cos` and `sin` are float32 [3, ..., Q, R / 2], a table for each `Relation` in its order; the temperature, if any,
    is multiplied in. `factor` is the temperature alone, [..., Q, 1], or None where there is none. `layout` is the
    model's own. `shared` is for what the layers of a call, which share these rotations, would each make anew.
    """

    cos: torch.Tensor
    sin: torch.Tensor
    factor: torch.Tensor | None
    layout: RotaryLayout  # without a default: PyTorch before 2.13 traces none that is a dataclass
    shared: dict = field(default_factory=dict, repr=False, compare=False)

    def to(self, device: torch.device) -> "RelationRotations":
        """The same rotations on another device; the layers of a model may stand on several."""
        if self.cos.device == device:
            return self
        factor = None if self.factor is None else self.factor.to(device)
        return RelationRotations(self.cos.to(device), self.sin.to(device), factor, self.layout)

    def rows(self, rows: slice) -> "RelationRotations":
        """The rotations of some of the queries."""
        factor = None if self.factor is None else self.factor[..., rows, :]
        return RelationRotations(self.cos[..., rows, :], self.sin[..., rows, :], factor, self.layout)

    def stacked(self, query: torch.Tensor) -> torch.Tensor:
        """The queries [B, H, Q, D] for every relation: [3, B, H, Q, D]."""
        shape = (3, *[1] * (5 - self.cos.dim()), *self.cos.shape[1:])
        return rotate(query, self.cos.view(shape), self.sin.view(shape), self.factor, self.layout)

    def stacked_one(self, query: torch.Tensor, scaling: float) -> torch.Tensor:
        """`stacked` times the scaling, in few operations, for one query a row [B, H, 1, D]. Each layer of a step does
        this, so what is made of the tables alone is shared."""
        half = self.cos.shape[-1]
        wide = query.to(torch.promote_types(query.dtype, self.cos.dtype))
        if self.layout != HALF_SPLIT or 2 * half != query.shape[-1]:
            return self.stacked(wide).mul_(scaling).to(query.dtype)
        if ("one", scaling) not in self.shared:
            shape = (3, *[1] * (5 - self.cos.dim()), *self.cos.shape[1:-1], 2 * half)
            cos, sin = torch.cat([self.cos, self.cos], -1), torch.cat([-self.sin, self.sin], -1)
            self.shared["one", scaling] = (cos * scaling).view(shape), (sin * scaling).view(shape)
        cos, sin = self.shared["one", scaling]
        return torch.addcmul(wide * cos, wide.roll(half, -1), sin).to(query.dtype)

    def forward(self, query: torch.Tensor, relation: Relation, rows: slice = slice(None)) -> torch.Tensor:
        """Queries [..., Q, D] for one relation; `rows` are the ones the given queries stand in."""
        return self._rotated(query, relation, rows, sign=1)

    def transpose(self, gradient: torch.Tensor, relation: Relation, rows: slice = slice(None)) -> torch.Tensor:
        """The transpose of `forward`: takes the gradient of the rotated query to that of the query."""
        return self._rotated(gradient, relation, rows, sign=-1)

    def _rotated(self, x: torch.Tensor, relation: Relation, rows: slice, sign: int) -> torch.Tensor:
        factor = None if self.factor is None else self.factor[..., rows, :]
        if relation is Relation.INTRA:
            return x if factor is None else (x * factor).to(x.dtype)
        index = ORDER.index(relation)
        cos, sin = self.cos[index][..., rows, :], sign * self.sin[index][..., rows, :]
        return rotate(x, cos, sin, factor, self.layout)


def rotate(
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    factor: torch.Tensor | float | None = None,
    layout: RotaryLayout = HALF_SPLIT,
) -> torch.Tensor:
    """Rotates the pairs of [..., D] that a layout tells by angles [..., R / 2], in at least float32. `cos` and `sin`
    hold the factor already; the other dimensions have only that."""
    wide = x.to(torch.promote_types(x.dtype, cos.dtype))
    before, a, b, after = layout.split(wide, cos.shape[-1])
    in_place = not torch.is_grad_enabled() and not torch.compiler.is_compiling()  # a graph takes no views as `out`
    if in_place and layout == HALF_SPLIT and not after.shape[-1]:
        lead = torch.broadcast_shapes(a.shape, cos.shape)
        out = torch.empty_like(wide) if lead == a.shape else wide.new_empty(*lead[:-1], wide.shape[-1])
        first, second = out.chunk(2, dim=-1)
        torch.mul(a, cos, out=first).addcmul_(b, sin, value=-1)
        torch.mul(b, cos, out=second).addcmul_(a, sin)
        return out.to(x.dtype)
    first, second = torch.addcmul(a * cos, b, sin, value=-1), torch.addcmul(b * cos, a, sin)
    before, after = (_scaled_as(first, other, factor) for other in (before, after))
    return layout.join(before, first, second, after).to(x.dtype)


def _scaled_as(rotated: torch.Tensor, other: torch.Tensor, factor: torch.Tensor | float | None) -> torch.Tensor:
    if not other.shape[-1]:
        return other
    return (other if factor is None else other * factor).expand(*rotated.shape[:-1], -1)


def query_positions(positions: torch.Tensor, geometry: DualChunkGeometry) -> torch.Tensor:
    """The rotary positions of queries at absolute `positions` [..., Q]: [3, ..., Q], by `Relation` in its order."""
    s, end = geometry.chunk_length, geometry.chunk_size
    in_chunk = positions % s
    return torch.stack([in_chunk, (in_chunk + s).clamp(max=end), torch.full_like(in_chunk, end)])


def logit_factors(positions: torch.Tensor, geometry: DualChunkGeometry, dtype: torch.dtype) -> torch.Tensor | None:
    """The attention temperature's factors on the logits of queries at `positions` [..., Q]: [..., Q, 1], or None."""
    if not geometry.temperature:
        return None
    grown = ((positions + 1).to(dtype) / geometry.pretraining_length).log()
    return torch.where(positions >= geometry.pretraining_length, 1 + geometry.temperature * grown, 1.0).unsqueeze(-1)


def relation_rotations(
    positions: torch.Tensor,
    inv_freq: torch.Tensor,
    geometry: DualChunkGeometry,
    layout: RotaryLayout = HALF_SPLIT,
) -> RelationRotations:
    """The rotations of queries at absolute `positions` [..., Q] for a model's inverse frequencies [R / 2].

    Cosines and sines are unscaled: a factor that a model puts on them (YaRN) is in the query already.
    """
    dtype = torch.promote_types(inv_freq.dtype, torch.float32)
    # Long chunks make angles of many turns: float32 would lose a hundredth of a radian at 250,000 tokens.
    fine = dtype if positions.device.type == "mps" else torch.float64
    rotary = query_positions(positions, geometry)
    angle = (rotary - rotary[0]).unsqueeze(-1).to(fine) * inv_freq.to(fine)
    angle = -angle if layout.reversed else angle
    cos, sin = angle.cos().to(dtype), angle.sin().to(dtype)
    factor = logit_factors(positions, geometry, dtype)
    if factor is not None:
        cos, sin = cos * factor, sin * factor
    return RelationRotations(cos, sin, factor, layout)
