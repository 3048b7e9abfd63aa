"""The parts of an attention merged, and their gradients summed, each in one launch of a Triton kernel.

The parts are listed in a table of addresses on the device, so that any number of them is one launch of one compiled
kernel.
"""

try:  # transformers refuses a file from the Hub over an import that is missing, unless it stands in a try
    import triton
    import triton.language as tl
except ImportError:
    raise

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .dual_chunk_geometry import Part, Relation
from .dual_chunk_rotation import ORDER, RelationRotations
from .dual_chunk_triton import halves, on_device

COLUMNS: tl.constexpr = tl.constexpr(16)  # numbers of a part in the table


@dataclass(frozen=True)
class Share:
    """What one call gave for the rows of a part: `x` [count, heads, M, D], which may have more rows than the part, and
    in a merge the log-sum-exp [count, heads, M], float32."""

    start: int
    length: int
    step: int
    count: int
    relation: Relation
    x: torch.Tensor
    lse: torch.Tensor | None = None

    @classmethod
    def of_queries(cls, part: Part, x: torch.Tensor, lse: torch.Tensor | None = None) -> "Share":
        return cls(part.q_start, part.q_length, part.q_step or part.q_length, part.count, part.relation, x, lse)

    @classmethod
    def of_keys(cls, part: Part, x: torch.Tensor) -> "Share":
        return cls(part.k_start, part.k_length, part.k_step or part.k_length, part.count, part.relation, x)

    def numbers(self) -> list[int]:
        lse = (0, 0, 0, 0) if self.lse is None else (self.lse.data_ptr(), *self.lse.stride())
        found = [self.x.data_ptr(), *self.x.stride()[:3], *lse, self.start, self.length, self.step, self.count]
        return [*found, ORDER.index(self.relation), *[0] * (COLUMNS.value - len(found) - 1)]


def _table(shares: Sequence[Sequence[Share]], device: torch.device) -> torch.Tensor:
    """The shares of each batch row, int64 [B, shares, COLUMNS]. So little is staged by the driver: the host does not
    wait for the GPU, and pinned memory would cost more."""
    numbers = torch.tensor([[share.numbers() for share in row] for row in shares], dtype=torch.int64)
    return numbers.to(device, non_blocking=True)


@triton.jit
def _part_pointer(entry, kind: tl.constexpr):
    """Results start at a multiple of 16 bytes and so does each of their rows."""
    return tl.multiple_of(tl.load(entry), 16).to(tl.pointer_type(kind), bitcast=False)


