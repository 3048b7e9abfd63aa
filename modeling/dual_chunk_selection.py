"""Which blocks of keys a block of queries keeps, in block-sparse attention.

XAttention: Xu et al., arXiv 2503.16428, section 2. Vertical-slash: Jiang et al., arXiv 2407.02490, and its use with
Dual Chunk Attention in Qwen2.5-1M, arXiv 2501.15383. Queries come rotated for the relation of the keys they are scored
against, so that what is estimated is Dual Chunk Attention. The first block, a block's own and the one before it are
always kept.

Shapes: B batch, H query heads, G key/value heads, K keys, D head size, M and N blocks of queries and of keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from .dual_chunk_blocks import BLOCK, Queries, Slab, by_stride, naive_scores
from .dual_chunk_cuda import without_triton
from .dual_chunk_geometry import DualChunkGeometry
from .dual_chunk_rotation import RelationRotations

XATTENTION, VERTICAL_SLASH = METHODS = ("xattention", "vertical_slash")
HEADS_KEY = "sparse_attention_config"  # of a dual_chunk_attention_config

LAST_QUERIES = 64  # that vertical-slash looks at
_SURE_COLUMNS, _SURE_DIAGONALS = 30, 100  # the first ones, which are kept whatever their score


@dataclass(frozen=True)
class SparseAttention:
    """How blocks are chosen.

    Args:
        method: "xattention" (arXiv 2503.16428) scores blocks by strided antidiagonals and keeps, for each block of
            queries, the fewest that hold `share` of the estimated attention. "vertical_slash" (MInference, arXiv
            2407.02490) keeps columns and diagonals that the last queries of a call attend to, as many as `heads` says.
        share: the share of attention to keep, above 0 to 1; 1 keeps every block. Of xattention.
        stride: of the antidiagonals, a power of two from 4 to 64, in tokens; larger is faster and coarser.
        least_keys: with fewer keys than this attention is dense, in tokens.
        heads: of vertical_slash, for each layer and head how many columns and diagonals: `sparse_attention_config` of
            Qwen2.5-1M and Qwen3-2507.

    Raises:
        ValueError: anything else.
    """

    method: str = XATTENTION
    share: float = 0.9
    stride: int = 16
    least_keys: int = 32_768
    heads: Mapping[int, Mapping[int, tuple[int, int]]] | None = field(default=None, repr=False)

    NUMBERS: ClassVar[tuple[str, ...]] = ("share", "stride", "least_keys")

    def __post_init__(self):
        if self.method not in METHODS:
            raise ValueError(f"sparse attention must be one of {', '.join(METHODS)}, not {self.method!r}.")
        if isinstance(self.share, bool) or not isinstance(self.share, (int, float)) or not 0 < self.share <= 1:
            raise ValueError(f"share must be a number above 0, at most 1, not {self.share!r}.")
        if self.stride not in (4, 8, 16, 32, 64):
            raise ValueError(f"stride must be 4, 8, 16, 32 or 64 tokens, not {self.stride!r}.")
        if isinstance(self.least_keys, bool) or not isinstance(self.least_keys, int) or self.least_keys < 0:
            raise ValueError(f"least_keys must be a whole number of tokens, not {self.least_keys!r}.")
        if self.method == VERTICAL_SLASH and not self.heads:
            raise ValueError("vertical_slash needs a sparse_attention_config, which this model's config does not have.")

    @classmethod
    def of(cls, given: Any, config: Any = None) -> "SparseAttention | None":
        """From what a user or a config.json says: None or False, a method's name, True for the usual one, a share, or a
        mapping of this class's arguments. `config` is where vertical_slash finds its numbers (`Mapping` or None)."""
        if given is None or given is False or isinstance(given, cls):
            return given or None
        if given is True:
            return cls()
        if isinstance(given, (int, float)):
            return cls(share=given)
        settings: Any = {"method": given} if isinstance(given, str) else given
        if not isinstance(settings, Mapping) or set(settings) - {"method", *cls.NUMBERS}:
            raise ValueError(
                f"sparse must be a method ({', '.join(METHODS)}), a share, or a mapping with method, "
                f"{', '.join(cls.NUMBERS)}, not {given!r}."
            )
        if settings.get("method") == VERTICAL_SLASH:
            settings = {**settings, "heads": _heads((config or {}).get(HEADS_KEY))}
        return cls(**settings)

    def as_config(self) -> dict[str, Any]:
        """What `of` takes again. `heads` go beside it, see `heads_as_config`."""
        return {"method": self.method, **{name: getattr(self, name) for name in self.NUMBERS}}

    def heads_as_config(self) -> dict[str, Any]:
        """The `sparse_attention_config` that holds `heads`; nothing without them."""
        layers = (self.heads or {}).items()
        found = {
            str(layer): {str(head): ["vertical_and_slash", *sizes, 0.0] for head, sizes in heads.items()}
            for layer, heads in layers
        }
        return {HEADS_KEY: found} if found else {}

    def check(self, geometry: DualChunkGeometry) -> None:
        """Raises ValueError if blocks would not fit a model's chunks."""
        if geometry.chunk_length % BLOCK:
            raise ValueError(
                f"sparse attention needs chunks of a multiple of {BLOCK} tokens, and chunk_size - local_size is "
                f"{geometry.chunk_length}: choose other sizes."
            )


