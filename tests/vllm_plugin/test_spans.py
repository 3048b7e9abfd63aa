"""The virtual sequences of a step: each pair of a query and a key that it sees, once, in its relation."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry, Relation
from dca_hub.vllm_plugin.spans import Piece, pieces, positions, spans

GEOMETRY = DualChunkGeometry(chunk_size=12, local_size=4, pretraining_length=12)
S = GEOMETRY.chunk_length


@dataclass(frozen=True)
class Sequences:
    """Pieces as a flash kernel over a paged cache takes them, one sequence a piece.

    `rows` [M] are the step's rows of the queries, int64; `starts` [P + 1] are where each sequence begins among them,
    `pages` [P, W] the pages of its keys and `lengths` [P] how many keys there are, all int32.
    """

    rows: torch.Tensor
    starts: torch.Tensor
    pages: torch.Tensor
    lengths: torch.Tensor
    longest_query: int
    longest_key: int


def sequences(found: Sequence[Piece], table: torch.Tensor, page_size: int) -> Sequences:
    """The sequences of `found`, at least one, over the pages `table` [requests, pages]: what
    `cuda.layout` does on arrays, to compare with.

    Raises:
        ValueError: a piece begins within a page.
    """
    if any(piece.k_start % page_size for piece in found):
        raise ValueError(f"a chunk must be made of whole pages of {page_size} tokens")
    device = table.device
    queries = [piece.stop - piece.start for piece in found]
    keys = [piece.k_length for piece in found]
    request, first_page = (
        torch.tensor(values, device=device).unsqueeze(1)
        for values in ([piece.request for piece in found], [piece.k_start // page_size for piece in found])
    )
    width = -(-max(keys) // page_size)
    pages = (first_page + torch.arange(width, device=device)).clamp(max=table.shape[1] - 1)  # the rest is never read
    return Sequences(
        torch.cat([torch.arange(piece.start, piece.stop) for piece in found]).to(device),
        torch.tensor([0, *queries]).cumsum(0).to(device, torch.int32),
        table[request, pages].to(torch.int32),
        torch.tensor(keys, dtype=torch.int32, device=device),
        max(queries),
        max(keys),
    )


def some_steps():
    """Steps of up to four requests, some of which have no tokens in them."""
    draw = random.Random(0)
    for _ in range(60):
        queries = [draw.choice((0, 1, 1, 3, 8, 30)) for _ in range(draw.randint(1, 4))]
        starts = [sum(queries[:n]) for n in range(len(queries) + 1)]
        yield starts, [count + draw.choice((0, 5, 8, 16, 17, 40)) for count in queries]


def test_every_pair_is_in_one_piece_of_its_relation():
    for starts, lengths in some_steps():
        step = spans(starts, lengths)
        seen = set()
        at = positions(step, starts[-1] + 2).tolist()
        for relation, found in pieces(step, S).items():
            for piece in found:
                for row in range(piece.start, piece.stop):
                    last = piece.k_length - (piece.stop - 1 - row) if relation is Relation.INTRA else piece.k_length
                    for key in range(piece.k_start, piece.k_start + last):
                        assert GEOMETRY.relation(at[row], key) is relation
                        assert (row, key) not in seen
                        seen.add((row, key))
        expected = {(row, key) for span in step for row in range(span.start, span.stop) for key in range(at[row] + 1)}
        assert seen == expected


def test_sequences_read_the_pages_of_their_keys():
    page = 4
    for starts, lengths in some_steps():
        step = spans(starts, lengths)
        table = torch.randperm(len(lengths) * 40).view(len(lengths), 40)
        for found in filter(None, pieces(step, S).values()):
            sequence = sequences(found, table, page)
            assert sequence.starts.diff().tolist() == [piece.stop - piece.start for piece in found]
            assert sequence.lengths.tolist() == [piece.k_length for piece in found]
            assert (sequence.longest_query, sequence.longest_key) == (
                int(sequence.starts.diff().max()),
                int(sequence.lengths.max()),
            )
            for number, piece in enumerate(found):
                rows = sequence.rows[sequence.starts[number] : sequence.starts[number + 1]]
                assert rows.tolist() == list(range(piece.start, piece.stop))
                for offset in range(piece.k_length):
                    key = piece.k_start + offset
                    assert sequence.pages[number, offset // page] == table[piece.request, key // page]


def test_a_piece_that_begins_within_a_page_is_refused():
    found = pieces(spans([0, 20], [20]), S)[Relation.INTRA]
    with pytest.raises(ValueError, match="whole pages of 3 tokens"):
        sequences(found, torch.arange(20).unsqueeze(0), 3)