@triton.jit(do_not_specialize=["parts", "N"])
def _merge(
    table, parts, out, lse, N, out_batch, out_head, out_row, lse_batch, lse_head,
    D: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * ROWS
    head, batch = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    row, d = first + tl.arange(0, ROWS), tl.arange(0, WIDE)
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    merged = tl.zeros([ROWS, WIDE], tl.float32)
    for p in range(parts):
        entry = table + (batch * parts + p) * COLUMNS
        start, length = tl.load(entry + 8).to(tl.int32), tl.load(entry + 9).to(tl.int32)
        step, count = tl.load(entry + 10).to(tl.int32), tl.load(entry + 11).to(tl.int32)
        if (start < first + ROWS) & (start + (count - 1) * step + length > first):
            block = (row - start) // step
            within = row - start - block * step
            mine = (row >= start) & (block < count) & (within < length) & (row < N)
            block, within = tl.where(mine, block, 0).to(tl.int64), tl.where(mine, within, 0).to(tl.int64)
            part_lse = tl.load(entry + 4).to(tl.pointer_type(tl.float32), bitcast=False)
            part_lse += block * tl.load(entry + 5) + head * tl.load(entry + 6) + within * tl.load(entry + 7)
            found = tl.load(part_lse, mask=mine, other=float("-inf"))
            new = tl.maximum(top, found)
            safe = tl.where(new == float("-inf"), 0.0, new)
            weight, part_weight = tl.exp(top - safe), tl.exp(found - safe)
            block_stride, head_stride = tl.multiple_of(tl.load(entry + 1), 8), tl.multiple_of(tl.load(entry + 2), 8)
            of = block * block_stride + head * head_stride + within * tl.multiple_of(tl.load(entry + 3), 8)
            at = _part_pointer(entry, out.dtype.element_ty) + of[:, None] + d[None, :]
            part = tl.load(at, mask=mine[:, None] & (d < D)[None, :], other=0.0).to(tl.float32)
            merged = merged * weight[:, None] + part * part_weight[:, None]
            total = total * weight + part_weight
            top = new
    inside = row < N
    to = out + batch * out_batch + head * out_head + row.to(tl.int64)[:, None] * out_row + d[None, :]
    tl.store(to, (merged / total[:, None]).to(out.dtype.element_ty), mask=inside[:, None] & (d < D)[None, :])
    tl.store(lse + batch * lse_batch + head * lse_head + row, top + tl.log(total), mask=inside)


def merge_parts(
    shares: Sequence[Sequence[Share]], heads: int, rows: int, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The parts of each batch row, merged: the output [B, H, Q, D], with the strides of [B, Q, H, D], and the
    log-sum-exp [B, H, Q], float32."""
    like = shares[0][0].x
    out = like.new_empty(len(shares), rows, heads, size).transpose(1, 2)
    lse = like.new_empty(len(shares), heads, rows, dtype=torch.float32)
    with on_device(like.device):
        _merge[(triton.cdiv(rows, 32), heads, len(shares))](
            _table(shares, like.device), len(shares[0]), out, lse, rows, *out.stride()[:3], *lse.stride()[:2],
            D=size, WIDE=triton.next_power_of_2(size), ROWS=32,
        )  # fmt: skip
    return out, lse


@triton.jit(do_not_specialize=["parts", "N"])
def _sum(
    table, parts, out, cos, sin, factor, N, out_batch, out_head, out_row,
    HALF: tl.constexpr, WIDE: tl.constexpr, REST: tl.constexpr, REST_WIDE: tl.constexpr, ROWS: tl.constexpr,
    ROTATED: tl.constexpr, TEMPERED: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * ROWS
    head, batch = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    row, i, j = first + tl.arange(0, ROWS), tl.arange(0, WIDE), tl.arange(0, REST_WIDE)
    a_sum, b_sum = tl.zeros([ROWS, WIDE], tl.float32), tl.zeros([ROWS, WIDE], tl.float32)
    rest_sum = tl.zeros([ROWS, REST_WIDE], tl.float32)
    inside = row < N
    by = tl.full([ROWS], 1.0, tl.float32)
    if TEMPERED:
        by = tl.load(factor + row, mask=inside, other=0.0)
    for p in range(parts):
        entry = table + (batch * parts + p) * COLUMNS
        start, length = tl.load(entry + 8).to(tl.int32), tl.load(entry + 9).to(tl.int32)
        step, count = tl.load(entry + 10).to(tl.int32), tl.load(entry + 11).to(tl.int32)
        if (start < first + ROWS) & (start + (count - 1) * step + length > first):
            block = (row - start) // step
            within = row - start - block * step
            mine = (row >= start) & (block < count) & (within < length) & inside
            block, within = tl.where(mine, block, 0).to(tl.int64), tl.where(mine, within, 0).to(tl.int64)
            block_stride, head_stride = tl.multiple_of(tl.load(entry + 1), 8), tl.multiple_of(tl.load(entry + 2), 8)
            of = block * block_stride + head * head_stride + within * tl.multiple_of(tl.load(entry + 3), 8)
            at = _part_pointer(entry, out.dtype.element_ty) + of[:, None]
            mask = mine[:, None] & (i < HALF)[None, :]
            a = tl.load(at + i[None, :], mask=mask, other=0.0).to(tl.float32)
            b = tl.load(at + HALF + i[None, :], mask=mask, other=0.0).to(tl.float32)
            relation = tl.load(entry + 12)
            if ROTATED and relation > 0:
                angle = (relation * N + row)[:, None] * HALF + i[None, :]
                c, s = tl.load(cos + angle, mask=mask, other=0.0), tl.load(sin + angle, mask=mask, other=0.0)
                a_sum += a * c + b * s
                b_sum += b * c - a * s
            else:
                a_sum += a * by[:, None]
                b_sum += b * by[:, None]
            if REST > 0:
                rest_mask = mine[:, None] & (j < REST)[None, :]
                rest_sum += tl.load(at + 2 * HALF + j[None, :], mask=rest_mask, other=0.0).to(tl.float32) * by[:, None]
    to = out + batch * out_batch + head * out_head + row.to(tl.int64)[:, None] * out_row
    kind = out.dtype.element_ty
    mask = inside[:, None] & (i < HALF)[None, :]
    tl.store(to + i[None, :], a_sum.to(kind), mask=mask)
    tl.store(to + HALF + i[None, :], b_sum.to(kind), mask=mask)
    if REST > 0:
        tl.store(to + 2 * HALF + j[None, :], rest_sum.to(kind), mask=inside[:, None] & (j < REST)[None, :])


def sum_shares(
    shares: Sequence[Sequence[Share]], heads: int, rows: int, size: int, rotations: RelationRotations | None = None
) -> torch.Tensor:
    """The gradients of the parts of each batch row summed, [B, heads, rows, D], strides as of [B, rows, heads, D]. With
    `rotations` they are those of rotated queries, taken back to the query."""
    like = shares[0][0].x
    out = like.new_empty(len(shares), rows, heads, size).transpose(1, 2)
    widths = {"HALF": size // 2, "WIDE": triton.next_power_of_2(size // 2), "REST": size % 2, "REST_WIDE": 1}
    tempered = rotations is not None and rotations.factor is not None
    if rotations is not None:
        widths = halves(size, rotations.cos.shape[-1])
    cos, sin = (like, like) if rotations is None else (rotations.cos, rotations.sin)
    with on_device(like.device):
        _sum[(triton.cdiv(rows, 16), heads, len(shares))](
            _table(shares, like.device), len(shares[0]), out, cos, sin, rotations.factor if tempered else cos, rows,
            *out.stride()[:3], ROWS=16, ROTATED=rotations is not None, TEMPERED=tempered, **widths,
        )  # fmt: skip
    return out
