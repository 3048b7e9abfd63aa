"""Dual Chunk Attention over plain tensors: the public operation and its readable naive twin.

Shapes: B batch, H query heads, G key/value heads (H a multiple of G), Q queries, K keys, D head size, R rotated part
of D. Rotations compose, so a query that arrives rotated at its place within the chunk is turned further for the other
two relations, and a model's own attention module needs no copy.
"""

from dataclasses import dataclass

import torch

from .dual_chunk_backends import attention_backend
from .dual_chunk_geometry import DualChunkGeometry, Relation

ORDER = tuple(Relation)


@dataclass(frozen=True)
class QueryTurns:
    """What turns queries from the intra relation into the other two, and scales their logits.

    `cos` and `sin` are float32 [3, ..., Q, R / 2], a table for each `Relation` in its order; the temperature, if any,
    is multiplied in. `factor` is the temperature alone, [..., Q, 1], or None where there is none.
    """

    cos: torch.Tensor
    sin: torch.Tensor
    factor: torch.Tensor | None

    def to(self, device: torch.device) -> "QueryTurns":
        """The same turns on another device; the layers of a model may stand on several."""
        factor = None if self.factor is None else self.factor.to(device)
        return QueryTurns(self.cos.to(device), self.sin.to(device), factor)

    def all(self, query: torch.Tensor) -> torch.Tensor:
        """The queries [B, H, Q, D] for every relation: [3, B, H, Q, D]."""
        shape = (3, *[1] * (5 - self.cos.dim()), *self.cos.shape[1:])
        return turn(query, self.cos.view(shape), self.sin.view(shape), self.factor)

    def apply(self, query: torch.Tensor, relation: Relation, rows: slice = slice(None)) -> torch.Tensor:
        """Queries [..., Q, D] for one relation; `rows` are the ones the given queries stand in."""
        return self._turned(query, relation, rows, sign=1)

    def unapply(self, gradient: torch.Tensor, relation: Relation, rows: slice = slice(None)) -> torch.Tensor:
        """The transpose of `apply`: takes the gradient of the turned query to that of the query."""
        return self._turned(gradient, relation, rows, sign=-1)

    def _turned(self, x: torch.Tensor, relation: Relation, rows: slice, sign: int) -> torch.Tensor:
        factor = None if self.factor is None else self.factor[..., rows, :]
        if relation is Relation.INTRA:
            return x if factor is None else (x * factor).to(x.dtype)
        index = ORDER.index(relation)
        return turn(x, self.cos[index][..., rows, :], sign * self.sin[index][..., rows, :], factor)


def turn(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, factor: torch.Tensor | float | None = None
) -> torch.Tensor:
    """Rotates [..., D] by angles [..., R / 2], in at least float32; dimension i goes with i + R / 2, the half-split
    layout of RoPE. `cos` and `sin` hold the factor already; dimensions from R on have only that."""
    half = cos.shape[-1]
    wide = x.to(torch.promote_types(x.dtype, cos.dtype))
    a, b, rest = wide.split((half, half, wide.shape[-1] - 2 * half), dim=-1)
    turned = [torch.addcmul(a * cos, b, sin, value=-1), torch.addcmul(b * cos, a, sin)]
    if rest.shape[-1]:
        rest = rest if factor is None else rest * factor
        turned.append(rest.expand(*turned[0].shape[:-1], -1))
    return torch.cat(turned, dim=-1).to(x.dtype)


def query_places(positions: torch.Tensor, geometry: DualChunkGeometry) -> torch.Tensor:
    """Where queries at absolute `positions` [..., Q] are rotated: [3, ..., Q], for each `Relation` in its order."""
    s, end = geometry.chunk_length, geometry.chunk_size
    within = positions % s
    return torch.stack([within, (within + s).clamp(max=end), torch.full_like(within, end)])


def logit_factors(positions: torch.Tensor, geometry: DualChunkGeometry, dtype: torch.dtype) -> torch.Tensor | None:
    """The attention temperature's factors on the logits of queries at `positions` [..., Q]: [..., Q, 1], or None."""
    if not geometry.temperature:
        return None
    grown = ((positions + 1).to(dtype) / geometry.pretraining_length).log()
    return torch.where(positions >= geometry.pretraining_length, 1 + geometry.temperature * grown, 1.0).unsqueeze(-1)


def query_turns(positions: torch.Tensor, inv_freq: torch.Tensor, geometry: DualChunkGeometry) -> QueryTurns:
    """The turns of queries at absolute `positions` [..., Q] for a model's inverse frequencies [R / 2].

    Cosines and sines are unscaled: a factor that a model puts on them (YaRN) is in the query already.
    """
    dtype = torch.promote_types(inv_freq.dtype, torch.float32)
    # Long chunks make angles of many turns: float32 would lose a hundredth of a radian at 250,000 tokens.
    fine = dtype if positions.device.type == "mps" else torch.float64
    places = query_places(positions, geometry)
    angle = (places - places[0]).unsqueeze(-1).to(fine) * inv_freq.to(fine)
    cos, sin = angle.cos().to(dtype), angle.sin().to(dtype)
    factor = logit_factors(positions, geometry, dtype)
    if factor is not None:
        cos, sin = cos * factor, sin * factor
    return QueryTurns(cos, sin, factor)


