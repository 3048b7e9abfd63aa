"""The virtual sequences of a step: each pair of a query and a key that it sees, once, in its relation."""

import pytest
import torch

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry, Relation
from dca_hub.vllm_plugin.spans import pieces, positions, spans
from support.engine_steps import sequences, some_steps

GEOMETRY = DualChunkGeometry(chunk_size=12, local_size=4, pretraining_length=12)
S = GEOMETRY.chunk_length


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
