"""The Triton kernels that choose blocks for block-sparse attention: scores by strided antidiagonals, the fewest blocks
that hold a share, and their lists.

Import this module only where Triton is installed; `TRITON_INTERPRET=1` runs the kernels without a GPU.
"""

try:  # transformers refuses a file from the Hub over an import that is missing, unless it stands in a try
    import triton
    import triton.language as tl
except ImportError:
    raise

from collections.abc import Callable
from functools import cache

import torch
from triton.tools.tensor_descriptor import TensorDescriptor

from .dual_chunk_blocks import BLOCK, Queries, Slab, by_stride
from .dual_chunk_rotation import ORDER

_WARPS = 8
_MOST_TALL, _DEEP = 128, 64  # strided rows, and numbers of them, that a program multiplies at a time
_BROAD = ((256, 3), (128, 2))  # strided columns, and tiles in flight: the first that there is memory for
_BITS = 31  # of a float32 that is not negative
_ALIGNED = 16  # bytes, of what a GPU's copy engine addresses
_BESIDE = 2048  # bytes of shared memory that Triton takes besides the tiles, at most


def first_to_fit(ways: tuple, bytes_of: Callable[..., int], device: torch.device):
    """The first of these ways whose bytes a multiprocessor can share among the threads of a program, else the last."""
    if device.type != "cuda":  # Triton's interpreter
        return ways[0]
    shared = shared_memory(torch.cuda.current_device() if device.index is None else device.index)
    return next((way for way in ways if bytes_of(*way) <= shared - _BESIDE), ways[-1])


@cache
def shared_memory(index: int) -> int:
    """Bytes that a program of Triton may share among its threads on a GPU."""
    return triton.runtime.driver.active.utils.get_device_properties(index)["max_shared_mem"]


def tiles(x: torch.Tensor, rows: int, wide: int) -> TensorDescriptor:
    """x [B, heads, R, D] as a kernel reads it: `rows` by `wide` numbers at a time, zero where there are none. What a
    GPU's copy engine cannot address is copied first."""
    if any(stride * x.itemsize % _ALIGNED for stride in x.stride()[:3]) or x.stride(3) != 1 or x.data_ptr() % _ALIGNED:
        numbers = _ALIGNED // x.itemsize
        x = torch.nn.functional.pad(x, (0, -x.shape[3] % numbers)).contiguous()
    return TensorDescriptor.from_tensor(x, [1, 1, rows, wide])


