"""Keys and values where they lie: a request's pages of a cache, read in as few and as long stretches as they have.

A cache is [pages, G, 2, P, D]: of each page, for each of G heads, P keys and P values. Pages that follow one another in
memory are read as one view, so that a decoding step copies little.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dca_hub.modeling.dual_chunk_attention import ORDER, QueryTurns
from dca_hub.modeling.dual_chunk_geometry import Relation

# Shorter stretches of memory are copied together first: a call for each would take longer.
_LEAST_BYTES = 512 * 1024


@dataclass(frozen=True)
class Run:
    """`count` pages that follow one another in memory, from page `first` on."""

    first: int
    count: int


def runs(pages: Sequence[int]) -> tuple[Run, ...]:
    """The pages of a request, in order, as runs."""
    found: list[Run] = []
    for page in pages:
        if found and page == found[-1].first + found[-1].count:
            found[-1] = Run(found[-1].first, found[-1].count + 1)
        else:
            found.append(Run(page, 1))
    return tuple(found)


def write(cache: torch.Tensor, slots: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
    """Puts keys and values [N, G, D] into the slots [N], counted in tokens from the first page on."""
    size = cache.shape[3]
    for kind, rows in enumerate((key, value)):
        cache[slots // size, :, kind, slots % size] = rows


def stretches(cache: torch.Tensor, where: Sequence[Run]) -> list[torch.Tensor]:
    """[pages, G, 2, P, D] each, that together hold the pages of a request in order."""
    if len(where) > 1 and cache[0].nbytes * sum(run.count for run in where) < _LEAST_BYTES * len(where):
        pages = torch.cat([torch.arange(run.first, run.first + run.count) for run in where])
        return [cache.index_select(0, pages)]
    return [cache[run.first : run.first + run.count] for run in where]


def read(cache: torch.Tensor, where: Sequence[Run], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Copies of the keys and values of a request of `length` tokens, [1, G, length, D] each."""
    found = stretches(cache, where)
    halves = (torch.cat([pages[:, :, kind].transpose(0, 1) for pages in found], dim=1) for kind in (0, 1))
    keys, values = (half.flatten(1, 2)[:, :length].unsqueeze(0) for half in halves)
    return keys, values


def attend_last(
    query: torch.Tensor,
    cache: torch.Tensor,
    where: Sequence[Run],
    length: int,
    turns: QueryTurns,
    chunk_length: int,
    scaling: float,
) -> torch.Tensor:
    """Dual Chunk Attention of a request's last token over all of its `length`, [H, D]; keys are read where they lie.

    query: [H, D], rotated at its place in the chunk. turns: its further turns.
    """
    groups, size = cache.shape[1], cache.shape[4]
    turned = turns.all(query.view(1, -1, 1, size), scaling).view(3, groups, -1, size)
    found = stretches(cache, where)
    weights = torch.softmax(_scores(turned, found, length, chunk_length), dim=-1, dtype=torch.float32).to(query.dtype)
    out, at = torch.zeros_like(turned[0]), 0
    for pages in found:
        tokens = min(pages.shape[0] * pages.shape[3], length - at)
        _add_values(out, weights[..., at : at + tokens], pages)
        at += tokens
    return out.view(-1, size)


def _scores(turned: torch.Tensor, found: list[torch.Tensor], length: int, chunk_length: int) -> torch.Tensor:
    """[G, H / G, length], each key by the query of its relation; `turned` is [3, G, H / G, D]."""
    chunk = (length - 1) // chunk_length * chunk_length
    ends = {Relation.INTER: max(0, chunk - chunk_length), Relation.SUCCESSIVE: chunk, Relation.INTRA: length}
    scores, at = [], 0
    for pages in found:
        size, first = pages.shape[3], at
        for relation, end in ends.items():
            end = min(end, first + pages.shape[0] * size)
            if at < end:
                # Whole pages; of one that holds a border, what belongs to the other side is cut off.
                begin = (at - first) // size
                part = pages[begin : -(-(end - first) // size), :, 0]
                score = _products(turned[ORDER.index(relation)].repeat(len(part), 1, 1), part.flatten(0, 1))
                score = score.unflatten(0, part.shape[:2]).permute(1, 2, 0, 3).flatten(2)
                start = at - first - begin * size
                scores.append(score[..., start : start + end - at])
                at = end
    return torch.cat(scores, dim=-1)


def _products(query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """[N, rows, P] of queries [N, rows, D] and keys [N, P, D]; for one row, a matrix times a vector is the faster."""
    if query.shape[1] == 1:
        return torch.bmm(keys, query.transpose(1, 2)).transpose(1, 2)
    return torch.bmm(query, keys.transpose(1, 2))


def _add_values(out: torch.Tensor, weights: torch.Tensor, pages: torch.Tensor) -> None:
    """Adds values by weights [G, H / G, tokens] to the output [G, H / G, D]; slots beyond the tokens hold anything."""
    size, tokens = pages.shape[3], weights.shape[-1]
    whole, rest = divmod(tokens, size)
    if whole:
        each = weights[..., : whole * size].unflatten(2, (whole, size)).permute(2, 0, 1, 3).flatten(0, 1)
        share = torch.bmm(each, pages[:whole, :, 1].flatten(0, 1))
        out += share.unflatten(0, (whole, -1)).sum(0)
    if rest:
        out.baddbmm_(weights[..., whole * size :], pages[whole, :, 1, :rest])
