"""Laying out a step of one token a request in one launch; `plain_kernels` says what the function does."""

import torch
import triton
import triton.language as tl

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.serving.kernels import Rows

_PAGES_PER_STEP = 256
_INDICES = ("lengths", "block_table", "positions", "successive", "inter", "key_lengths", "pages")


@triton.jit(do_not_specialize=["R"], do_not_specialize_on_alignment=_INDICES)
def _lay_out_decode(
    lengths, block_table, positions, successive, inter, key_lengths, pages, table_stride, pages_stride, R, S, LOCAL,
    PAGE, STEP: tl.constexpr,
):  # fmt: skip
    request, relation = tl.program_id(0), tl.program_id(1)
    length = tl.load(lengths + request)
    at = tl.maximum(length - 1, 0)
    chunk = at // S * S
    in_window = (at - chunk < LOCAL) & (chunk > 0)
    next_to = tl.where(in_window, S, 0)
    first, count = chunk, length - chunk
    if relation == 0:
        tl.store(positions + request, at)
    elif relation == 1:
        first, count = tl.maximum(chunk - S, 0), next_to
        tl.store(successive + request, tl.where(count > 0, request, -1))
    else:
        first, count = chunk * 0, chunk - next_to
        tl.store(inter + request, tl.where(count > 0, R + request, -1))
    sequence = (relation * R + request).to(tl.int64)
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
    key_lengths: torch.Tensor,
    pages: torch.Tensor,
) -> None:
    requests = len(lengths)
    _lay_out_decode[(requests, 3)](
        lengths, block_table, rows.positions, rows.successive, rows.inter, key_lengths, pages,
        block_table.stride(0), pages.stride(0), requests, geometry.chunk_length, geometry.local_size, page_size,
        STEP=_PAGES_PER_STEP,
    )  # fmt: skip
