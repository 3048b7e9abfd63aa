"""Dual Chunk Attention over plain tensors: the public operation and its readable naive twin.

Shapes: B batch, H query heads, G key/value heads (H a multiple of G), Q queries, K keys, D head size, R rotated part
of D.
"""

import torch

from .dual_chunk_backends import attention_backend
from .dual_chunk_geometry import DualChunkGeometry
from .dual_chunk_rotation import RelationRotations, relation_rotations


def dual_chunk_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    inv_freq: torch.Tensor | None = None,
    *,
    geometry: DualChunkGeometry,
    scaling: float | None = None,
    rotations: RelationRotations | None = None,
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
            `inv_freq` is not needed.
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
    attend = attention_backend(query, key, backend, geometry.chunk_length)
    return attend(query, key, value, rotations.to(query.device), geometry, scaling)


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
    rotations: RelationRotations,
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
    q_RBGHQD = rotations.stacked(query * scaling).unflatten(2, groups)  # scaled before float16 could overflow
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
