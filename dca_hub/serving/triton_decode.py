"""Laying out a step of one token a request in one launch; `plain_kernels` says what the function does."""

import torch
import triton
import triton.language as tl

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.serving.kernels import Rows

_PAGES_PER_STEP, _REQUESTS_PER_STEP = 256, 256
_INDICES = ("lengths", "block_table", "positions", "successive", "inter", "starts", "key_lengths", "pages")


@triton.jit
def _parts(length, S, LOCAL):
    """Where a request's token is and its chunk begins, and how many keys it has in the one before and beyond."""
    at = tl.maximum(length - 1, 0)
    chunk = at // S * S
    next_to = tl.where((at - chunk < LOCAL) & (chunk > 0), S, 0)
    return at, chunk, next_to, chunk - next_to


@triton.jit(do_not_specialize=["R"], do_not_specialize_on_alignment=_INDICES)
def _lay_out_decode(
    lengths, block_table, positions, successive, inter, starts, key_lengths, pages, table_stride, pages_stride, R, S,
    LOCAL, PAGE, ALL_HAVE: tl.constexpr, STEP: tl.constexpr, REQUESTS: tl.constexpr,
):  # fmt: skip
    request, relation = tl.program_id(0), tl.program_id(1)
    length = tl.load(lengths + request)
    at, chunk, next_to, beyond = _parts(length, S, LOCAL)
    # Of the far queries, those of the requests before this one, and all successive ones before any inter one.
    before, total, number = 0, 0, tl.arange(0, REQUESTS)
    for begin in range(0, R, REQUESTS):
        other = begin + number
        _, _, near_count, far_count = _parts(tl.load(lengths + other, mask=other < R, other=0), S, LOCAL)
        has_near, has_far = near_count > 0, far_count > 0
        if ALL_HAVE:
            has_near, has_far = other < R, other < R
        total += tl.sum(has_near.to(tl.int32) + has_far.to(tl.int32))
        counted = ((relation == 1) & has_near) | ((relation == 2) & has_far)
        before += tl.sum((counted & (other < request)).to(tl.int32))
        before += tl.sum((has_near & (relation == 2)).to(tl.int32))
    sequence = (relation * R + request).to(tl.int64)
    first, count = chunk, length - chunk
    if relation == 0:
        tl.store(positions + request, at)
        tl.store(starts + request, request)
    else:
        tl.store(starts + sequence, R + before)
        if relation == 1:
            first, count = tl.maximum(chunk - S, 0), next_to
            tl.store(successive + request, tl.where(count > 0, before, -1))
        else:
            first, count = chunk * 0, beyond
            tl.store(inter + request, tl.where(count > 0, before, -1))
            if request == R - 1:
                tl.store(starts + 3 * R, R + total)
    tl.store(key_lengths + sequence, count)
    of = block_table + request.to(tl.int64) * table_stride + first // PAGE
    used = (count + PAGE - 1) // PAGE
    for begin in range(0, used, STEP):
        i = begin + tl.arange(0, STEP)
        tl.store(pages + sequence * pages_stride + i, tl.load(of + i, mask=i < used), mask=i < used)


def lay_out_decode(
    lengths: torch.Tensor,
    block_table: torch.Tensor,
    geometry: DualChunkGeometry,
    page_size: int,
    rows: Rows,
    starts: torch.Tensor,
    key_lengths: torch.Tensor,
    pages: torch.Tensor,
    all_have: bool,
) -> None:
    requests = len(lengths)
    _lay_out_decode[(requests, 3)](
        lengths, block_table, rows.positions, rows.successive, rows.inter, starts, key_lengths, pages,
        block_table.stride(0), pages.stride(0), requests, geometry.chunk_length, geometry.local_size, page_size,
        ALL_HAVE=all_have, STEP=_PAGES_PER_STEP, REQUESTS=_REQUESTS_PER_STEP,
    )  # fmt: skip
