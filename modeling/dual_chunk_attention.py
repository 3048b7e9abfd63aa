"""Dual Chunk Attention over plain tensors: the public operation and its readable naive twin.

Shapes: B batch, H query heads, G key/value heads (H a multiple of G), Q queries, K keys, D head size, R rotated part
of D.
"""

import torch

from .dual_chunk_backends import attention_backend
from .dual_chunk_geometry import DualChunkGeometry
from .dual_chunk_rotation import HALF_SPLIT, RelationRotations, relation_rotations


def dual_chunk_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    inv_freq: torch.Tensor | None = None,
    *,
    geometry: DualChunkGeometry,
    scaling: float | None = None,
    rotations: RelationRotations | None = None,
    sinks: torch.Tensor | None = None,
    backend: str | None = None,
) -> torch.Tensor:
    """Dual Chunk Attention of the last Q of K contiguous positions, causal, with exact gradients.

    Args:
        query: [B, H, Q, D], rotated at `position mod s`; query i stands at position K - Q + i.
        key, value: [B, G, K, D], the key rotated at `position mod s`. Never expanded to H heads.
        inv_freq: [R / 2], the model's inverse frequencies, in radians per token.
        geometry: the sizes and the temperature.
        scaling: the softmax scale; 1 / sqrt(D) by default.
        rotations: what `relation_rotations` gives for these positions, to share between the layers of a model; with it
            `inv_freq` is not needed. They bring the rotary layout, which is half-split without them.
        sinks: [H], a logit of each head that takes part in every softmax, once, and has no value (as in gpt-oss).
        backend: a name of `dual_chunk_backends`; by default the best that can serve these tensors.

    Returns:
        [B, H, Q, D] in the dtype of the query.

    Raises:
        ValueError: shapes or dtypes that do not fit, or a backend that cannot serve these tensors.
    """
    query, key, value = _as_autocast(query, key, value)
    _check(query, key, value)
    if rotations is None:
        if inv_freq is None:
            raise ValueError("dual_chunk_attention needs inv_freq, the model's inverse frequencies, or rotations.")
        positions = torch.arange(key.shape[2] - query.shape[2], key.shape[2], device=query.device)
        rotations = relation_rotations(positions, inv_freq.to(query.device), geometry)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    special = _special(rotations, sinks)
    attend = attention_backend(query, key, backend, geometry.chunk_length, special)
    options = {} if sinks is None else {"sinks": sinks.to(query.device)}
    return attend(query, key, value, rotations.to(query.device), geometry, scaling, **options)


def _special(rotations: RelationRotations, sinks: torch.Tensor | None) -> str | None:
    """What these tensors need that not every backend has."""
    if sinks is not None:
        return "attention sinks"
    return None if rotations.layout == HALF_SPLIT else "a rotary layout other than half-split"


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
        raise ValueError(f"expected 1 to K queries, got {query.shape[2]} for {key.shape[2]} keys.")


_SCORES = 1 << 26  # that the readable path holds at a time


def capped_dual_chunk_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    softcap: float,
    *,
    geometry: DualChunkGeometry,
    scaling: float,
    rotations: RelationRotations,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """As `dual_chunk_attention`, with each logit x made softcap * tanh(x / softcap), as Gemma 2 has it: no kernel here
    does that, so this is the definition over blocks of queries. Without gradients memory does not grow with Q x K."""
    query, key, value = _as_autocast(query, key, value)
    _check(query, key, value)
    (batch, heads, queries, _), keys = query.shape, key.shape[2]
    positions = torch.arange(keys, device=query.device).unsqueeze(0)
    block, rotations, out = max(1, _SCORES // (3 * batch * heads * keys)), rotations.to(query.device), []
    for start in range(0, queries, block):
        rows = slice(start, min(start + block, queries))
        seen = slice(0, keys - queries + rows.stop)
        at = positions[:, keys - queries + rows.start : keys - queries + rows.stop]
        part, _ = naive_dual_chunk_attention(
            query[:, :, rows],
            key[:, :, seen],
            value[:, :, seen],
            rotations.rows(rows),
            at,
            positions[:, seen],
            geometry.chunk_length,
            scaling,
            sinks=sinks,
            softcap=softcap,
        )
        out.append(part)
    return torch.cat(out, dim=2)


def naive_dual_chunk_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rotations: RelationRotations,
    query_positions: torch.Tensor,
    key_positions: torch.Tensor,
    chunk_length: int,
    scaling: float,
    visible: torch.Tensor | None = None,
    dropout: float = 0.0,
    sinks: torch.Tensor | None = None,
    softcap: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The definition, written out: every score, one softmax. The twin that the fast paths are compared with.

    Serves any layout: positions are [B or 1, Q] and [B or 1, K], a negative one is padding; `visible` [B or 1, 1, Q, K]
    (bool, or additive) restricts further; `sinks` [H] are as in `dual_chunk_attention`; `softcap` c makes c tanh(x / c)
    of each logit x. Memory grows with Q x K.

    Returns:
        The output [B, H, Q, D] and the weights [B, H, Q, K]; a query that sees no key gets zeros.
    """
    groups = (key.shape[1], -1)
    apart = query_positions[:, None, :, None] // chunk_length - key_positions[:, None, None, :] // chunk_length
    q_RBGHQD = rotations.stacked(query * scaling).unflatten(2, groups)  # scaled before float16 could overflow
    intra, successive, inter = torch.einsum("rbghqd,bgkd->rbghqk", q_RBGHQD, key).flatten(2, 3)
    score = torch.where(apart == 0, intra, torch.where(apart == 1, successive, inter))
    score = score.to(torch.promote_types(query.dtype, torch.float32))
    if softcap is not None:
        score = softcap * torch.tanh(score / softcap)

    seen = (key_positions[:, None, None, :] <= query_positions[:, None, :, None]) & (key_positions >= 0)[
        :, None, None, :
    ]
    if visible is not None and visible.dtype == torch.bool:
        seen = seen & visible
    elif visible is not None:
        score = score + visible
    score = score.masked_fill(~seen, torch.finfo(score.dtype).min)
    if sinks is not None:
        sink = sinks.to(score).view(1, -1, 1, 1).expand(*score.shape[:3], 1)
        score = torch.cat([score, sink], dim=-1)
    weights = torch.softmax(score, dim=-1)[..., : key.shape[2]].masked_fill(~seen.any(-1, keepdim=True), 0.0)
    weights = torch.nn.functional.dropout(weights.to(query.dtype), p=dropout, training=dropout > 0)
    return torch.einsum("bghqk,bgkd->bghqd", weights.unflatten(1, groups), value).flatten(1, 2), weights
