"""Decoding: one query a row over all its keys, rotation included, in one launch of a Triton kernel."""

try:  # transformers refuses a file from the Hub over an import that is missing, unless it stands in a try
    import triton
    import triton.language as tl
except ImportError:
    raise

from functools import cache

import torch

from .dual_chunk_triton import on_device

# Measured on an H200.
KEYS_PER_BLOCK = 64
SPLITS_PER_PROCESSOR = 2
WARPS, STAGES = 4, 3


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
    with on_device(query.device):
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
