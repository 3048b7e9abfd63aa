"""The operations of `ops` in Triton, a launch each; `reference` says what they do.

A row is read once and written once a relation, and everything between happens in float32 registers: its angles are
taken from the model's table there and then, so a step hands its layers a few integers a token. `TRITON_INTERPRET=1`
runs them without a GPU.
"""

import torch
import triton
import triton.language as tl

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_triton import halves, heads_per_program, load_halves, store_halves
from dca_hub.vllm_plugin.cuda.ops import Rows
from dca_hub.vllm_plugin.rotary_table import RotaryTable

# Read one at a time: no kernel is to be compiled anew because of where a step's numbers happen to lie.
_ROTATE_INDICES = ("positions", "successive", "inter", "slots")


@triton.jit
def _table(table, stride, at, i, HALF: tl.constexpr):
    cos = tl.load(table + at * stride + i, mask=i < HALF, other=1.0).to(tl.float32)
    sin = tl.load(table + at * stride + HALF + i, mask=i < HALF, other=0.0).to(tl.float32)
    return cos, sin


@triton.jit
def _store_rotated(
    out, a, b, rest, table, stride, cos, sin, source, target, factor, heads, head_stride, H,
    HALF: tl.constexpr, WIDE: tl.constexpr, REST: tl.constexpr, REST_WIDE: tl.constexpr,
):  # fmt: skip
    """Stores halves [heads, R / 2], rotated at `source` by `cos` and `sin`, as rotated at `target`."""
    i = tl.arange(0, WIDE)
    cos_to, sin_to = _table(table, stride, target, i, HALF)
    squared = cos * cos + sin * sin
    # Exactly 1 where nothing rotates, so that a first chunk is the plain model's to the bit.
    delta_cos = tl.where(source == target, 1.0, (cos_to * cos + sin_to * sin) / squared) * factor
    delta_sin = tl.where(source == target, 0.0, (sin_to * cos - cos_to * sin) / squared) * factor
    cos_by, sin_by = delta_cos[None, :], delta_sin[None, :]
    store_halves(
        out, heads, head_stride, H, a * cos_by - b * sin_by, b * cos_by + a * sin_by, rest * factor,
        HALF, WIDE, REST, REST_WIDE,
    )  # fmt: skip


