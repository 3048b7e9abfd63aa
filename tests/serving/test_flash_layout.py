"""What flash attention is called with: each pair of a query and a key that it sees, once, from its place."""

import numpy as np
import pytest
import torch
from test_spans import some_steps

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry, Relation
from dca_hub.serving.flash_layout import DecodeMemory, Layout, lay_out
from dca_hub.serving.spans import pieces, positions, sequences, spans

PAGE, WIDTH = 4, 40
GEOMETRIES = [DualChunkGeometry(12, 4, 12), DualChunkGeometry(8, 0, 9), DualChunkGeometry(15, 7, 15)]


def page_table(requests: int) -> torch.Tensor:
    return torch.randperm(requests * WIDTH, generator=torch.Generator().manual_seed(0)).view(requests, WIDTH).int()


def seen(layout: Layout, geometry: DualChunkGeometry) -> dict[tuple[int, int], int]:
    """For each pair of a row and a slot of the cache, the position that the row's query has for the key there."""
    at, count = layout.rows.positions.tolist(), len(layout.rows.positions)
    queries = [(row, geometry.placed(at[row], Relation.INTRA)) for row in range(count)] + [None] * layout.far_rows
    for index, relation in ((layout.rows.successive, Relation.SUCCESSIVE), (layout.rows.inter, Relation.INTER)):
        for row, far in enumerate(index.tolist()):
            if far >= 0:
                assert queries[count + far] is None
                queries[count + far] = (row, geometry.placed(at[row], relation))
    found = {}
    for call, first, causal in ((layout.near, 0, layout.far is not None), (layout.far, count, False)):
        for number, length in enumerate(call.lengths.tolist() if call else ()):
            begin, end = call.starts[number : number + 2].tolist()
            assert end - begin <= call.longest_query and length <= call.longest_key
            for query in range(begin, end):
                for key in range(length - (end - 1 - query) if causal else length):
                    row, place = queries[first + query]
                    slot = int(call.pages[number, key // PAGE]) * PAGE + key % PAGE
                    assert (row, slot) not in found
                    found[row, slot] = place
    return found


def expected(starts, lengths, table: torch.Tensor, geometry: DualChunkGeometry) -> dict[tuple[int, int], int]:
    found = {}
    for span in spans(starts, lengths):
        for row in range(span.start, span.stop):
            query = span.first + row - span.start
            for key in range(query + 1):
                slot = int(table[span.request, key // PAGE]) * PAGE + key % PAGE
                found[row, slot] = geometry.placed(query, geometry.relation(query, key))
    return found


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_every_pair_is_in_one_sequence_and_in_its_place(geometry):
    laid_out = 0
    for starts, lengths in some_steps():
        table = page_table(len(lengths))
        layout = lay_out(np.array(starts), np.array(lengths), table, geometry, PAGE)
        if layout is None:
            step = spans(starts, lengths)
            assert all(span.length <= geometry.chunk_length for span in step)
            continue
        laid_out += 1
        assert layout.rows.positions.tolist() == positions(spans(starts, lengths), starts[-1]).tolist()
        assert seen(layout, geometry) == expected(starts, lengths, table, geometry)
    assert laid_out > 20


def test_the_keys_of_the_chunk_itself_are_those_of_the_pieces():
    for starts, lengths in some_steps():
        table, s = page_table(len(lengths)), GEOMETRIES[0].chunk_length
        layout = lay_out(np.array(starts), np.array(lengths), table, GEOMETRIES[0], PAGE)
        if layout is not None:
            twin = sequences(pieces(spans(starts, lengths), s)[Relation.INTRA], table, PAGE)
            assert torch.equal(layout.near.starts, twin.starts) and torch.equal(layout.near.lengths, twin.lengths)


def test_the_longest_sequences_come_first():
    layout = lay_out(np.array([0, 90]), np.array([100]), page_table(1), GEOMETRIES[0], PAGE)
    lengths = layout.far.lengths.tolist()
    assert lengths == sorted(lengths, reverse=True)


def test_a_request_said_to_be_shorter_than_its_step_reads_no_page_before_the_first():
    layout = lay_out(np.array([0, 30]), np.array([3]), page_table(1), GEOMETRIES[0], PAGE)
    assert layout.rows.positions.tolist() == list(range(30))


@pytest.mark.vllm
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_steps_of_one_token_a_request(geometry):  # the module of the kernels imports vLLM
    from dca_hub.serving.plain_kernels import lay_out_decode

    memory = DecodeMemory(30, WIDTH, torch.device("cpu"))
    memory.pages[:], memory.lengths[:] = -1, -1  # what an earlier step has left
    lengths = torch.tensor([*range(1, 27), 100, 0]).int()
    table, layout = page_table(28), memory.layout(28, 100)
    lay_out_decode(lengths, table, geometry, PAGE, layout.rows, layout.near.lengths, layout.near.pages)
    requests = list(range(28))
    assert seen(layout, geometry) == expected([*requests, 27], lengths.tolist(), table, geometry)
    assert layout.near.lengths.view(3, 28)[:, -1].tolist() == [0, 0, 0]
    again = memory.layout(28, 50)
    assert again.near.pages.data_ptr() == layout.near.pages.data_ptr()
