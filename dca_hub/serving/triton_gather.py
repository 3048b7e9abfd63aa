"""Copying pages of the cache together in one launch; `plain_kernels` says what the function does."""

import torch
import triton
import triton.language as tl

_TOKENS_PER_STEP = 32


@triton.jit(do_not_specialize_on_alignment=["pages"])
def _gather(
    keys, values, pages, copy, page_stride, slot_stride, head_stride, copy_half, copy_head, copy_row, D,
    PAGE: tl.constexpr, STEP: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    number, head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    start = tl.load(pages + number).to(tl.int64) * page_stride + head * head_stride
    to = copy + head * copy_head + number * PAGE * copy_row
    i = tl.arange(0, WIDE)
    for first in tl.static_range(0, PAGE, STEP):
        token = first + tl.arange(0, STEP)
        mask = (token < PAGE)[:, None] & (i < D)[None, :]
        source = start + token[:, None] * slot_stride + i[None, :]
        target = to + token[:, None] * copy_row + i[None, :]
        tl.store(target, tl.load(keys + source, mask=mask), mask=mask)
        tl.store(target + copy_half, tl.load(values + source, mask=mask), mask=mask)


def gather(cache: tuple[torch.Tensor, torch.Tensor], pages: torch.Tensor, copy: torch.Tensor) -> None:
    keys, values = cache
    _, page, groups, size = keys.shape
    _gather[(len(pages), groups)](
        keys, values, pages, copy, *keys.stride()[:3], *copy.stride()[:3], size,
        PAGE=page, STEP=min(_TOKENS_PER_STEP, page), WIDE=triton.next_power_of_2(size),
    )  # fmt: skip
