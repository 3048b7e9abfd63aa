"""What happens around the attention calls of a layer, in PyTorch: the readable twins of the Triton kernels.

Shapes: N tokens of a step, F cross queries, H query heads, G key/value heads, D head size, R requests of one token
each, W pages of a request.
"""

import torch

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_rotation import logit_factors, query_positions, rotate
from dca_hub.vllm_plugin.cuda.ops import Rows, pages_of
from dca_hub.vllm_plugin.rotary_table import RotaryTable


def rotate_queries(
    query: torch.Tensor, rows: Rows, cross: int, table: RotaryTable, geometry: DualChunkGeometry
) -> torch.Tensor:
    """Queries [>= N, H, D] at their position in each relation, with the temperature, [N + F, H, D]: every row for the
    intra relation, in order, and after them the F cross ones where `rows` has them."""
    positions = rows.positions.long()
    count = len(positions)
    factor = logit_factors(positions, geometry, torch.float32)
    out = query.new_empty(count + cross, *query.shape[1:])
    indices = (torch.arange(count, device=query.device), _after(rows.successive, count), _after(rows.inter, count))
    for target, index in zip(query_positions(positions, geometry), indices):
        cos, sin = table.between(positions, target)
        if factor is not None:
            cos, sin = cos * factor, sin * factor
        scale = None if factor is None else factor.unsqueeze(1)
        rotated = rotate(query[:count], cos.unsqueeze(1), sin.unsqueeze(1), scale)
        out[index[index >= 0]] = rotated[index >= 0]
    return out


def _after(index: torch.Tensor, count: int) -> torch.Tensor:
    return torch.where(index >= 0, index.long() + count, -1)


def write_keys(
    key: torch.Tensor,
    value: torch.Tensor,
    cache: tuple[torch.Tensor, torch.Tensor],
    slots: torch.Tensor,
    positions: torch.Tensor,
    table: RotaryTable,
    geometry: DualChunkGeometry,
) -> None:
    """Writes keys, rotated to their position in the chunk, and values, [>= N, G, D] each, into `slots` of the cache of
    keys and of values, [pages, page size, G, D] each; a token whose slot is negative is not written."""
    count = min(len(slots), len(positions))
    kept = (slots[:count] >= 0).nonzero()[:, 0]
    slots, at = slots[kept], positions[kept].long()
    cos, sin = table.between(at, at % geometry.chunk_length)
    page, offset = slots // cache[0].shape[1], slots % cache[0].shape[1]
    cache[0][page, offset] = rotate(key[kept], cos.unsqueeze(1), sin.unsqueeze(1))
    cache[1][page, offset] = value[kept]


def merge(
    output: torch.Tensor,
    intra: torch.Tensor,
    intra_lse: torch.Tensor,
    cross: torch.Tensor,
    cross_lse: torch.Tensor,
    rows: Rows,
) -> None:
    """Writes into `output` [N, H, D] the attention over all keys, from that of the intra relation (`intra` [N, H, D]
    and its log-sum-exp [H, N]) and of the cross queries ([F, H, D] and [H, F]). `intra` may be `output` itself.

    A part whose log-sum-exp is not finite saw no keys: flash attention tells so by one infinity or the other, by
    version. Its values may be anything.
    """
    outs, lses = [intra], [intra_lse]
    for index in (rows.successive, rows.inter):
        at = index.clamp(min=0).long() if len(cross) else None
        outs.append(cross[at] if len(cross) else torch.zeros_like(intra))
        found = cross_lse[:, at] if len(cross) else intra_lse
        lses.append(found.masked_fill(index < 0, float("-inf")))
    lse = torch.stack(lses).float().transpose(1, 2).unsqueeze(-1)
    seen = lse.isfinite()
    lse = lse.masked_fill(~seen, float("-inf"))
    weights = torch.where(seen, (lse - lse.logsumexp(0)).exp(), 0.0)
    output.copy_((weights * torch.stack(outs).float().masked_fill(~seen, 0.0)).sum(0))


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
    """Fills in what attention needs of R requests with one token each, from their `lengths` [R], that token included,
    and `block_table` [R, W]: `rows`; and of 3 R sequences, the requests once for each relation in its order, where
    their query is (`starts` [3 R + 1]), how many keys they have (`key_lengths` [3 R]) and on which pages (`pages`
    [3 R, W]), as far as there are keys. Of the relations other than intra, a sequence without keys has no query, unless
    they `all_have` one. A length of 0 is a row that pads the step."""
    s, requests = geometry.chunk_length, len(lengths)
    at = (lengths - 1).clamp(min=0)
    chunk = at // s * s
    successive = torch.where((at - chunk < geometry.local_size) & (chunk > 0), s, 0)
    counts = torch.stack([lengths - chunk, successive, chunk - successive])
    begins = torch.stack([chunk, (chunk - s).clamp(min=0), torch.zeros_like(chunk)])
    rows.positions.copy_(at)
    seen = counts[1:] > 0
    after = (seen | all_have).flatten().cumsum(0)
    starts[: requests + 1].copy_(torch.arange(requests + 1))
    starts[requests + 1 :].copy_(requests + after)
    for index, found in zip((rows.successive, rows.inter), torch.where(seen, after.view(2, requests) - 1, -1)):
        index.copy_(found)
    key_lengths.copy_(counts.flatten())
    request = torch.arange(requests, device=lengths.device).repeat(3)
    pages.copy_(pages_of(block_table, request, begins.flatten() // page_size, pages.shape[1]))


def gather(cache: tuple[torch.Tensor, torch.Tensor], pages: torch.Tensor, copy: torch.Tensor) -> None:
    """Copies pages of the cache of keys and of values, [pages, page size, G, D] each, one after another into `copy`
    [2, G, T, D]."""
    for half, target in zip(cache, copy):
        rows = half[pages.long()].flatten(0, 1)
        target[:, : len(rows)] = rows.transpose(0, 1)