def _heads(given: Any) -> dict[int, dict[int, tuple[int, int]]] | None:
    """`{"0": {"0": ["vertical_and_slash", columns, diagonals, score], ...}, ...}`, checked."""
    if given is None:
        return None
    try:
        return {
            int(layer): {int(head): (_count(sizes[1]), _count(sizes[2])) for head, sizes in heads.items()}
            for layer, heads in given.items()
        }
    except (AttributeError, TypeError, ValueError, IndexError, KeyError):
        raise ValueError(
            "sparse_attention_config is not a map of layers to heads to vertical_and_slash sizes."
        ) from None


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 24:
        raise ValueError(value)
    return value


@dataclass(frozen=True)
class Selection:
    """Chooses blocks for the slabs of a call. `columns` [B, H, N] and `diagonals` [B, H, N] (by how many blocks of keys
    lie before that of the query) are those of vertical-slash, chosen once a call."""

    key: torch.Tensor
    settings: SparseAttention
    scaling: float
    columns: torch.Tensor | None = None
    diagonals: torch.Tensor | None = None

    @classmethod
    def of(
        cls,
        query: torch.Tensor,
        key: torch.Tensor,
        rotations: RelationRotations,
        geometry: DualChunkGeometry,
        scaling: float,
        settings: SparseAttention,
        layer: int,
    ) -> "Selection":
        if settings.method == XATTENTION:
            return cls(key, settings, scaling)
        last, s = key.shape[2], geometry.chunk_length
        start = max(last - min(LAST_QUERIES, query.shape[2]), (last - 1) // s * s)
        slab, rows = Slab(start, last, s), slice(query.shape[2] - (last - start), query.shape[2])
        queries = {relation: rotations.forward(query[:, :, rows], relation, rows) for relation, *_ in slab.ranges}
        counts = _counts(settings, layer, query.shape[1])
        return cls(key, settings, scaling, *vertical_slash(queries, key, slab, scaling, counts))

    def __call__(self, queries: Queries, slab: Slab) -> torch.Tensor:
        """The blocks that are kept for a slab, bool [B, H, M, N]."""
        seen = slab.seen(self.key.device)
        if self.columns is not None:
            assert self.diagonals is not None  # they come together
            kept = _listed(self.columns, self.diagonals, slab)
        elif self.settings.share == 1:
            kept = torch.ones_like(seen)
        else:
            kept = _holding(queries, self.key, slab, self.settings, self.scaling)
        return ((kept | _always(slab, seen)) & seen).expand(_shape(queries, seen))


def _shape(queries: Queries, seen: torch.Tensor) -> tuple[int, ...]:
    some = next(iter(queries.values()))
    return (*some.shape[:2], *seen.shape)


def _always(slab: Slab, seen: torch.Tensor) -> torch.Tensor:
    back = _blocks_before(slab, seen.device)
    kept = (back == 0) | (back == 1)
    kept[:, 0] = True
    return kept


def _blocks_before(slab: Slab, device: torch.device) -> torch.Tensor:
    """How many blocks a block of keys lies before that of the queries, [M, N]."""
    queries = torch.arange(slab.blocks.start, slab.blocks.stop, device=device)
    return queries.unsqueeze(1) - torch.arange(slab.blocks.stop, device=device)


def has_kernels(key: torch.Tensor) -> bool:
    """Whether Triton's kernels serve a call with these keys, else PyTorch's products do."""
    return without_triton(key.device) is None and key.dtype != torch.float64


def _holding(
    queries: Queries, key: torch.Tensor, slab: Slab, settings: SparseAttention, scaling: float
) -> torch.Tensor:
    """The fewest blocks that hold a share of the estimated attention, bool [B, H, M, N]; by Triton on a GPU."""
    if not has_kernels(key):
        return fewest(block_weights(queries, key, slab, settings.stride, scaling), settings.share)
    from . import dual_chunk_selection_triton as kernels

    scores = kernels.block_scores(queries, key, slab, settings.stride, scaling)
    return kernels.holding(scores, slab, settings.stride, settings.share)


def block_weights(queries: Queries, key: torch.Tensor, slab: Slab, stride: int, scaling: float) -> torch.Tensor:
    """The attention of each block of queries to each block of keys as antidiagonals estimate it, [B, H, M, N]: in each
    square of `stride` queries and keys one number, the mean logit of its antidiagonal."""
    scores = []
    for relation, begin, end in slab.ranges:
        rows = by_stride(queries[relation], slab.lead, stride).flip(3).flatten(3).unflatten(1, (key.shape[1], -1))
        columns = by_stride(key[:, :, begin:end], 0, stride).flatten(3)
        scores.append(torch.einsum("bghmx,bgnx->bghmn", rows, columns).flatten(1, 2))
    score = torch.cat(scores, dim=-1)
    score = score.to(torch.promote_types(score.dtype, torch.float32)) * (scaling / stride)
    row = torch.arange(score.shape[2], device=score.device) + slab.blocks.start * BLOCK // stride
    column = torch.arange(score.shape[3], device=score.device)
    weights = score.masked_fill(column > row.unsqueeze(1), -torch.inf).softmax(-1)
    return _by_block(weights.unflatten(3, (-1, BLOCK // stride)).sum(4), slab, stride)


def _by_block(weights: torch.Tensor, slab: Slab, stride: int) -> torch.Tensor:
    """The sums [B, H, M, N] over the strides [B, H, strides, N] of each block of queries."""
    begin = (torch.arange(weights.shape[2], device=weights.device) + slab.blocks.start * BLOCK // stride) * stride
    empty = (begin + stride <= slab.start) | (begin >= slab.stop)  # rows of the outer blocks that hold no query
    return weights.masked_fill(empty.unsqueeze(1), 0.0).unflatten(2, (-1, BLOCK // stride)).sum(3)


def fewest(weights: torch.Tensor, share: float) -> torch.Tensor:
    """The fewest blocks [..., N] of each row that together hold `share` of its weight."""
    ordered, order = weights.sort(dim=-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    taken = before < share * ordered.sum(-1, keepdim=True)
    return torch.zeros_like(taken).scatter_(-1, order, taken)


def _counts(settings: SparseAttention, layer: int, heads: int) -> list[tuple[int, int]]:
    """How many columns and diagonals each head of a layer keeps."""
    sizes = (settings.heads or {}).get(layer, {})
    if any(head not in sizes for head in range(heads)):
        raise ValueError(f"sparse_attention_config does not tell the sizes of all {heads} heads of layer {layer}.")
    return [sizes[head] for head in range(heads)]


def vertical_slash(
    queries: Queries, key: torch.Tensor, slab: Slab, scaling: float, counts: list[tuple[int, int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The blocks of keys, and the distances in blocks, that the queries of a short slab attend to most, bool [B, H, N]
    each: those of as many keys, and as many distances, as `counts` says for each head.

    Queries are scored where Dual Chunk Attention has them. (Qwen2.5-1M rotates them for this one use as if distances
    beyond a chunk were not clamped.)
    """
    score = naive_scores(queries, key, slab, scaling)
    positions = torch.arange(slab.start, slab.stop, device=score.device)
    keys = torch.arange(slab.stop, device=score.device)
    apart = positions.unsqueeze(1) - keys
    weights = score.masked_fill(apart < 0, -torch.inf).softmax(-1)
    by_key = weights.sum(2)
    by_distance = torch.zeros_like(by_key)
    by_distance.scatter_add_(2, apart.clamp(min=0).expand_as(weights).flatten(2), weights.flatten(2))
    by_key[..., :_SURE_COLUMNS] = torch.inf
    by_distance[..., :_SURE_DIAGONALS] = torch.inf
    rank = torch.arange(slab.stop, device=score.device)
    found = []
    for sums, wanted in ((by_key, [c for c, _ in counts]), (by_distance, [d for _, d in counts])):
        order = sums.argsort(dim=-1, descending=True)
        taken = rank < torch.tensor(wanted, device=score.device).unsqueeze(1)
        found.append(torch.zeros_like(order, dtype=torch.bool).scatter_(-1, order, taken.expand_as(order)))
    columns, distances = (torch.nn.functional.pad(x, (0, -x.shape[-1] % BLOCK)) for x in found)
    in_blocks = distances.unflatten(-1, (-1, BLOCK))
    # A distance of 128 n + r crosses from a block to the n-th before it and, unless r is 0, the one before that.
    diagonals = in_blocks.any(-1)
    diagonals[..., 1:] |= in_blocks[..., :-1, 1:].any(-1)
    return columns.unflatten(-1, (-1, BLOCK)).any(-1), diagonals


def _listed(columns: torch.Tensor, diagonals: torch.Tensor, slab: Slab) -> torch.Tensor:
    """The blocks of a slab that lie in kept columns or on kept diagonals, [B, H, M, N]."""
    back = _blocks_before(slab, columns.device)
    return columns[..., None, : back.shape[1]] | diagonals[..., back.clamp(min=0)]
