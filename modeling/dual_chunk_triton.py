"""Triton kernels for what surrounds the attention calls on a GPU: rotation, merge, sums of gradients; and decoding.

A launch reads each row once and writes it once, with float32 in between. The parts of an attention are listed in a
table of addresses on the device, so that any number of parts is one launch of one compiled kernel. `TRITON_INTERPRET=1`
runs the kernels without a GPU. Import this module only where Triton is installed.

Shapes: B batch, H query heads, G key/value heads, Q queries, K keys, D head size, R the rotated part of D, M the rows
of a part's result.
"""

try:  # transformers refuses a file from the Hub over an import that is missing, unless it stands in a try
    import triton
    import triton.language as tl
except ImportError:
    raise

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch

from .dual_chunk_geometry import Part, Relation
from .dual_chunk_rotation import ORDER, RelationRotations

COLUMNS: tl.constexpr = tl.constexpr(16)  # numbers of a part in the table
# Of decoding: measured on an H200.
KEYS_PER_BLOCK = 64
SPLITS_PER_PROCESSOR = 2
WARPS, STAGES = 4, 3


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


def _heads_per_program(heads: int) -> int:
    """Enough heads of a row to be worth a program, few enough for its registers."""
    return min(16, triton.next_power_of_2(heads))


def _halves(size: int, cos: torch.Tensor) -> dict[str, int]:
    half = cos.shape[-1]
    rest = size - 2 * half
    wide, rest_wide = triton.next_power_of_2(half), triton.next_power_of_2(max(1, rest))
    return {"HALF": half, "WIDE": wide, "REST": rest, "REST_WIDE": rest_wide}


@triton.jit
def _load_halves(
    x, heads, head_stride, H, HALF: tl.constexpr, WIDE: tl.constexpr, REST: tl.constexpr, REST_WIDE: tl.constexpr
):
    i, j = tl.arange(0, WIDE), tl.arange(0, REST_WIDE)
    at = x + heads[:, None] * head_stride
    mask = (heads < H)[:, None] & (i < HALF)[None, :]
    a = tl.load(at + i[None, :], mask=mask, other=0.0).to(tl.float32)
    b = tl.load(at + HALF + i[None, :], mask=mask, other=0.0).to(tl.float32)
    rest = tl.load(at + 2 * HALF + j[None, :], mask=(heads < H)[:, None] & (j < REST)[None, :], other=0.0)
    return a, b, rest.to(tl.float32)


@triton.jit
def _store_halves(
    x, heads, head_stride, H, a, b, rest,
    HALF: tl.constexpr, WIDE: tl.constexpr, REST: tl.constexpr, REST_WIDE: tl.constexpr,
):  # fmt: skip
    i, j = tl.arange(0, WIDE), tl.arange(0, REST_WIDE)
    at = x + heads[:, None] * head_stride
    mask = (heads < H)[:, None] & (i < HALF)[None, :]
    kind = x.dtype.element_ty
    tl.store(at + i[None, :], a.to(kind), mask=mask)
    tl.store(at + HALF + i[None, :], b.to(kind), mask=mask)
    if REST > 0:
        tl.store(at + 2 * HALF + j[None, :], rest.to(kind), mask=(heads < H)[:, None] & (j < REST)[None, :])


@triton.jit
def _angles(cos, sin, at, HALF: tl.constexpr, WIDE: tl.constexpr):
    i = tl.arange(0, WIDE)
    c = tl.load(cos + at * HALF + i, mask=i < HALF, other=0.0).to(tl.float32)
    s = tl.load(sin + at * HALF + i, mask=i < HALF, other=0.0).to(tl.float32)
    return c[None, :], s[None, :]


