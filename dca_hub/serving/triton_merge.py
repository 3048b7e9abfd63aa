"""Merging the parts of attention in one launch; `plain_kernels` says what the function does."""

import torch
import triton
import triton.language as tl

from dca_hub.serving.kernels import Rows
from dca_hub.serving.triton_turns import heads_per_program

_INDICES = ("near_lse", "far_lse", "successive", "inter")


@triton.jit
def _lse(lse, head_stride, row_stride, row, heads, H):
    """A log-sum-exp of -inf for whatever saw no keys; a negative row is none."""
    mask = heads < tl.where(row >= 0, H, 0)
    found = tl.load(lse + heads * head_stride + row * row_stride, mask=mask, other=float("-inf"))
    return tl.where(tl.abs(found) < float("inf"), found, float("-inf"))


@triton.jit
def _weighted(part, stride, head_stride, row, heads, weight, i, D: tl.constexpr):
    """A part times its weights; one of weight 0 is not read, it may hold anything."""
    of = part + row * stride + heads[:, None] * head_stride + i[None, :]
    return weight[:, None] * tl.load(of, mask=(weight > 0)[:, None] & (i < D)[None, :], other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=["near_lse_head", "far_lse_head"], do_not_specialize_on_alignment=_INDICES)
def _merge(
    output, near, near_lse, far, far_lse, successive, inter, output_stride, output_head_stride, near_stride,
    near_head_stride, near_lse_head, near_lse_row, far_stride, far_head_stride, far_lse_head, far_lse_row, H,
    D: tl.constexpr, WIDE: tl.constexpr, HEADS: tl.constexpr, IN_PLACE: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    heads = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    next_to = tl.load(successive + row).to(tl.int64)
    beyond = tl.load(inter + row).to(tl.int64)
    needed = tl.maximum(next_to, beyond) >= 0
    if not IN_PLACE:
        needed = row >= 0
    if needed:
        lse_0 = _lse(near_lse, near_lse_head, near_lse_row, row, heads, H)
        lse_1 = _lse(far_lse, far_lse_head, far_lse_row, next_to, heads, H)
        lse_2 = _lse(far_lse, far_lse_head, far_lse_row, beyond, heads, H)
        top = tl.maximum(lse_0, tl.maximum(lse_1, lse_2))
        top = tl.where(top == float("-inf"), 0.0, top)  # no keys at all: a row that pads the step
        part_0, part_1, part_2 = tl.exp(lse_0 - top), tl.exp(lse_1 - top), tl.exp(lse_2 - top)
        total = part_0 + part_1 + part_2
        total = tl.where(total > 0, total, 1.0)
        i = tl.arange(0, WIDE)
        merged = _weighted(near, near_stride, near_head_stride, row, heads, part_0 / total, i, D)
        merged += _weighted(far, far_stride, far_head_stride, next_to, heads, part_1 / total, i, D)
        merged += _weighted(far, far_stride, far_head_stride, beyond, heads, part_2 / total, i, D)
        to = output + row * output_stride + heads[:, None] * output_head_stride + i[None, :]
        tl.store(to, merged.to(output.dtype.element_ty), mask=(heads < H)[:, None] & (i < D)[None, :])


def merge(
    output: torch.Tensor,
    near: torch.Tensor,
    near_lse: torch.Tensor,
    far: torch.Tensor,
    far_lse: torch.Tensor,
    rows: Rows,
) -> None:
    count, heads, size = output.shape
    per = heads_per_program(heads)
    _merge[(count, triton.cdiv(heads, per))](
        output, near, near_lse, far, far_lse, rows.successive, rows.inter,
        *output.stride()[:2], *near.stride()[:2], *near_lse.stride(), *far.stride()[:2], *far_lse.stride(), heads,
        D=size, WIDE=triton.next_power_of_2(size), HEADS=per, IN_PLACE=near.data_ptr() == output.data_ptr(),
    )  # fmt: skip
