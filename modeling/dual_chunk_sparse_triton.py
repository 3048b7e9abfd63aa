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
from .dual_chunk_selection_triton import first_to_fit, lists, tiles

_WARPS = 8
# Keys that are taken at a time, and pieces in flight: the first that a multiprocessor has the memory for.
_PIECES = ((BLOCK, 3), (BLOCK // 2, 2), (BLOCK // 4, 2), (BLOCK // 4, 1))


def attend_listed(queries: Queries, key, value, slab: Slab, kept: torch.Tensor, scaling: float):
    """As `dual_chunk_blocks.attend_gathered`, in one launch. Every block of queries keeps one that it sees."""
    some = next(iter(queries.values()))
    batch, heads, rows, size = some.shape
    wide, is_wide = triton.next_power_of_2(size), some.dtype == torch.float32
    order, ends = lists(kept, slab)
    # Where a relation has no keys its list is empty, and any tensor serves.
    given = [tiles(queries.get(relation, some), BLOCK, wide) for relation in ORDER]
    out = torch.empty(batch, heads, rows, size, dtype=some.dtype, device=some.device)
    lse = torch.empty(batch, heads, rows, dtype=torch.float32, device=some.device)
    row = wide * some.itemsize
    keys, stages = first_to_fit(_PIECES, lambda keys, stages: (BLOCK + 2 * keys * stages) * row, some.device)
    _attend[(len(slab.blocks), heads, batch)](
        *given, tiles(key, keys, wide), tiles(value, keys, wide), out, lse, order, ends, scaling * math.log2(math.e),
        slab.blocks.start * BLOCK, slab.lead, rows, kept.shape[3], heads // key.shape[1], heads,
        SIZE=size, WIDE=wide, SIDE=BLOCK, PER=BLOCK // keys, PRECISION="ieee" if is_wide else None,
        num_warps=_WARPS, num_stages=1 if is_wide else stages,
    )  # fmt: skip
    return out, lse


@triton.jit
def _fold(
    query, batch, head, first, accumulated, top, total, key, value, group, listed, begin, end, scale, positions,
    CAUSAL: tl.constexpr, WIDE: tl.constexpr, SIDE: tl.constexpr, PER: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Takes the listed blocks [begin, end), all of one relation, into a running softmax, in powers of two. `query` has
    the queries that are rotated for that relation, from row `first` on."""
    KEYS: tl.constexpr = SIDE // PER
    rotated = query.load([batch, head, first, 0]).reshape(SIDE, WIDE)
    # A block's number is read one step ahead of its keys.
    coming = tl.load(listed + begin, mask=begin < end, other=0)
    for number in range(begin * PER, end * PER):
        slot = coming * SIDE + number % PER * KEYS
        coming = tl.load(listed + (number + 1) // PER, mask=number + 1 < end * PER, other=0)
        keys = key.load([batch, group, slot, 0]).reshape(KEYS, WIDE)
        values = value.load([batch, group, slot, 0]).reshape(KEYS, WIDE)
        score = tl.dot(rotated, tl.trans(keys), input_precision=PRECISION)
        if CAUSAL:
            score = tl.where((slot + tl.arange(0, KEYS))[None, :] <= positions[:, None], score, float("-inf"))
        highest = tl.maximum(top, tl.max(score, 1) * scale)
        weights = tl.exp2(score * scale - highest[:, None])
        shrink = tl.exp2(top - highest)
        total = total * shrink + tl.sum(weights, 1)
        accumulated = accumulated * shrink[:, None]
        accumulated = tl.dot(weights.to(values.dtype), values, accumulated, input_precision=PRECISION)
        top = highest
    return accumulated, top, total


@triton.jit(do_not_specialize=["FIRST", "LEAD", "ROWS", "N"])
def _attend(
    intra, successive, inter, key, value, out, lse, order, ends, scale, FIRST, LEAD, ROWS, N, GROUP, H,
    SIZE: tl.constexpr, WIDE: tl.constexpr, SIDE: tl.constexpr, PER: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    block, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    group = head // GROUP
    first = block * SIDE - LEAD
    rows = first + tl.arange(0, SIDE)
    positions = FIRST + block * SIDE + tl.arange(0, SIDE)
    listing = (batch * H + head).to(tl.int64) * tl.num_programs(0) + block
    listed = order + listing * N
    inter_end = tl.load(ends + listing * 3)
    successive_end = tl.load(ends + listing * 3 + 1)
    intra_end = tl.load(ends + listing * 3 + 2)
    # Only in its own block, which is the last in the list, does a query not see every key.
    own = tl.maximum(successive_end, intra_end - 1)

    accumulated = tl.zeros([SIDE, WIDE], dtype=tl.float32)
    top = tl.full([SIDE], float("-inf"), dtype=tl.float32)
    total = tl.zeros([SIDE], dtype=tl.float32)
    accumulated, top, total = _fold(
        inter, batch, head, first, accumulated, top, total, key, value, group, listed, 0, inter_end, scale, positions,
        False, WIDE, SIDE, PER, PRECISION,
    )  # fmt: skip
    accumulated, top, total = _fold(
        successive, batch, head, first, accumulated, top, total, key, value, group, listed, inter_end, successive_end,
        scale, positions, False, WIDE, SIDE, PER, PRECISION,
    )  # fmt: skip
    accumulated, top, total = _fold(
        intra, batch, head, first, accumulated, top, total, key, value, group, listed, successive_end, own, scale,
        positions, False, WIDE, SIDE, PER, PRECISION,
    )  # fmt: skip
    accumulated, top, total = _fold(
        intra, batch, head, first, accumulated, top, total, key, value, group, listed, own, intra_end, scale, positions,
        True, WIDE, SIDE, PER, PRECISION,
    )  # fmt: skip

    i = tl.arange(0, WIDE)
    real = (rows >= 0) & (rows < ROWS)
    row = (batch * H + head).to(tl.int64) * ROWS + rows
    mask = real[:, None] & (i < SIZE)[None, :]
    tl.store(out + row[:, None] * SIZE + i[None, :], (accumulated / total[:, None]).to(out.dtype.element_ty), mask=mask)
    tl.store(lse + row, (top + tl.log2(total)) * 0.6931471805599453, mask=real)
