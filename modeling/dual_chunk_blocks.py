"""Attention over chosen blocks of keys, each block of queries over its own.

Blocks are of 128 queries by 128 keys. Chunks start where blocks start, so each pair of blocks lies in one relation, and
queries that are rotated for it see the keys as they are cached. Queries come in slabs, each within one chunk: its keys
are three ranges at most, one a relation.

Shapes: B batch, H query heads, G key/value heads, K keys, D head size, M and N blocks of queries and of keys.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from .dual_chunk_geometry import Relation, key_ranges

BLOCK = 128  # queries, and keys

Queries = dict[Relation, torch.Tensor]  # of a slab, rotated for each relation: [B, H, rows, D]


@dataclass(frozen=True)
class Slab:
    """The queries at positions [start, stop), all of one chunk of `chunk_length` positions."""

    start: int
    stop: int
    chunk_length: int

    @property
    def ranges(self) -> list[tuple[Relation, int, int]]:
        """The positions [begin, end) of the keys of each relation that these queries see, in order."""
        return key_ranges(self.start // self.chunk_length, self.stop, self.chunk_length)

    @property
    def lead(self) -> int:
        """The rows of the first block that lie before these queries."""
        return self.start % BLOCK

    @property
    def blocks(self) -> range:
        """The blocks that the queries lie in."""
        return range(self.start // BLOCK, -(-self.stop // BLOCK))

    def seen(self, device: torch.device) -> torch.Tensor:
        """Which blocks of keys each block of queries may see, bool [M, N]."""
        queries = torch.arange(self.blocks.start, self.blocks.stop, device=device)
        return torch.arange(self.blocks.stop, device=device) <= queries.unsqueeze(1)


def slabs(first: int, last: int, chunk_length: int, rows: int) -> Iterator[Slab]:
    """The positions [first, last), in slabs of at most `rows`, a multiple of BLOCK."""
    while first < last:
        stop = min(first // BLOCK * BLOCK + rows, (first // chunk_length + 1) * chunk_length, last)
        yield Slab(first, stop, chunk_length)
        first = stop


def by_stride(x: torch.Tensor, lead: int, stride: int) -> torch.Tensor:
    """[B, heads, rows, D] as whole blocks in strides, [B, heads, strides, stride, D]; what is missing is zero."""
    tail = -(lead + x.shape[2]) % BLOCK
    if lead or tail:
        x = torch.nn.functional.pad(x, (0, 0, lead, tail))
    return x.unflatten(2, (-1, stride))


def attend_gathered(queries, key, value, slab: Slab, kept: torch.Tensor, scaling: float):
    """Attention of a slab's queries, by relation [B, H, rows, D], to the blocks in `kept`, bool [B, H, M, N]: output
    [B, H, rows, D] and log-sum-exp [B, H, rows]. By PyTorch's products, a block of queries of one head at a time."""
    some = next(iter(queries.values()))
    batch, heads, rows = some.shape[:3]
    group, wide = heads // key.shape[1], torch.promote_types(some.dtype, torch.float32)
    out = torch.empty_like(some)
    lse = torch.empty(batch, heads, rows, dtype=wide, device=some.device)
    within = torch.arange(BLOCK, device=some.device)
    for index, block in enumerate(slab.blocks):
        mine = slice(max(0, index * BLOCK - slab.lead), min(rows, (index + 1) * BLOCK - slab.lead))
        positions = torch.arange(slab.start + mine.start, slab.start + mine.stop, device=some.device)
        for b in range(batch):
            for h in range(heads):
                columns = kept[b, h, index, : block + 1].nonzero()[:, 0]
                keys, values = key[b, h // group], value[b, h // group]
                scores, seen = [], []
                for relation, begin, end in slab.ranges:
                    chosen = columns[(columns >= begin // BLOCK) & (columns < -(-end // BLOCK))]
                    slots = (chosen.unsqueeze(1) * BLOCK + within).flatten()
                    slots = slots[slots < end] if end % BLOCK else slots
                    scores.append(queries[relation][b, h, mine] @ keys[slots].T)
                    seen.append(slots)
                slots = torch.cat(seen)
                score = torch.cat(scores, dim=-1).to(wide) * scaling
                score.masked_fill_(slots > positions.unsqueeze(1), -torch.inf)
                lse[b, h, mine] = score.logsumexp(-1)
                out[b, h, mine] = score.softmax(-1).to(values.dtype) @ values[slots]
    return out, lse


def attend_blocks_naive(queries, key, value, slab: Slab, kept: torch.Tensor, scaling: float):
    """The definition: every score, those outside the kept blocks masked. The twin of `attend_gathered`."""
    some = next(iter(queries.values()))
    score = naive_scores(queries, key, slab, scaling)
    positions = torch.arange(slab.start, slab.stop, device=some.device)
    slots = torch.arange(slab.stop, device=some.device)
    rows = torch.arange(len(positions), device=some.device) + slab.lead
    seen = kept[:, :, rows // BLOCK][..., slots // BLOCK] & (slots <= positions.unsqueeze(1))
    score = score.masked_fill(~seen, -torch.inf)
    weights = score.softmax(-1).to(value.dtype).unflatten(1, (key.shape[1], -1))
    out = torch.einsum("bghqk,bgkd->bghqd", weights, value[:, :, : slab.stop]).flatten(1, 2)
    return out, score.logsumexp(-1)


def naive_scores(queries, key, slab: Slab, scaling: float) -> torch.Tensor:
    """The logits of a slab's queries, without a mask: [B, H, rows, K], in at least float32."""
    found = []
    for relation, begin, end in slab.ranges:
        query = queries[relation].unflatten(1, (key.shape[1], -1))
        found.append(torch.einsum("bghqd,bgkd->bghqk", query, key[:, :, begin:end]).flatten(1, 2))
    score = torch.cat(found, dim=-1)
    return score.to(torch.promote_types(score.dtype, torch.float32)) * scaling