def dual_chunk_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    inv_freq: torch.Tensor | None = None,
    *,
    geometry: DualChunkGeometry,
    scaling: float | None = None,
    turns: QueryTurns | None = None,
    backend: str | None = None,
) -> torch.Tensor:
    """Dual Chunk Attention of the last Q of K contiguous positions, causal, with exact gradients.

    Args:
        query: [B, H, Q, D], rotated at `position mod s`; query i stands at position K - Q + i.
        key, value: [B, G, K, D], the key rotated at `position mod s`. Never expanded to H heads.
        inv_freq: [R / 2], the model's inverse frequencies, in radians per token.
        geometry: the sizes and the temperature.
        scaling: the softmax scale; 1 / sqrt(D) by default.
        turns: what `query_turns` gives for these positions, to share between the layers of a model; with it
            `inv_freq` is not needed.
        backend: a name of `dual_chunk_backends`; by default the best that can serve these tensors.

    Returns:
        [B, H, Q, D] in the dtype of the query.

    Raises:
        ValueError: shapes or dtypes that do not fit, or a backend that cannot serve these tensors.
    """
    query, key, value = _as_autocast(query, key, value)
    _check(query, key, value)
    if turns is None:
        if inv_freq is None:
            raise ValueError("dual_chunk_attention needs inv_freq, the model's inverse frequencies, or ready turns.")
        positions = torch.arange(key.shape[2] - query.shape[2], key.shape[2], device=query.device)
        turns = query_turns(positions, inv_freq.to(query.device), geometry)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    attend = attention_backend(query, key, backend, geometry.chunk_length)
    return attend(query, key, value, turns.to(query.device), geometry.chunk_length, scaling)


def _as_autocast(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What autocast does for the attention of PyTorch: rotations leave queries and keys in float32, values are not."""
    device = tensors[0].device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return tensors
    to = torch.get_autocast_dtype(device)
    return tuple(x if x.dtype == torch.float64 else x.to(to) for x in tensors)


def _check(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
    if not query.dtype == key.dtype == value.dtype:
        raise ValueError(
            f"query, key and value must be of one dtype, not {query.dtype}, {key.dtype} and {value.dtype}."
        )
    if query.dim() != 4 or key.dim() != 4 or key.shape != value.shape:
        raise ValueError(
            "query must be [B, H, Q, D] and key and value [B, G, K, D], not "
            f"{tuple(query.shape)}, {tuple(key.shape)} and {tuple(value.shape)}."
        )
    if query.shape[0] != key.shape[0] or query.shape[3] != key.shape[3] or query.shape[1] % key.shape[1]:
        raise ValueError(
            f"query {tuple(query.shape)} does not fit key {tuple(key.shape)} in batch, heads or head size."
        )
    if not 0 < query.shape[2] <= key.shape[2]:
        raise ValueError(f"there must be 1 to K queries, not {query.shape[2]} for {key.shape[2]} keys.")


def naive_dual_chunk_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    turns: QueryTurns,
    query_positions: torch.Tensor,
    key_positions: torch.Tensor,
    chunk_length: int,
    scaling: float,
    visible: torch.Tensor | None = None,
    dropout: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The definition, written out: every score, one softmax. The twin that the fast paths are compared with.

    Serves any layout: positions are [B or 1, Q] and [B or 1, K], a negative one is padding; `visible` [B or 1, 1, Q, K]
    (bool, or additive) restricts further. Memory grows with Q x K.

    Returns:
        The output [B, H, Q, D] and the weights [B, H, Q, K]; a query that sees no key gets zeros.
    """
    groups = (key.shape[1], -1)
    apart = query_positions[:, None, :, None] // chunk_length - key_positions[:, None, None, :] // chunk_length
    q_RBGHQD = turns.all(query * scaling).unflatten(2, groups)  # scaled before float16 could overflow
    intra, successive, inter = torch.einsum("rbghqd,bgkd->rbghqk", q_RBGHQD, key).flatten(2, 3)
    score = torch.where(apart == 0, intra, torch.where(apart == 1, successive, inter))
    score = score.to(torch.promote_types(query.dtype, torch.float32))

    seen = (key_positions[:, None, None, :] <= query_positions[:, None, :, None]) & (key_positions >= 0)[
        :, None, None, :
    ]
    if visible is not None and visible.dtype == torch.bool:
        seen = seen & visible
    elif visible is not None:
        score = score + visible
    score = score.masked_fill(~seen, torch.finfo(score.dtype).min)
    weights = torch.softmax(score, dim=-1).masked_fill(~seen.any(-1, keepdim=True), 0.0)
    weights = torch.nn.functional.dropout(weights.to(query.dtype), p=dropout, training=dropout > 0)
    return torch.einsum("bghqk,bgkd->bghqd", weights.unflatten(1, groups), value).flatten(1, 2), weights
