"""Block-sparse prefill: Dual Chunk Attention over the blocks of keys that hold most of each query block's attention.

An approximation, and opt-in: with every block kept it is Dual Chunk Attention itself.

Shapes: B batch, H query heads, G key/value heads, Q queries, K keys, D head size.
"""

from dataclasses import dataclass, replace

import torch

from .dual_chunk_backends import add_sinks
from .dual_chunk_blocks import BLOCK, Slab, attend_gathered, naive_scores, slabs
from .dual_chunk_rotation import RelationRotations
from .dual_chunk_selection import Selection, SparseAttention, has_kernels

# Scores of a selection that are held at a time; by Triton each block's are summed before they are written.
_SCORES, _SCORES_BY_TRITON = 1 << 24, 1 << 30
_MOST_ROWS = 8192


@dataclass
class SparseWatch:
    """What sparse attention did while it was watched: blocks kept, of all that may be seen, and the mean share of their
    attention that kept blocks hold, by the log-sum-exp of a sample of queries with and without the others."""

    kept: int = 0
    blocks: int = 0
    shares: float = 0.0
    samples: int = 0

    @property
    def density(self) -> float:
        """The part of the blocks that was kept, from 0 to 1."""
        return self.kept / self.blocks if self.blocks else 1.0

    @property
    def share(self) -> float:
        """The mean share of attention that was kept, from 0 to 1."""
        return self.shares / self.samples if self.samples else 1.0


@dataclass(frozen=True)
class SparseCall:
    """Sparse attention in one layer."""

    settings: SparseAttention
    layer: int = 0
    watch: SparseWatch | None = None

    def refusal(self, query: torch.Tensor, key: torch.Tensor) -> str | None:
        """Why these tensors are served densely, or None. Sparse attention would gain nothing there."""
        if query.shape[2] < BLOCK:
            return f"there are fewer than {BLOCK} queries"
        if key.shape[2] < self.settings.least_keys:
            return f"there are fewer than {self.settings.least_keys:,} keys"
        return None

    def attend(self, query, key, value, geometry, scaling, rotations, sinks=None) -> torch.Tensor:
        """As `dual_chunk_attention`, over chosen blocks.

        Raises:
            ValueError: gradients are wanted, which sparse attention does not have.
        """
        if torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value)):
            raise ValueError("sparse attention has no gradients: train with dense attention, without `sparse`.")
        self.settings.check(geometry)
        return attend_sparse(query, key, value, rotations.to(query.device), geometry, scaling, self, sinks)


def attend_sparse(query, key, value, rotations: RelationRotations, geometry, scaling, call: SparseCall, sinks=None):
    """The output [B, H, Q, D] of query, key and value as `dual_chunk_attention` takes them."""
    first, last = key.shape[2] - query.shape[2], key.shape[2]
    choose = Selection.of(query, key, rotations, geometry, scaling, call.settings, call.layer)
    out = torch.empty_like(query)
    for slab in slabs(first, last, geometry.chunk_length, _rows(query, key, call.settings.stride)):
        rows = slice(slab.start - first, slab.stop - first)
        queries = {relation: rotations.forward(query[:, :, rows], relation, rows) for relation, *_ in slab.ranges}
        kept = choose(queries, slab)
        part, lse = attend_blocks(queries, key, value, slab, kept, scaling)
        if call.watch is not None:
            _look(call.watch, queries, key, slab, kept, scaling, lse)
        if sinks is not None:
            part = part.to(lse.dtype)
            add_sinks(part, lse, sinks)
        out[:, :, rows] = part
    return out


def attend_blocks(queries, key, value, slab: Slab, kept: torch.Tensor, scaling: float):
    """As `attend_gathered`, by Triton where there is a GPU."""
    if not has_kernels(key):
        return attend_gathered(queries, key, value, slab, kept, scaling)
    from .dual_chunk_sparse_triton import attend_listed

    return attend_listed(queries, key, value, slab, kept, scaling)


def _rows(query: torch.Tensor, key: torch.Tensor, stride: int) -> int:
    """Queries of a slab, so that its scores, one for each `stride` queries and keys, stay few."""
    a_row = query.shape[0] * query.shape[1] * -(-key.shape[2] // stride)
    most = _SCORES_BY_TRITON if has_kernels(key) else _SCORES
    rows = most // max(1, a_row) * stride
    return min(_MOST_ROWS, max(BLOCK, rows // BLOCK * BLOCK))


def _look(watch: SparseWatch, queries, key, slab: Slab, kept: torch.Tensor, scaling: float, lse: torch.Tensor) -> None:
    """Counts the blocks of a slab, and compares its last query's log-sum-exp with that over every key."""
    watch.kept += int(kept.sum())
    watch.blocks += int(slab.seen(kept.device).sum()) * kept.shape[0] * kept.shape[1]
    last = replace(slab, start=slab.stop - 1)
    whole = naive_scores({r: query[:, :, -1:] for r, query in queries.items()}, key, last, scaling).logsumexp(-1)
    share = (lse[:, :, -1:] - whole).exp()
    watch.shares += float(share.sum())
    watch.samples += share.numel()