def block_scores(queries: Queries, key: torch.Tensor, slab: Slab, stride: int, scaling: float) -> torch.Tensor:
    """For each stride of queries and each block of keys the log-sum-exp of its scores, float32 [B, H, strides, N]. A
    score is the mean logit of the antidiagonal of a square of `stride` queries and keys, -inf where it is not seen."""
    some = next(iter(queries.values()))
    batch, heads, _, size = some.shape
    strides, per = len(slab.blocks) * BLOCK // stride, BLOCK // stride
    out = torch.empty(batch, heads, strides, slab.blocks.stop, dtype=torch.float32, device=some.device)
    wide = some.dtype == torch.float32
    tall = min(_MOST_TALL, max(16, triton.next_power_of_2(strides)))
    broad, stages = (
        (64, 1)
        if wide
        else first_to_fit(_BROAD, lambda broad, stages: (tall + broad) * _DEEP * some.itemsize * stages, some.device)
    )
    for relation, begin, end in slab.ranges:
        # The last query of a stride with its first key.
        query = by_stride(queries[relation], slab.lead, stride).flip(3).flatten(3)
        keys = _in_strides(key[:, :, begin:end], stride)
        blocks = -(-end // BLOCK) - begin // BLOCK
        # Programs with the same keys come one after the other.
        _score[(triton.cdiv(strides, tall), triton.cdiv(blocks * per, broad), batch * heads)](
            tiles(query, tall, _DEEP), tiles(keys, broad, _DEEP), out, scaling / stride, strides, blocks,
            (slab.blocks.start * BLOCK - begin) // stride, slab.blocks.stop, begin // BLOCK, heads // key.shape[1],
            heads, NUMBERS=stride * size, PER=per, TALL=tall, BROAD=broad, DEEP=_DEEP,
            PRECISION="ieee" if wide else None, num_warps=_WARPS, num_stages=stages,
        )  # fmt: skip
    return out


def _in_strides(key: torch.Tensor, stride: int) -> torch.Tensor:
    """Keys [B, G, K, D] as [B, G, strides, stride * D]: a view where they are whole and lie in one piece."""
    if key.shape[2] % stride or key.stride(3) != 1 or key.stride(2) != key.shape[3]:
        return by_stride(key, 0, stride).flatten(3)
    batch, groups, keys, size = key.shape
    return key.as_strided((batch, groups, keys // stride, stride * size), (*key.stride()[:2], stride * size, 1))


@triton.jit(do_not_specialize=["ROWS", "BLOCKS", "AHEAD", "N", "OFFSET"])
def _score(
    query, key, out, scale, ROWS, BLOCKS, AHEAD, N, OFFSET, GROUP, H,
    NUMBERS: tl.constexpr, PER: tl.constexpr, TALL: tl.constexpr, BROAD: tl.constexpr, DEEP: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    both = tl.program_id(2)
    batch, head = both // H, both % H
    row, column = tl.program_id(0) * TALL, tl.program_id(1) * BROAD
    score = tl.zeros([TALL, BROAD], dtype=tl.float32)
    for number in range(0, NUMBERS, DEEP):
        a = query.load([batch, head, row, number]).reshape(TALL, DEEP)
        b = key.load([batch, head // GROUP, column, number]).reshape(BROAD, DEEP)
        score = tl.dot(a, tl.trans(b), score, input_precision=PRECISION)
    rows, columns = row + tl.arange(0, TALL), column + tl.arange(0, BROAD)
    score = tl.where(columns[None, :] <= AHEAD + rows[:, None], score * scale, float("-inf"))
    in_blocks = tl.reshape(score, [TALL, BROAD // PER, PER])
    top = tl.max(in_blocks, 2)
    base = tl.where(top == float("-inf"), 0.0, top)
    total = tl.sum(tl.exp(in_blocks - base[:, :, None]), 2)
    blocks = column // PER + tl.arange(0, BROAD // PER)
    at = (both.to(tl.int64) * ROWS + rows)[:, None] * N + OFFSET + blocks[None, :]
    tl.store(out + at, base + tl.log(total), mask=(rows < ROWS)[:, None] & (blocks < BLOCKS)[None, :])


def holding(scores: torch.Tensor, slab: Slab, stride: int, share: float) -> torch.Tensor:
    """From what `block_scores` gives, the fewest blocks that hold `share` of the estimated attention of each block of
    queries, and those that weigh as much as the least of them: bool [B, H, M, N]."""
    kept = torch.empty(*scores.shape[:2], len(slab.blocks), scores.shape[3], dtype=torch.bool, device=scores.device)
    width = scores.shape[3]
    _hold[(kept.numel() // width,)](
        scores, kept, share, len(slab.blocks), width, slab.lead, slab.lead + slab.stop - slab.start,
        STRIDE=stride, SIDE=BLOCK, WIDE=triton.next_power_of_2(width), BITS=_BITS, num_warps=_WARPS,
    )  # fmt: skip
    return kept


@triton.jit(do_not_specialize=["M", "N", "BEGIN", "END"])
def _hold(
    scores, kept, share, M, N, BEGIN, END,
    STRIDE: tl.constexpr, SIDE: tl.constexpr, WIDE: tl.constexpr, BITS: tl.constexpr,
):  # fmt: skip
    row, i = tl.program_id(0).to(tl.int64), tl.arange(0, WIDE)
    within = row % M * SIDE  # of the slab's blocks, whose queries are [BEGIN, END)
    weight = tl.zeros([WIDE], dtype=tl.float32)
    for number in range(0, SIDE // STRIDE):
        score = tl.load(scores + (row * (SIDE // STRIDE) + number) * N + i, mask=i < N, other=float("-inf"))
        here = tl.exp(score - tl.max(score, 0))
        begin = within + number * STRIDE
        has_query = (begin + STRIDE > BEGIN) & (begin < END)
        weight += tl.where(has_query, here / tl.sum(here, 0), 0.0)
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
