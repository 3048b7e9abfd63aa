"""The tokens of one step of an engine, request by request, and the chunk pieces they fall into.

vLLM computes a step over the tokens of many requests, laid end to end. Here is which rows belong to whom, at which
positions they stand, and the virtual sequences that Dual Chunk Attention makes of them. Shapes: N tokens of the step.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from dca_hub.modeling.dual_chunk_geometry import Relation


@dataclass(frozen=True)
class Span:
    """The tokens of one request in a step: rows [start, stop), the last ones of its `length` positions."""

    request: int
    start: int
    stop: int
    length: int

    @property
    def first(self) -> int:
        """The position of its first token."""
        return self.length - (self.stop - self.start)


def spans(starts: Sequence[int], lengths: Sequence[int]) -> tuple[Span, ...]:
    """The spans of the requests that have tokens in a step.

    starts: the first row of each request, and one more for the end. lengths: positions of each, this step included.
    """
    triples = enumerate(zip(starts, starts[1:], lengths))
    return tuple(Span(number, start, stop, length) for number, (start, stop, length) in triples if start < stop)


def positions(step: Iterable[Span], tokens: int) -> torch.Tensor:
    """The absolute position of each token, int64 [N]; 0 for rows that only pad the step."""
    found = torch.zeros(tokens, dtype=torch.long)
    for span in step:
        found[span.start : span.stop] = torch.arange(span.first, span.length)
    return found


@dataclass(frozen=True)
class Piece:
    """One virtual sequence: the queries in rows [start, stop) of a step against the keys at positions
    [k_start, k_start + k_length) of their request, all of them or, in the intra relation, causally: the last query
    sees the last key."""

    request: int
    start: int
    stop: int
    k_start: int
    k_length: int


def pieces(step: Iterable[Span], chunk_length: int) -> dict[Relation, list[Piece]]:
    """The virtual sequences that cover a step, by relation; where a relation has no keys there is none.

    Every pair of a query and a key that it sees lies in exactly one of them.
    """
    found: dict[Relation, list[Piece]] = {relation: [] for relation in Relation}
    for span in step:
        at = span.first
        while at < span.length:
            chunk = at // chunk_length * chunk_length
            end = min(chunk + chunk_length, span.length)
            rows = span.start + at - span.first, span.start + end - span.first
            before = chunk - chunk_length
            found[Relation.INTRA].append(Piece(span.request, *rows, chunk, end - chunk))
            if before >= 0:
                found[Relation.SUCCESSIVE].append(Piece(span.request, *rows, before, chunk_length))
            if before > 0:
                found[Relation.INTER].append(Piece(span.request, *rows, 0, before))
            at = end
    return found
