"""Attention of one query a row, as decoding needs it, where there is no fused kernel: by plain products or, on a CPU
where that is faster, by PyTorch's flash attention.

Either reads each key and value once. Products of 16 bits round the scores and are slow on most CPUs, so on a CPU keys
and values of 16 bits are widened first; flash attention takes the processor's own products of 16 bits where it can.
"""

from functools import cache

import torch

from .dual_chunk_geometry import DualChunkGeometry
from .dual_chunk_kernels import GAIN, CpuFlash, times_as_fast
from .dual_chunk_rotation import relation_rotations

_WIDENED = 1 << 20  # numbers of keys or values that are widened at a time: they stay in a CPU's cache
_BLOCK = 1024  # keys of a chunk below which calls for chunks cost more than calls for whole ranges
_FLASH = CpuFlash()


def _borders(length: int, chunk_length: int) -> tuple[int, int]:
    """Where the previous and the last chunk of so many keys start."""
    chunk = (length - 1) // chunk_length * chunk_length
    return max(0, chunk - chunk_length), chunk


def attend_one_query(query, key, value, rotations, geometry, scaling, sinks=None):
    """One query over all keys, as decoding needs it: plain products per key range, each key and value read once."""
    batch, heads, _, size = query.shape
    keys, values, length = key.flatten(0, 1), value.flatten(0, 1), key.shape[2]
    before, chunk = _borders(length, geometry.chunk_length)
    if query.device.type == "cpu" and query.dtype.itemsize < 4:
        rotated = rotations.stacked_one(query.float(), scaling)
        out = _attend_widened(rotated, keys, values, (before, chunk), sinks)
        return out.to(value.dtype).view(batch, heads, 1, -1)
    intra, successive, inter = rotations.stacked_one(query, scaling).reshape(3, len(keys), -1, size)
    ranges = ((inter, 0, before), (successive, before, chunk), (intra, chunk, length))
    # Keys first: the other way round, and for more rows at once, a CPU reads them at half the rate.
    scores = [torch.bmm(keys[:, a:b], rows.transpose(1, 2)) for rows, a, b in ranges if a < b]
    score = torch.cat(scores, dim=1).transpose(1, 2)
    weights = _softmax(score.to(torch.promote_types(score.dtype, torch.float32)), sinks)
    return torch.bmm(weights.to(value.dtype), values).view(batch, heads, 1, -1)