@triton.jit(do_not_specialize=["N"], do_not_specialize_on_alignment=_ROTATE_INDICES)
def _rotate_queries(
    query, out, positions, successive, inter, table, query_stride, query_head_stride, out_stride, out_head_stride,
    table_stride, N, H, S: tl.constexpr, C: tl.constexpr, L: tl.constexpr, TEMPERATURE: tl.constexpr,
    HALF: tl.constexpr, WIDE: tl.constexpr, REST: tl.constexpr, REST_WIDE: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    heads = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    at = tl.load(positions + row).to(tl.int64)
    i_successive = tl.load(successive + row).to(tl.int64)
    i_inter = tl.load(inter + row).to(tl.int64)
    a, b, rest = load_halves(query + row * query_stride, heads, query_head_stride, H, HALF, WIDE, REST, REST_WIDE)
    cos, sin = _table(table, table_stride, at, tl.arange(0, WIDE), HALF)
    factor = 1.0
    if TEMPERATURE > 0:
        grown = 1.0 + TEMPERATURE * tl.log((at + 1).to(tl.float32) / L)
        factor = tl.where(at >= L, grown, 1.0)
    within = at % S
    _store_rotated(
        out + row * out_stride, a, b, rest, table, table_stride, cos, sin, at, within, factor, heads, out_head_stride,
        H, HALF, WIDE, REST, REST_WIDE,
    )  # fmt: skip
    if i_successive >= 0:
        _store_rotated(
            out + (N + i_successive) * out_stride, a, b, rest, table, table_stride, cos, sin, at,
            tl.minimum(within + S, C), factor, heads, out_head_stride, H, HALF, WIDE, REST, REST_WIDE,
        )  # fmt: skip
    if i_inter >= 0:
        _store_rotated(
            out + (N + i_inter) * out_stride, a, b, rest, table, table_stride, cos, sin, at, within * 0 + C, factor,
            heads, out_head_stride, H, HALF, WIDE, REST, REST_WIDE,
        )  # fmt: skip


def rotate_queries(
    query: torch.Tensor, rows: Rows, cross: int, table: RotaryTable, geometry: DualChunkGeometry
) -> torch.Tensor:
    count, (heads, size) = len(rows.positions), query.shape[1:]
    out = query.new_empty(count + cross, heads, size)
    per = heads_per_program(heads)
    _rotate_queries[(count, triton.cdiv(heads, per))](
        query, out, rows.positions, rows.successive, rows.inter, table.cos_sin,
        query.stride(0), query.stride(1), out.stride(0), out.stride(1), table.cos_sin.stride(0), count, heads,
        S=geometry.chunk_length, C=geometry.chunk_size, L=geometry.pretraining_length,
        TEMPERATURE=geometry.temperature, HEADS=per, **halves(size, table.cos_sin.shape[1] // 2),
    )  # fmt: skip
    return out


@triton.jit(do_not_specialize_on_alignment=_ROTATE_INDICES)
def _write_keys(
    key, value, keys, values, slots, positions, table, key_stride, key_head_stride, value_stride, value_head_stride,
    page_stride, slot_stride, cache_head_stride, table_stride, G, S: tl.constexpr, PAGE: tl.constexpr,
    HALF: tl.constexpr, WIDE: tl.constexpr, REST: tl.constexpr, REST_WIDE: tl.constexpr, HEADS: tl.constexpr,
    SIZE_WIDE: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    heads = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    slot = tl.load(slots + row).to(tl.int64)
    if slot >= 0:
        to = slot // PAGE * page_stride + slot % PAGE * slot_stride
        at = tl.load(positions + row).to(tl.int64)
        a, b, rest = load_halves(key + row * key_stride, heads, key_head_stride, G, HALF, WIDE, REST, REST_WIDE)
        cos, sin = _table(table, table_stride, at, tl.arange(0, WIDE), HALF)
        _store_rotated(
            keys + to, a, b, rest, table, table_stride, cos, sin, at, at % S, 1.0, heads, cache_head_stride, G,
            HALF, WIDE, REST, REST_WIDE,
        )  # fmt: skip
        i = tl.arange(0, SIZE_WIDE)
        mask = (heads < G)[:, None] & (i < 2 * HALF + REST)[None, :]
        held = tl.load(value + row * value_stride + heads[:, None] * value_head_stride + i[None, :], mask=mask)
        tl.store(values + to + heads[:, None] * cache_head_stride + i[None, :], held, mask=mask)


def write_keys(
    key: torch.Tensor,
    value: torch.Tensor,
    cache: tuple[torch.Tensor, torch.Tensor],
    slots: torch.Tensor,
    positions: torch.Tensor,
    table: RotaryTable,
    geometry: DualChunkGeometry,
) -> None:
    count, (heads, size) = min(len(slots), len(positions)), key.shape[1:]
    keys, values = cache
    per = heads_per_program(heads)
    _write_keys[(count, triton.cdiv(heads, per))](
        key, value, keys, values, slots, positions, table.cos_sin,
        key.stride(0), key.stride(1), value.stride(0), value.stride(1), *keys.stride()[:3], table.cos_sin.stride(0),
        heads, S=geometry.chunk_length, PAGE=keys.shape[1], HEADS=per, SIZE_WIDE=triton.next_power_of_2(size),
        **halves(size, table.cos_sin.shape[1] // 2),
    )  # fmt: skip


_MERGE_INDICES = ("intra_lse", "cross_lse", "successive", "inter")


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


@triton.jit(do_not_specialize=["intra_lse_head", "cross_lse_head"], do_not_specialize_on_alignment=_MERGE_INDICES)
def _merge(
    output, intra, intra_lse, cross, cross_lse, successive, inter, output_stride, output_head_stride, intra_stride,
    intra_head_stride, intra_lse_head, intra_lse_row, cross_stride, cross_head_stride, cross_lse_head, cross_lse_row, H,
    D: tl.constexpr, WIDE: tl.constexpr, HEADS: tl.constexpr, IN_PLACE: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    heads = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    i_successive = tl.load(successive + row).to(tl.int64)
    i_inter = tl.load(inter + row).to(tl.int64)
    needed = tl.maximum(i_successive, i_inter) >= 0
    if not IN_PLACE:
        needed = row >= 0
    if needed:
        lse_0 = _lse(intra_lse, intra_lse_head, intra_lse_row, row, heads, H)
        lse_1 = _lse(cross_lse, cross_lse_head, cross_lse_row, i_successive, heads, H)
        lse_2 = _lse(cross_lse, cross_lse_head, cross_lse_row, i_inter, heads, H)
        top = tl.maximum(lse_0, tl.maximum(lse_1, lse_2))
        top = tl.where(top == float("-inf"), 0.0, top)  # no keys at all: a row that pads the step
        part_0, part_1, part_2 = tl.exp(lse_0 - top), tl.exp(lse_1 - top), tl.exp(lse_2 - top)
        total = part_0 + part_1 + part_2
        total = tl.where(total > 0, total, 1.0)
        i = tl.arange(0, WIDE)
        merged = _weighted(intra, intra_stride, intra_head_stride, row, heads, part_0 / total, i, D)
        merged += _weighted(cross, cross_stride, cross_head_stride, i_successive, heads, part_1 / total, i, D)
        merged += _weighted(cross, cross_stride, cross_head_stride, i_inter, heads, part_2 / total, i, D)
        to = output + row * output_stride + heads[:, None] * output_head_stride + i[None, :]
        tl.store(to, merged.to(output.dtype.element_ty), mask=(heads < H)[:, None] & (i < D)[None, :])


def merge(
    output: torch.Tensor,
    intra: torch.Tensor,
    intra_lse: torch.Tensor,
    cross: torch.Tensor,
    cross_lse: torch.Tensor,
    rows: Rows,
) -> None:
    count, heads, size = output.shape
    per = heads_per_program(heads)
    _merge[(count, triton.cdiv(heads, per))](
        output, intra, intra_lse, cross, cross_lse, rows.successive, rows.inter,
        *output.stride()[:2], *intra.stride()[:2], *intra_lse.stride(), *cross.stride()[:2], *cross_lse.stride(), heads,
        D=size, WIDE=triton.next_power_of_2(size), HEADS=per, IN_PLACE=intra.data_ptr() == output.data_ptr(),
    )  # fmt: skip


_PAGES_PER_STEP, _REQUESTS_PER_STEP = 256, 256
_DECODE_INDICES = ("lengths", "block_table", "positions", "successive", "inter", "starts", "key_lengths", "pages")


@triton.jit
def _parts(length, S, LOCAL):
    """Where a request's token is and its chunk begins, and how many keys it has in the one before and beyond."""
    at = tl.maximum(length - 1, 0)
    chunk = at // S * S
    of_successive = tl.where((at - chunk < LOCAL) & (chunk > 0), S, 0)
    return at, chunk, of_successive, chunk - of_successive


@triton.jit(do_not_specialize=["R"], do_not_specialize_on_alignment=_DECODE_INDICES)
def _lay_out_decode(
    lengths, block_table, positions, successive, inter, starts, key_lengths, pages, table_stride, pages_stride, R, S,
    LOCAL, PAGE, ALL_HAVE: tl.constexpr, STEP: tl.constexpr, REQUESTS: tl.constexpr,
):  # fmt: skip
    request, relation = tl.program_id(0), tl.program_id(1)
    length = tl.load(lengths + request)
    at, chunk, of_successive, of_inter = _parts(length, S, LOCAL)
    # Of the cross queries, those of the requests before this one, and all successive ones before any inter one.
    before, total, number = 0, 0, tl.arange(0, REQUESTS)
    for begin in range(0, R, REQUESTS):
        other = begin + number
        _, _, successive_count, inter_count = _parts(tl.load(lengths + other, mask=other < R, other=0), S, LOCAL)
        has_successive, has_inter = successive_count > 0, inter_count > 0
        if ALL_HAVE:
            has_successive, has_inter = other < R, other < R
        total += tl.sum(has_successive.to(tl.int32) + has_inter.to(tl.int32))
        counted = ((relation == 1) & has_successive) | ((relation == 2) & has_inter)
        before += tl.sum((counted & (other < request)).to(tl.int32))
        before += tl.sum((has_successive & (relation == 2)).to(tl.int32))
    sequence = (relation * R + request).to(tl.int64)
    first, count = chunk, length - chunk
    if relation == 0:
        tl.store(positions + request, at)
        tl.store(starts + request, request)
    else:
        tl.store(starts + sequence, R + before)
        if relation == 1:
            first, count = tl.maximum(chunk - S, 0), of_successive
            tl.store(successive + request, tl.where(count > 0, before, -1))
        else:
            first, count = chunk * 0, of_inter
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