@triton.jit(do_not_specialize=["N", "FIRST", "BASE"])
def _rotate(
    query, intra, successive, inter, cos, sin, factor, N, FIRST, BASE, S, W, H,
    query_batch, query_head, query_row, out_head, out_row, intra_batch, successive_batch, inter_batch,
    HALF: tl.constexpr, WIDE: tl.constexpr, REST: tl.constexpr, REST_WIDE: tl.constexpr, HEADS: tl.constexpr,
    TEMPERED: tl.constexpr, EDGE: tl.constexpr,
):  # fmt: skip
    row, batch = tl.program_id(0).to(tl.int64), tl.program_id(2).to(tl.int64)
    heads = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    position = FIRST + row
    chunk, in_chunk = position // S, position % S
    wanted = chunk > 0
    if TEMPERED:
        wanted = row >= 0
    if wanted:
        at = query + batch * query_batch + row * query_row
        a, b, rest = _load_halves(at, heads, query_head, H, HALF, WIDE, REST, REST_WIDE)
        by = 1.0
        if TEMPERED:
            by = tl.load(factor + row)
            to = intra + batch * intra_batch + row * out_row
            _store_halves(to, heads, out_head, H, a * by, b * by, rest * by, HALF, WIDE, REST, REST_WIDE)
        in_window = in_chunk < W
        if (chunk > 0) & (in_window | (not EDGE)):
            c, s = _angles(cos, sin, N + row, HALF, WIDE)
            to_row = row
            if EDGE:  # only the first W rows of a chunk, one chunk after the other
                to_row = chunk * W + in_chunk - BASE
            to = successive + batch * successive_batch + to_row * out_row
            _store_halves(to, heads, out_head, H, a * c - b * s, b * c + a * s, rest * by, HALF, WIDE, REST, REST_WIDE)
        beyond = chunk > 1
        if EDGE:
            beyond = beyond | ((chunk == 1) & (in_chunk >= W))
        if beyond:
            c, s = _angles(cos, sin, 2 * N + row, HALF, WIDE)
            to = inter + batch * inter_batch + row * out_row
            _store_halves(to, heads, out_head, H, a * c - b * s, b * c + a * s, rest * by, HALF, WIDE, REST, REST_WIDE)


def rotate_queries(
    query: torch.Tensor, rotations: RelationRotations, first: int, chunk_length: int, spare: int = 0
) -> dict[Relation, torch.Tensor | None]:
    """The queries [B, H, Q, D] at positions from `first` on, as each relation has them: [B, H, Q, D], and for the other
    relations than intra `spare` rows of zeros after them.

    Rows that see no keys in a relation are not written; a relation in which none does holds None. Strides of what is
    made are those of [B, Q, H, D].
    """
    batch, heads, count, size = query.shape
    chunks = (first + count - 1) // chunk_length
    empty = lambda rows: query.new_empty(batch, rows, heads, size)
    intra = None if rotations.factor is None else empty(count)
    successive, inter = (empty(count + spare) if chunks >= least else None for least in (1, 2))
    _launch_rotate(query, rotations, first, chunk_length, None, intra, successive, inter)
    for x in (successive, inter):
        if spare and x is not None:
            x[:, count:].zero_()
    other = [None if x is None else x.transpose(1, 2) for x in (successive, inter)]
    return dict(zip(ORDER, [query if intra is None else intra.transpose(1, 2), *other]))