def _softmax(score: torch.Tensor, sinks: torch.Tensor | None) -> torch.Tensor:
    """The weights of scores [B * G, H / G, K], where each head's sink [H], if any, takes its share."""
    if sinks is None:
        return torch.softmax(score, dim=-1)
    per_row = sinks.to(score).view(-1, score.shape[1], 1).repeat(len(score) * score.shape[1] // len(sinks), 1, 1)
    return torch.softmax(torch.cat([score, per_row], dim=-1), dim=-1)[..., :-1]


def _attend_widened(rotated, keys, values, borders: tuple[int, int], sinks=None) -> torch.Tensor:
    """The same in float32, keys and values widened block by block: a CPU's products of 16 bits are slower, and round
    the scores."""
    (before, chunk), (groups, length, size) = borders, keys.shape
    intra, successive, inter = rotated.reshape(3, groups, -1, size)
    block = min(length, max(64, _WIDENED // (groups * size)))
    wide = intra.new_empty(groups, block, size)  # one for all blocks: it is in the cache when it is written again
    score = intra.new_empty(groups, length, intra.shape[1])  # keys first, as above
    for query, begin, end in ((inter, 0, before), (successive, before, chunk), (intra, chunk, length)):
        for rows in _rows(begin, end, block):
            some = wide[:, : rows.stop - rows.start].copy_(keys[:, rows])
            score[:, rows].baddbmm_(some, query.transpose(1, 2), beta=0)
    weights, out = _softmax(score.transpose(1, 2), sinks), torch.zeros_like(intra)
    for rows in _rows(0, length, block):
        out.baddbmm_(weights[:, :, rows], wide[:, : rows.stop - rows.start].copy_(values[:, rows]))
    return out


def _rows(begin: int, end: int, block: int) -> list[slice]:
    return [slice(start, min(start + block, end)) for start in range(begin, end, block)]


def refuse_one_query(query: torch.Tensor, key: torch.Tensor) -> str | None:
    if query.shape[2] != 1:
        return "there is more than one query"
    return "gradients are wanted" if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad) else None


def attend_one_query_by_flash(query, key, value, rotations, geometry, scaling, sinks=None):
    """One query over all keys: flash calls over key ranges, merged by their log-sum-exps in float32."""
    batch, groups = key.shape[:2]
    intra, successive, inter = _together(rotations.stacked_one(query, 1.0), groups)
    before, chunk = _borders(key.shape[2], geometry.chunk_length)
    if batch == 1 and chunk and geometry.chunk_length >= _BLOCK:
        # The chunks as a batch: one call, which all threads share evenly.
        queries = torch.cat([inter.expand(before // geometry.chunk_length, *inter.shape[1:]), successive])
        keys, values = (_chunks(x, chunk, geometry.chunk_length) for x in (key, value))
        calls = [(queries, keys, values), (intra, key[:, :, chunk:], value[:, :, chunk:])]
    else:
        ranges = ((inter, slice(0, before)), (successive, slice(before, chunk)), (intra, slice(chunk, None)))
        calls = [(q, key[:, :, rows], value[:, :, rows]) for q, rows in ranges if rows.start != rows.stop]
    parts = [_FLASH.forward(*call, causal=False, scaling=scaling) for call in calls]
    out, lse = (torch.cat(part).unflatten(0, (-1, batch)) for part in zip(*parts))
    if sinks is not None:
        lse = torch.cat([lse, sinks.to(lse).view(lse.shape[2:]).expand(1, *lse.shape[1:])])
    weights = torch.softmax(lse, dim=0)[: len(out)].unsqueeze(-1)
    return (out * weights).sum(0).to(value.dtype).view(query.shape)


def _chunks(x: torch.Tensor, length: int, chunk_length: int) -> torch.Tensor:
    """The first `length` rows of [1, G, K, D], whole chunks, as a view [chunks, G, chunk_length, D]."""
    _, groups, rows, size = x.stride()
    shape = (length // chunk_length, x.shape[1], chunk_length, x.shape[3])
    return x.as_strided(shape, (chunk_length * rows, groups, rows, size), x.storage_offset())


def _together(rotated: torch.Tensor, groups: int) -> torch.Tensor:
    """Queries [3, B, H, 1, D], those of one key head as rows of one call, [3, B, G, H / G, D]. Two rows of 16 bits stay
    apart: a product of one row is quicker than half of a product of two."""
    rows = rotated.shape[2] // groups
    return rotated if rows == 2 and rotated.dtype.itemsize < 4 else rotated.unflatten(2, (groups, rows)).squeeze(4)


def refuse_one_query_by_flash(query: torch.Tensor, key: torch.Tensor) -> str | None:
    refusal = refuse_one_query(query, key) or _FLASH.refusal(query, key)
    if refusal is not None:
        return refusal
    if torch.compiler.is_compiling():
        return "nothing is timed while a graph is compiled"
    gain = _measured_gain(query.dtype)
    return None if gain >= GAIN else f"it was only {gain:.2f} times as fast as plain products when it was timed"


@cache
def _measured_gain(dtype: torch.dtype) -> float:
    """How many times as fast as plain products flash attention is here, on a call of about a millisecond."""
    geometry, length = DualChunkGeometry(1536, 256, 2048), 4096
    query, key = (torch.ones(1, 8, rows, 128, dtype=dtype) for rows in (1, length))  # draws from no seeded stream
    rotations = relation_rotations(torch.tensor([length - 1]), torch.ones(64), geometry)
    call = lambda attend: attend(query, key, key, rotations, geometry, 0.1)
    return times_as_fast(lambda: call(attend_one_query_by_flash), lambda: call(attend_one_query))
