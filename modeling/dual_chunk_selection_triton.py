"""The Triton kernels that choose blocks for block-sparse attention: scores by strided antidiagonals, the fewest blocks
that hold a share, and their lists.

Import this module only where Triton is installed; `TRITON_INTERPRET=1` runs the kernels without a GPU.
"""

try:  # transformers refuses a file from the Hub over an import that is missing, unless it stands in a try
    import triton
    import triton.language as tl
except ImportError:
    raise

import torch

from .dual_chunk_blocks import BLOCK, Queries, Slab
from .dual_chunk_rotation import ORDER

_WARPS, _STAGES = 8, 3
_MOST_TALL = _BROAD = 128  # strided rows and columns of a program
_BITS = 31  # of a float32 that is not negative


def rows_whole(x: torch.Tensor) -> torch.Tensor:
    """[B, heads, rows, D] whose rows lie in one piece each."""
    return x if x.stride(3) == 1 else x.contiguous()


def block_scores(queries: Queries, key: torch.Tensor, slab: Slab, stride: int, scaling: float) -> torch.Tensor:
    """For each stride of queries and each block of keys the log-sum-exp of its scores, float32 [B, H, strides, N]. A
    score is the mean logit of the antidiagonal of a square of `stride` queries and keys, -inf where it is not seen."""
    some = next(iter(queries.values()))
    batch, heads, rows, size = some.shape
    strides, per = len(slab.blocks) * BLOCK // stride, BLOCK // stride
    out = torch.empty(batch, heads, strides, slab.blocks.stop, dtype=torch.float32, device=some.device)
    key = rows_whole(key)
    wide = some.dtype == torch.float32
    tall = min(_MOST_TALL, max(16, triton.next_power_of_2(strides)))
    for relation, begin, end in slab.ranges:
        query = rows_whole(queries[relation])
        blocks = -(-end // BLOCK) - begin // BLOCK
        _score[(triton.cdiv(blocks * per, _BROAD), triton.cdiv(strides, tall), batch * heads)](
            query, key[:, :, begin:end], out, scaling / stride,
            strides, blocks, end - begin, rows, slab.lead, (slab.blocks.start * BLOCK - begin) // stride,
            slab.blocks.stop, begin // BLOCK, heads // key.shape[1], heads, *query.stride()[:3], *key.stride()[:3],
            SIZE=size, WIDE=triton.next_power_of_2(size), STRIDE=stride, PER=per, TALL=tall, BROAD=_BROAD,
            PRECISION="ieee" if wide else None, num_warps=_WARPS, num_stages=1 if wide else _STAGES,
        )  # fmt: skip
    return out


@triton.jit(do_not_specialize=["ROWS", "BLOCKS", "KEYS", "QUERIES", "LEAD", "AHEAD", "N", "OFFSET"])
def _score(
    query, key, out, scale, ROWS, BLOCKS, KEYS, QUERIES, LEAD, AHEAD, N, OFFSET, GROUP, H,
    query_batch, query_head, query_row, key_batch, key_head, key_row,
    SIZE: tl.constexpr, WIDE: tl.constexpr, STRIDE: tl.constexpr, PER: tl.constexpr, TALL: tl.constexpr,
    BROAD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    both = tl.program_id(2).to(tl.int64)
    batch, head = both // H, both % H
    rows = tl.program_id(1) * TALL + tl.arange(0, TALL)
    columns = tl.program_id(0) * BROAD + tl.arange(0, BROAD)
    i = tl.arange(0, WIDE)
    query += batch * query_batch + head * query_head
    key += batch * key_batch + (head // GROUP) * key_head

    score = tl.zeros([TALL, BROAD], dtype=tl.float32)
    for number in range(0, STRIDE):
        # An antidiagonal: the last query of a stride with its first key.
        slots = rows.to(tl.int64) * STRIDE + (STRIDE - 1 - number) - LEAD
        real = (slots >= 0) & (slots < QUERIES)
        a = tl.load(
            query + slots[:, None] * query_row + i[None, :], mask=real[:, None] & (i < SIZE)[None, :], other=0.0
        )
        slots = columns.to(tl.int64) * STRIDE + number
        b = tl.load(
            key + slots[:, None] * key_row + i[None, :], mask=(slots < KEYS)[:, None] & (i < SIZE)[None, :], other=0.0
        )
        score += tl.dot(a, tl.trans(b), input_precision=PRECISION)
    score = tl.where(columns[None, :] <= AHEAD + rows[:, None], score * scale, float("-inf"))
    in_blocks = tl.reshape(score, [TALL, BROAD // PER, PER])
    top = tl.max(in_blocks, 2)
    base = tl.where(top == float("-inf"), 0.0, top)
    total = tl.sum(tl.exp(in_blocks - base[:, :, None]), 2)
    blocks = tl.program_id(0) * (BROAD // PER) + tl.arange(0, BROAD // PER)
    at = (both * ROWS + rows)[:, None] * N + OFFSET + blocks[None, :]
    tl.store(out + at, base + tl.log(total), mask=(rows < ROWS)[:, None] & (blocks < BLOCKS)[None, :])


def fewest(weights: torch.Tensor, share: float) -> torch.Tensor:
    """The fewest blocks [..., N] of each row that together hold `share` of its weight, and those that weigh as much as
    the least of them. Weights are not negative."""
    weights = weights.contiguous()
    kept = torch.empty(weights.shape, dtype=torch.bool, device=weights.device)
    width = weights.shape[-1]
    _fewest[(weights.numel() // width,)](weights, kept, share, width, WIDE=triton.next_power_of_2(width), BITS=_BITS)
    return kept


@triton.jit
def _fewest(weights, kept, share, N, WIDE: tl.constexpr, BITS: tl.constexpr):
    row, i = tl.program_id(0).to(tl.int64), tl.arange(0, WIDE)
    weight = tl.load(weights + row * N + i, mask=i < N, other=0.0)
    # As whole numbers the bits of floats that are not negative are in their order: the least weight to keep is found
    # bit by bit.
    bits = weight.to(tl.int32, bitcast=True)
    wanted = share * tl.sum(weight, 0)
    least = 0
    for number in range(0, BITS):
        tried = least | (1 << (BITS - 1 - number))
        enough = tl.sum(tl.where(bits >= tried, weight, 0.0), 0) >= wanted
        least = tl.where(enough, tried, least)
    tl.store(kept + row * N + i, bits >= least, mask=i < N)


def lists(kept: torch.Tensor, slab: Slab) -> tuple[torch.Tensor, torch.Tensor]:
    """The kept blocks of each row in order, int32 [B, H, M, N], of which the rest is not written, and how many of them
    lie before the end of inter, successive and intra keys, int32 [B, H, M, 3]."""
    kept = kept.contiguous()
    order = torch.empty(kept.shape, dtype=torch.int32, device=kept.device)
    ends = torch.empty(*kept.shape[:3], 3, dtype=torch.int32, device=kept.device)
    borders, last = [], 0
    found = {relation: -(-end // BLOCK) for relation, _, end in slab.ranges}
    for relation in reversed(ORDER):
        last = found.get(relation, last)
        borders.append(last)
    width = kept.shape[-1]
    _list[(kept.numel() // width,)](kept, order, ends, width, *borders, WIDE=triton.next_power_of_2(width))
    return order, ends


@triton.jit(do_not_specialize=["N", "FIRST", "SECOND", "THIRD"])
def _list(kept, order, ends, N, FIRST, SECOND, THIRD, WIDE: tl.constexpr):
    row, i = tl.program_id(0).to(tl.int64), tl.arange(0, WIDE)
    taken = tl.load(kept + row * N + i, mask=i < N, other=0).to(tl.int32)
    at = tl.cumsum(taken, 0) - 1
    tl.store(order + row * N + at, i, mask=taken > 0)
    tl.store(ends + row * 3, tl.sum(tl.where(i < FIRST, taken, 0), 0))
    tl.store(ends + row * 3 + 1, tl.sum(tl.where(i < SECOND, taken, 0), 0))
    tl.store(ends + row * 3 + 2, tl.sum(tl.where(i < THIRD, taken, 0), 0))