def rotate_with_edge(
    query: torch.Tensor, rotations: RelationRotations, first: int, chunk_length: int, window: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The queries [B, H, Q, D] for the intra relation, and for the other two in one tensor [B, H, Q + F, D].

    A query with at least `window` queries before it in its chunk is rotated to the same position in both, the edge of
    what the model knows, and stands once, among the first Q rows, those of the inter relation. The F rows after them
    are the first `window` queries of each chunk but the first, in the successive relation, as `window_rows` counts
    them; at least `window` rows are to spare. Rows that see no keys are not written.
    """
    batch, heads, count, size = query.shape
    width = min(window, chunk_length)
    rows = window_rows(first + count, chunk_length, width) - max(window_rows(first, chunk_length, width), width)
    intra = None if rotations.factor is None else query.new_empty(batch, count, heads, size)
    far = query.new_empty(batch, count + max(0, rows) + width, heads, size)
    _launch_rotate(query, rotations, first, chunk_length, width, intra, far[:, count:], far[:, :count])
    return query if intra is None else intra.transpose(1, 2), far.transpose(1, 2)


def _launch_rotate(query, rotations, first, chunk_length, window, intra, successive, inter) -> None:
    batch, heads, count, size = query.shape
    query = query if query.stride(3) == 1 else query.contiguous()
    made = [x for x in (intra, successive, inter) if x is not None]
    if not made:
        return
    targets = [made[0] if x is None else x for x in (intra, successive, inter)]
    width = chunk_length if window is None else window
    base = max(window_rows(first, chunk_length, width), width)  # the first chunk has no successive rows
    per, tempered = _heads_per_program(heads), rotations.factor is not None
    with _on(query.device):
        _rotate[(count, triton.cdiv(heads, per), batch)](
            query, *targets, rotations.cos, rotations.sin, rotations.factor if tempered else rotations.cos, count,
            first, base, chunk_length, width, heads, *query.stride()[:3], size, heads * size,
            *(x.stride(0) for x in targets),
            HEADS=per, TEMPERED=tempered, EDGE=window is not None, **_halves(size, rotations.cos),
        )  # fmt: skip


def window_rows(position: int, chunk_length: int, window: int) -> int:
    """How many positions before this one are among the first `window` of their chunk."""
    return position // chunk_length * window + min(position % chunk_length, window)


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
    with _on(like.device):
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
    halves = {"HALF": size // 2, "WIDE": triton.next_power_of_2(size // 2), "REST": size % 2, "REST_WIDE": 1}
    tempered = rotations is not None and rotations.factor is not None
    if rotations is not None:
        halves = _halves(size, rotations.cos)
    cos, sin = (like, like) if rotations is None else (rotations.cos, rotations.sin)
    with _on(like.device):
        _sum[(triton.cdiv(rows, 16), heads, len(shares))](
            _table(shares, like.device), len(shares[0]), out, cos, sin, rotations.factor if tempered else cos, rows,
            *out.stride()[:3], ROWS=16, ROTATED=rotations is not None, TEMPERED=tempered, **halves,
        )  # fmt: skip
    return out


@triton.jit
def _rotated_rows(
    query, cos, sin, rotation_stride, relation, head, mask, query_head, by,
    HALF: tl.constexpr, WIDE: tl.constexpr, REST: tl.constexpr, REST_WIDE: tl.constexpr,
):  # fmt: skip
    """Rows of a query [H, D], each the one of `head` rotated for its `relation`: the halves, and the rest."""
    i, j = tl.arange(0, WIDE), tl.arange(0, REST_WIDE)
    valid = mask[:, None] & (i < HALF)[None, :]
    at = query + head[:, None] * query_head
    a = tl.load(at + i[None, :], mask=valid, other=0.0).to(tl.float32)
    b = tl.load(at + HALF + i[None, :], mask=valid, other=0.0).to(tl.float32)
    of = relation[:, None] * rotation_stride + i[None, :]
    c = tl.load(cos + of, mask=valid, other=0.0).to(tl.float32)
    s = tl.load(sin + of, mask=valid, other=0.0).to(tl.float32)
    rest = tl.load(at + 2 * HALF + j[None, :], mask=mask[:, None] & (j < REST)[None, :], other=0.0).to(tl.float32)
    return a * c - b * s, b * c + a * s, rest * by


@triton.jit(do_not_specialize=["K", "S"], do_not_specialize_on_alignment=["positions", "factor", "arrivals"])
def _decode(
    query, key, value, out, partial, statistics, arrivals, cos, sin, factor, positions, query_positions, K, S, scaling,
    query_batch, query_head, key_batch, key_head, key_row, value_batch, value_head, value_row, rotation_stride,
    rotation_batch, positions_batch,
    GROUP: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr, WIDE: tl.constexpr, REST: tl.constexpr,
    REST_WIDE: tl.constexpr, D: tl.constexpr, D_WIDE: tl.constexpr, BLOCK: tl.constexpr, SPLITS: tl.constexpr,
    POSITIONED: tl.constexpr, TEMPERED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One query of each batch row over its keys, split over programs; the last program of a key head combines.

    A program holds the GROUP query heads of a key head once for each relation, in 4 x HEADS rows: the least that a
    tensor core multiplies by is 16 rows, so one product serves all three relations, and rows mask the keys that are not
    theirs.
    """
    split, group, batch = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    groups = tl.num_programs(1)
    ROWS: tl.constexpr = 4 * HEADS
    row = tl.arange(0, ROWS)
    relation, head = row // HEADS, group * GROUP + row % HEADS
    held = (relation < 3) & (row % HEADS < GROUP)
    if POSITIONED:
        at = tl.load(query_positions + batch)
        used = tl.minimum(tl.load(query_positions + tl.num_programs(2)), K)
    else:
        used = K
        at = K - 1
    by = 1.0
    if TEMPERED:
        by = tl.load(factor + batch * (rotation_batch > 0))
    table = batch * rotation_batch
    a, b, rest = _rotated_rows(
        query + batch * query_batch, cos + table, sin + table, rotation_stride, relation, head, held, query_head, by,
        HALF, WIDE, REST, REST_WIDE,
    )  # fmt: skip
    kind = key.dtype.element_ty
    scale = scaling * 1.4426950408889634
    if PRECISION == "ieee":
        a, b, rest = a * scale, b * scale, rest * scale
        scale = 1.0
    a, b, rest = a.to(kind), b.to(kind), rest.to(kind)

    per = tl.cdiv(tl.cdiv(used, SPLITS), BLOCK) * BLOCK
    begin = split * per
    end = tl.minimum(begin + per, used)
    i, j, d = tl.arange(0, WIDE), tl.arange(0, REST_WIDE), tl.arange(0, D_WIDE)
    keys, values = key + batch * key_batch + group * key_head, value + batch * value_batch + group * value_head
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    acc = tl.zeros([ROWS, D_WIDE], tl.float32)
    for start in range(begin, end, BLOCK):
        slot = start + tl.arange(0, BLOCK)
        inside = slot < end
        position = slot
        if POSITIONED:
            position = tl.load(positions + batch * positions_batch + slot, mask=inside, other=-1)
        seen = inside & (position >= 0) & (position <= at)
        of = keys + slot.to(tl.int64)[:, None] * key_row
        mask = inside[:, None] & (i < HALF)[None, :]
        k_a = tl.load(of + i[None, :], mask=mask, other=0.0)
        k_b = tl.load(of + HALF + i[None, :], mask=mask, other=0.0)
        score = tl.dot(a, tl.trans(k_a), input_precision=PRECISION)
        score = tl.dot(b, tl.trans(k_b), score, input_precision=PRECISION)
        if REST > 0:
            k_rest = tl.load(of + 2 * HALF + j[None, :], mask=inside[:, None] & (j < REST)[None, :], other=0.0)
            score = tl.dot(rest, tl.trans(k_rest), score, input_precision=PRECISION)
        apart = tl.minimum(at // S - position // S, 2)
        score = tl.where(seen[None, :] & (apart[None, :] == relation[:, None]), score * scale, float("-inf"))
        new = tl.maximum(top, tl.max(score, 1))
        safe = tl.where(new == float("-inf"), 0.0, new)
        weight = tl.exp2(top - safe)
        p = tl.exp2(score - safe[:, None])
        v = tl.load(
            values + slot.to(tl.int64)[:, None] * value_row + d[None, :],
            mask=inside[:, None] & (d < D)[None, :], other=0.0,
        )  # fmt: skip
        acc = tl.dot(p.to(v.dtype), v, acc * weight[:, None], input_precision=PRECISION)
        total = total * weight + tl.sum(p, 1)
        top = new

    # The relations of a head are merged here: [B, G, SPLITS, HEADS, D] of outputs without division, and the greatest
    # score and the sum of weights with them.
    tops = tl.reshape(top, [4, HEADS])
    best = tl.max(tops, 0)
    weights = tl.exp2(tops - tl.where(best == float("-inf"), 0.0, best)[None, :])
    whole = tl.sum(tl.reshape(total, [4, HEADS]) * weights, 0)
    merged = tl.sum(tl.reshape(acc, [4, HEADS, D_WIDE]) * weights[:, :, None], 0)
    h = tl.arange(0, HEADS)
    at = ((batch * groups + group) * SPLITS + split) * HEADS + h
    tl.store(partial + at[:, None] * D + d[None, :], merged, mask=(d < D)[None, :] & (h < GROUP)[:, None])
    tl.store(statistics + 2 * at, best)
    tl.store(statistics + 2 * at + 1, whole)
    tl.debug_barrier()  # every thread's stores come before the arrival
    arrived = tl.atomic_add(arrivals + batch * groups + group, 1, sem="acq_rel", scope="gpu")
    if arrived == SPLITS - 1:
        tl.store(arrivals + batch * groups + group, 0)  # ready for the next layer
        n = tl.arange(0, SPLITS)
        for g in range(GROUP):
            of = ((batch * groups + group) * SPLITS + n) * HEADS + g
            split_top = tl.load(statistics + 2 * of, cache_modifier=".cg")
            split_sum = tl.load(statistics + 2 * of + 1, cache_modifier=".cg")
            parts = tl.load(
                partial + of[:, None] * D + d[None, :], mask=(d < D)[None, :], other=0.0,
                cache_modifier=".cg",
            )  # fmt: skip
            greatest = tl.max(split_top, 0)
            split_weight = tl.exp2(split_top - tl.where(greatest == float("-inf"), 0.0, greatest))
            sums = tl.sum(split_sum * split_weight, 0)
            result = tl.sum(parts * split_weight[:, None], 0) / tl.where(sums > 0, sums, 1.0)
            # A query that sees no key, which is padding, gets zeros.
            to = out + ((batch * groups + group) * GROUP + g) * D + d
            tl.store(to, result.to(out.dtype.element_ty), mask=d < D)


def decode(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    factor: torch.Tensor | None,
    arrivals: torch.Tensor,
    chunk_length: int,
    scaling: float,
    positions: torch.Tensor | None = None,
    query_positions: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attention of one query a batch row, [B, H, 1, D], over keys and values [B, G, K, D], in one launch.

    Lengths are read on the device and the launch depends on the capacity K alone, so a CUDA graph serves all lengths.

    Args:
        cos, sin: [3, B or 1, R / 2] float32, by relation, the temperature multiplied in.
        factor: the temperature, [B or 1], or None.
        arrivals: int32 zeros [at least B * G], which are left zero: the layers of a call may share them.
        positions: int32 [B or 1, K], the position that each slot holds, negative for padding; None where slot i holds
            position i and the query stands at K - 1.
        query_positions: int32 [B + 1], the position of each query, and then the number of slots in use.
    """
    batch, heads, _, size = query.shape
    groups, keys = key.shape[1], key.shape[2]
    query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value))
    group = heads // groups
    rows = max(4, triton.next_power_of_2(group))
    splits = _splits(keys, batch * groups, query.device)
    held = batch * groups * splits * rows
    partial = torch.empty(held * (size + 2), dtype=torch.float32, device=query.device)
    out = query.new_empty(batch, heads, 1, size)
    half = cos.shape[-1]
    rest = size - 2 * half
    with _on(query.device):
        _decode[(splits, groups, batch)](
            query, key, value, out, partial, partial[held * size :], arrivals, cos, sin,
            cos if factor is None else factor, arrivals if positions is None else positions,
            arrivals if positions is None else query_positions, keys, chunk_length, scaling, *query.stride()[:2],
            *key.stride()[:3], *value.stride()[:3], cos.stride(0), cos.stride(1) if cos.shape[1] > 1 else 0,
            0 if positions is None or positions.shape[0] == 1 else positions.stride(0),
            GROUP=group, HEADS=rows, HALF=half, WIDE=max(16, triton.next_power_of_2(half)), REST=rest,
            REST_WIDE=max(16, triton.next_power_of_2(max(rest, 1))), D=size,
            D_WIDE=max(16, triton.next_power_of_2(size)),
            BLOCK=KEYS_PER_BLOCK, SPLITS=splits, POSITIONED=positions is not None, TEMPERED=factor is not None,
            PRECISION="ieee" if query.dtype == torch.float32 else "tf32", num_warps=WARPS, num_stages=STAGES,
        )  # fmt: skip
    return out


def _splits(keys: int, heads: int, device: torch.device) -> int:
    """Over how many programs the keys of a head are split. Each number is compiled anew, so there are but two of them:
    one that fills the GPU, and a few for short texts."""
    processors = _processors(device.index) if device.type == "cuda" else 2
    wanted = min(128, max(1, SPLITS_PER_PROCESSOR * processors // heads))
    return 1 << (min(wanted, 128 if keys > 2048 else 8).bit_length() - 1)


@cache
def _processors(index: int | None) -> int:
    return torch.cuda.get_device_properties(index).multi_processor_count


def _on(device: torch.device):
    """Triton launches on the current device, which need not be that of the tensors."""
    if device.type != "cuda" or device.index == torch.cuda.current_device():
        return contextlib.nullcontext()
    return torch.cuda.device(device)
