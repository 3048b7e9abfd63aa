"""Turning queries, and turning keys as they are written, in one launch each; `plain_kernels` says what they do.

A row is read once and written once a place, and everything between happens in float32 registers: its angles are taken
from the model's table there and then, so a step hands its layers a few integers a token. `TRITON_INTERPRET=1` runs them
without a GPU.
"""

import torch
import triton
import triton.language as tl

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.serving.kernels import Rows
from dca_hub.serving.rotation import RotaryTable

# Read one at a time: no kernel is to be compiled anew because of where a step's numbers happen to lie.
_INDICES = ("positions", "successive", "inter", "slots")


def heads_per_program(heads: int) -> int:
    """Of the heads of a row, how many one program takes: enough bytes to be worth it, and few enough for registers."""
    return min(16, triton.next_power_of_2(heads))


@triton.jit
def _table(table, stride, at, i, HALF: tl.constexpr):
    cos = tl.load(table + at * stride + i, mask=i < HALF, other=1.0).to(tl.float32)
    sin = tl.load(table + at * stride + HALF + i, mask=i < HALF, other=0.0).to(tl.float32)
    return cos, sin


@triton.jit
def _store_turned(
    out, a, b, rest, table, stride, cos, sin, source, target, factor, heads, head_stride, H,
    HALF: tl.constexpr, WIDE: tl.constexpr, REST: tl.constexpr, REST_WIDE: tl.constexpr,
):  # fmt: skip
    """Stores halves [heads, R / 2], rotated at `source` by `cos` and `sin`, as rotated at `target`."""
    i = tl.arange(0, WIDE)
    cos_to, sin_to = _table(table, stride, target, i, HALF)
    squared = cos * cos + sin * sin
    # Exactly 1 where nothing turns, so that a first chunk is the plain model's to the bit.
    turn_cos = tl.where(source == target, 1.0, (cos_to * cos + sin_to * sin) / squared) * factor
    turn_sin = tl.where(source == target, 0.0, (sin_to * cos - cos_to * sin) / squared) * factor
    to = out + heads[:, None] * head_stride + i[None, :]
    mask = (heads < H)[:, None] & (i < HALF)[None, :]
    kind = out.dtype.element_ty
    tl.store(to, (a * turn_cos[None, :] - b * turn_sin[None, :]).to(kind), mask=mask)
    tl.store(to + HALF, (b * turn_cos[None, :] + a * turn_sin[None, :]).to(kind), mask=mask)
    if REST > 0:
        j = tl.arange(0, REST_WIDE)
        to = out + heads[:, None] * head_stride + 2 * HALF + j[None, :]
        tl.store(to, (rest * factor).to(kind), mask=(heads < H)[:, None] & (j < REST)[None, :])


@triton.jit
def _load_halves(
    x, heads, head_stride, H, HALF: tl.constexpr, WIDE: tl.constexpr, REST: tl.constexpr, REST_WIDE: tl.constexpr
):
    i, j = tl.arange(0, WIDE), tl.arange(0, REST_WIDE)
    of = x + heads[:, None] * head_stride
    mask = (heads < H)[:, None] & (i < HALF)[None, :]
    a = tl.load(of + i[None, :], mask=mask, other=0.0).to(tl.float32)
    b = tl.load(of + HALF + i[None, :], mask=mask, other=0.0).to(tl.float32)
    rest = tl.load(of + 2 * HALF + j[None, :], mask=(heads < H)[:, None] & (j < REST)[None, :], other=0.0)
    return a, b, rest.to(tl.float32)


@triton.jit(do_not_specialize=["N"], do_not_specialize_on_alignment=_INDICES)
def _turn_queries(
    query, out, positions, successive, inter, table, query_stride, query_head_stride, out_stride, out_head_stride,
    table_stride, N, H, S: tl.constexpr, C: tl.constexpr, L: tl.constexpr, TEMPERATURE: tl.constexpr,
    HALF: tl.constexpr, WIDE: tl.constexpr, REST: tl.constexpr, REST_WIDE: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    heads = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    at = tl.load(positions + row).to(tl.int64)
    next_to = tl.load(successive + row).to(tl.int64)
    beyond = tl.load(inter + row).to(tl.int64)
    a, b, rest = _load_halves(query + row * query_stride, heads, query_head_stride, H, HALF, WIDE, REST, REST_WIDE)
    cos, sin = _table(table, table_stride, at, tl.arange(0, WIDE), HALF)
    factor = 1.0
    if TEMPERATURE > 0:
        grown = 1.0 + TEMPERATURE * tl.log((at + 1).to(tl.float32) / L)
        factor = tl.where(at >= L, grown, 1.0)
    within = at % S
    _store_turned(
        out + row * out_stride, a, b, rest, table, table_stride, cos, sin, at, within, factor, heads, out_head_stride,
        H, HALF, WIDE, REST, REST_WIDE,
    )  # fmt: skip
    if next_to >= 0:
        _store_turned(
            out + (N + next_to) * out_stride, a, b, rest, table, table_stride, cos, sin, at,
            tl.minimum(within + S, C), factor, heads, out_head_stride, H, HALF, WIDE, REST, REST_WIDE,
        )  # fmt: skip
    if beyond >= 0:
        _store_turned(
            out + (N + beyond) * out_stride, a, b, rest, table, table_stride, cos, sin, at, within * 0 + C, factor,
            heads, out_head_stride, H, HALF, WIDE, REST, REST_WIDE,
        )  # fmt: skip


def turn_queries(
    query: torch.Tensor, rows: Rows, far: int, table: RotaryTable, geometry: DualChunkGeometry
) -> torch.Tensor:
    count, (heads, size) = len(rows.positions), query.shape[1:]
    out = query.new_empty(count + far, heads, size)
    per = heads_per_program(heads)
    _turn_queries[(count, triton.cdiv(heads, per))](
        query, out, rows.positions, rows.successive, rows.inter, table.cos_sin,
        query.stride(0), query.stride(1), out.stride(0), out.stride(1), table.cos_sin.stride(0), count, heads,
        S=geometry.chunk_length, C=geometry.chunk_size, L=geometry.pretraining_length,
        TEMPERATURE=geometry.temperature, HEADS=per, **_widths(table, size),
    )  # fmt: skip
    return out


@triton.jit(do_not_specialize_on_alignment=_INDICES)
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
        a, b, rest = _load_halves(key + row * key_stride, heads, key_head_stride, G, HALF, WIDE, REST, REST_WIDE)
        cos, sin = _table(table, table_stride, at, tl.arange(0, WIDE), HALF)
        _store_turned(
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
        **_widths(table, size),
    )  # fmt: skip


def _widths(table: RotaryTable, size: int) -> dict[str, int]:
    """Of the rotated halves of a head and of what is left of it, and the powers of 2 that hold them."""
    half = table.cos_sin.shape[1] // 2
    rest = size - 2 * half
    wide, rest_wide = (triton.next_power_of_2(max(width, 1)) for width in (half, rest))
    return {"HALF": half, "WIDE": wide, "REST": rest, "REST_WIDE": rest_wide}
