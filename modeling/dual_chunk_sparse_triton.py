"""The Triton kernel of block-sparse attention: each block of queries reads the blocks of keys in its own list.

Import this module only where Triton is installed; `TRITON_INTERPRET=1` runs the kernel without a GPU.
"""

try:  # transformers refuses a file from the Hub over an import that is missing, unless it stands in a try
    import triton
    import triton.language as tl
except ImportError:
    raise

import math

import torch

from .dual_chunk_blocks import BLOCK, Queries, Slab
from .dual_chunk_rotation import ORDER
from .dual_chunk_selection_triton import lists, rows_whole

_WARPS, _STAGES = 8, 3


def attend_listed(queries: Queries, key, value, slab: Slab, kept: torch.Tensor, scaling: float):
    """As `dual_chunk_blocks.attend_gathered`, in one launch."""
    some = next(iter(queries.values()))
    batch, heads, rows, size = some.shape
    wide = some.dtype == torch.float32
    order, ends = lists(kept, slab)
    # Where a relation has no keys its list is empty, and any tensor serves.
    given = [rows_whole(queries.get(relation, some)) for relation in ORDER]
    key, value = rows_whole(key), rows_whole(value)
    out = torch.empty(batch, heads, rows, size, dtype=some.dtype, device=some.device)
    lse = torch.empty(batch, heads, rows, dtype=torch.float32, device=some.device)
    strides = [stride for x in (*given, key, value) for stride in x.stride()[:3]]
    _attend[(len(slab.blocks), heads, batch)](
        *given, key, value, out, lse, order, ends, scaling * math.log2(math.e),
        slab.blocks.start * BLOCK, slab.lead, rows, slab.stop, kept.shape[3], heads // key.shape[1], heads, *strides,
        SIZE=size, WIDE=triton.next_power_of_2(size), SIDE=BLOCK,
        PRECISION="ieee" if wide else None, num_warps=_WARPS, num_stages=1 if wide else _STAGES,
    )  # fmt: skip
    return out, lse


@triton.jit
def _fold(
    query, query_row, rows, real, accumulated, top, total, key, value, key_row, value_row, listed, begin, end, scale,
    positions, KEYS,
    CAUSAL: tl.constexpr, SIZE: tl.constexpr, WIDE: tl.constexpr, SIDE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Takes the listed blocks [begin, end), all of one relation, into a running softmax, in powers of two. `query`
    points to row 0 of the queries that are rotated for that relation."""
    within, i = tl.arange(0, SIDE), tl.arange(0, WIDE)
    at = query + rows[:, None] * query_row + i[None, :]
    rotated = tl.load(at, mask=real[:, None] & (i < SIZE)[None, :], other=0.0)
    for number in range(begin, end):
        slots = tl.load(listed + number).to(tl.int64) * SIDE + within
        mask = (i < SIZE)[None, :]
        if CAUSAL:
            mask = mask & (slots < KEYS)[:, None]
        keys = tl.load(key + slots[:, None] * key_row + i[None, :], mask=mask, other=0.0)
        values = tl.load(value + slots[:, None] * value_row + i[None, :], mask=mask, other=0.0)
        score = tl.dot(rotated, tl.trans(keys), input_precision=PRECISION) * scale
        if CAUSAL:
            score = tl.where(slots[None, :] <= positions[:, None], score, float("-inf"))
        highest = tl.maximum(top, tl.max(score, 1))
        # Every row sees its own key, but in this block perhaps none.
        base = tl.where(highest == float("-inf"), 0.0, highest)
        weights = tl.exp2(score - base[:, None])
        shrink = tl.exp2(top - base)
        total = total * shrink + tl.sum(weights, 1)
        accumulated = accumulated * shrink[:, None]
        accumulated += tl.dot(weights.to(values.dtype), values, input_precision=PRECISION)
        top = highest
    return accumulated, top, total


@triton.jit(do_not_specialize=["FIRST", "LEAD", "ROWS", "KEYS", "N"])
def _attend(
    intra, successive, inter, key, value, out, lse, order, ends, scale, FIRST, LEAD, ROWS, KEYS, N, GROUP, H,
    intra_batch, intra_head, intra_row, successive_batch, successive_head, successive_row,
    inter_batch, inter_head, inter_row, key_batch, key_head, key_row, value_batch, value_head, value_row,
    SIZE: tl.constexpr, WIDE: tl.constexpr, SIDE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    block, head, batch = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    within, i = tl.arange(0, SIDE), tl.arange(0, WIDE)
    rows = block * SIDE + within - LEAD
    real = (rows >= 0) & (rows < ROWS)
    positions = FIRST + block * SIDE + within
    listing = (batch * H + head) * tl.num_programs(0) + block
    listed = order + listing * N
    inter_end = tl.load(ends + listing * 3)
    successive_end = tl.load(ends + listing * 3 + 1)
    intra_end = tl.load(ends + listing * 3 + 2)
    key += batch * key_batch + (head // GROUP) * key_head
    value += batch * value_batch + (head // GROUP) * value_head

    accumulated = tl.zeros([SIDE, WIDE], dtype=tl.float32)
    top = tl.full([SIDE], float("-inf"), dtype=tl.float32)
    total = tl.zeros([SIDE], dtype=tl.float32)
    inter += batch * inter_batch + head * inter_head
    successive += batch * successive_batch + head * successive_head
    intra += batch * intra_batch + head * intra_head
    accumulated, top, total = _fold(
        inter, inter_row, rows, real, accumulated, top, total, key, value, key_row, value_row, listed, 0, inter_end,
        scale, positions, KEYS, False, SIZE, WIDE, SIDE, PRECISION,
    )  # fmt: skip
    accumulated, top, total = _fold(
        successive, successive_row, rows, real, accumulated, top, total, key, value, key_row, value_row, listed,
        inter_end, successive_end, scale, positions, KEYS, False, SIZE, WIDE, SIDE, PRECISION,
    )  # fmt: skip
    accumulated, top, total = _fold(
        intra, intra_row, rows, real, accumulated, top, total, key, value, key_row, value_row, listed,
        successive_end, intra_end, scale, positions, KEYS, True, SIZE, WIDE, SIDE, PRECISION,
    )  # fmt: skip

    row = (batch * H + head) * ROWS + rows
    mask = real[:, None] & (i < SIZE)[None, :]
    tl.store(out + row[:, None] * SIZE + i[None, :], (accumulated / total[:, None]).to(out.dtype.element_ty), mask=mask)
    tl.store(lse + row, (top + tl.log2(total)) * 0.6931471805599453, mask=real)
