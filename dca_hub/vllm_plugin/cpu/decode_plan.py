"""Which pages the last tokens of a step's requests see, in which relation, and in which order they are best read.

They are visited in order of memory, whichever request they belong to, in runs as long as the cache allows; what is
quicker to copy is copied a little at a time.

Shapes: R requests, E visits, T of them partial, G key/value heads, P tokens of a page.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from dca_hub.modeling.dual_chunk_rotation import ORDER
from dca_hub.vllm_plugin.cpu.pages import PageShape
from dca_hub.vllm_plugin.spans import Span, pieces

# A call takes as long as copying so much; and copies of so much are still in the processor's cache when they are used.
_LEAST_BYTES, _COPY_BYTES = 2**18, 2**21


@dataclass(frozen=True)
class PageRun:
    """`count` visits, to pages that follow one another in memory from page `first` on, or lie apart if it is None."""

    first: int | None
    count: int


@dataclass(frozen=True)
class BoundaryPages:
    """Visits [T] of `pages` [T] with tokens that do not concern them, of another chunk or beyond the length: `unseen`
    [T, P]. What lies beyond the length may be anything."""

    visits: torch.Tensor
    pages: torch.Tensor
    unseen: torch.Tensor


@dataclass(frozen=True)
class DecodePlan:
    """Which request sees which page in which relation. `page_runs` are the pages, one after another, and `blocks`
    [E * G] where the keys of a head in a page lie in the cache, counted in blocks of P vectors; values come next.

    `requests` [E] says whose visit each is, and `queries` [E] the rotated queries, counted by relation and request.
    `by_request` [E] has the visits request by request, those of each from its place in `starts` [R] on.
    """

    page_runs: tuple[PageRun, ...]
    blocks: torch.Tensor
    requests: torch.Tensor
    queries: torch.Tensor
    by_request: torch.Tensor
    starts: torch.Tensor
    partial: BoundaryPages


def plan_decode(lasts: Sequence[Span], table: torch.Tensor, page: PageShape, chunk_length: int) -> DecodePlan:
    """The visits of spans of one token each, at least one span, by the pages `table` [requests, pages]."""
    size = page.tokens
    number_of = {span.request: request for request, span in enumerate(lasts)}
    pages, requests, queries, partial, seen = [], [], [], [], []
    for relation, found in pieces(lasts, chunk_length).items():
        for piece in found:
            request, begin, end = number_of[piece.request], piece.k_start, piece.k_start + piece.k_length
            first, count = begin // size, -(-end // size) - begin // size
            for nth in sorted({0, count - 1}):
                start = (first + nth) * size
                low, high = max(begin - start, 0), min(end - start, size)
                if high - low < size:
                    partial.append(len(pages) + nth)
                    seen.append((low, high))
            pages += table[piece.request, first : first + count].tolist()
            requests += [request] * count
            queries += [ORDER.index(relation) * len(lasts) + request] * count
    which, request, query = (torch.tensor(values) for values in (pages, requests, queries))
    order = _in_memory(which)
    request, cut = request[order], torch.tensor(partial, dtype=torch.long)
    at, (low, high) = torch.arange(size), torch.tensor(seen, dtype=torch.long).view(-1, 2, 1).unbind(1)
    return DecodePlan(
        tuple(_together(runs(which[order].tolist()), page.half, _LEAST_BYTES)),
        ((which[order] * page.heads).unsqueeze(1) + torch.arange(page.heads)).mul_(2).view(-1),
        request,
        query[order],
        request.argsort(),
        torch.nn.functional.pad(request.bincount().cumsum(0)[:-1], (1, 0)),
        BoundaryPages(order.argsort()[cut], which[cut], (at < low) | (at >= high)),
    )


def _in_memory(pages: torch.Tensor) -> torch.Tensor:
    """The order in which to visit pages: ascending, and what is to be visited again in another round of its own."""
    order = pages.argsort(stable=True)
    at, again = torch.arange(len(pages)), pages[order].diff(prepend=pages.new_tensor([-1])) == 0
    rounds = at - at.masked_fill(again, 0).cummax(0).values
    return order[rounds.argsort(stable=True)]


def runs(pages: Sequence[int]) -> list[PageRun]:
    """Pages, in order, as runs that follow one another in memory."""
    starts = [at for at, page in enumerate(pages) if not at or page != pages[at - 1] + 1]
    return [PageRun(pages[start], end - start) for start, end in zip(starts, [*starts[1:], len(pages)])]


def _together(found: Iterable[PageRun], page_bytes: int, least: int) -> Iterator[PageRun]:
    """The same visits, with runs of up to `least` bytes that come one after another put together."""
    most, waiting = max(1, _COPY_BYTES // page_bytes), None
    for run in found:
        short = run.count * page_bytes <= least
        if waiting is not None and short and waiting.count + run.count <= most:
            waiting = PageRun(None, waiting.count + run.count)
            continue
        if waiting is not None:
            yield waiting
        waiting = run if short else None
        if not short:
            yield run
    if waiting is not None:
        yield waiting
