"""What flash attention is called with: each pair of a query and a key that it sees, once, from its place."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry, Relation
from dca_hub.vllm_plugin.cuda.key_copy import KeyCopyPolicy, key_copy
from dca_hub.vllm_plugin.cuda.layout import DecodeMemory, FlashSequences, Layout, lay_out
from dca_hub.vllm_plugin.cuda.reference import lay_out_decode
from dca_hub.vllm_plugin.spans import pieces, positions, spans
from support.engine_steps import sequences, some_steps

PAGE, WIDTH = 4, 40
GATHERING = KeyCopyPolicy(least_queries=60, most_tokens=10_000)
GEOMETRIES = [DualChunkGeometry(12, 4, 12), DualChunkGeometry(8, 0, 9), DualChunkGeometry(15, 7, 15)]


def page_table(requests: int) -> torch.Tensor:
    return torch.randperm(requests * WIDTH, generator=torch.Generator().manual_seed(0)).view(requests, WIDTH).int()


def seen(layout: Layout, geometry: DualChunkGeometry, page: int = PAGE) -> dict[tuple[int, int], int]:
    """For each pair of a row and a slot of the cache, the position that the row's query has for the key there."""
    at, count = layout.rows.positions.tolist(), len(layout.rows.positions)
    queries: list = [(row, geometry.rotary_position(at[row], Relation.INTRA)) for row in range(count)]
    queries += [None] * layout.cross_rows
    for index, relation in ((layout.rows.successive, Relation.SUCCESSIVE), (layout.rows.inter, Relation.INTER)):
        for row, cross in enumerate(index.tolist()):
            if cross >= 0:
                assert queries[count + cross] is None
                queries[count + cross] = (row, geometry.rotary_position(at[row], relation))
    found, first = {}, 0
    for call in (layout.intra, *layout.cross):
        causal = call is layout.intra and bool(layout.cross)
        for number, length in enumerate(call.lengths.tolist()):
            begin, end = call.starts[number : number + 2].tolist()
            assert end - begin <= call.longest_query and length <= call.longest_key
            for query in range(begin, end):
                for key in range(length - (end - 1 - query) if causal else length):
                    row, place = queries[first + query]
                    slot = slot_of(call, number, key, page)
                    assert (row, slot) not in found
                    found[row, slot] = place
        first += call.queries
    assert first == len(queries)
    return found


def slot_of(call: FlashSequences, number: int, key: int, page: int) -> int:
    if call.copied is None:
        return int(call.pages[number, key // page]) * page + key % page
    place = int(call.copied.starts[number]) + key
    return int(call.copied.pages[place // page]) * page + place % page


def expected(starts, lengths, table, geometry: DualChunkGeometry, page: int = PAGE) -> dict[tuple[int, int], int]:
    found = {}
    for span in spans(starts, lengths):
        for row in range(span.start, span.stop):
            query = span.first + row - span.start
            for key in range(query + 1):
                slot = int(table[span.request, key // page]) * page + key % page
                found[row, slot] = geometry.rotary_position(query, geometry.relation(query, key))
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
            assert torch.equal(layout.intra.starts, twin.starts) and torch.equal(layout.intra.lengths, twin.lengths)


@pytest.mark.parametrize("most, chosen", [(10_000, [0, 2]), (300, [0]), (200, [2]), (100, []), (0, [])])
def test_keys_that_many_queries_see_are_copied_together(most, chosen):
    """Of requests with many queries, as long as there is room; each pair is still seen once, in its place."""
    geometry, page = DualChunkGeometry(40, 8, 40), 16
    starts, lengths = np.array([0, 150, 151, 241, 245]), np.array([300, 200, 170, 250])
    table, rule = page_table(4), replace(GATHERING, most_tokens=most)
    layout = lay_out(starts, lengths, table, geometry, page, rule)
    assert seen(layout, geometry, page) == expected(starts, lengths, table, geometry, page)
    copied = [page for call in layout.cross if call.copied for page in call.copied.pages.tolist()]
    assert copied == [page for r in chosen for page in table[r, : (lengths[r] - 1) // 32 * 2].tolist()]


def test_only_fa3_has_keys_copied():
    rule = key_copy(3, 32, 8, 128, 10_000)
    assert (rule.least_queries, rule.most_tokens) == (750, 10_000)
    assert rule.shape(8, 128) == (2, 8, 10_000, 128)
    assert key_copy(3, 32, 32, 128, 10**6).most_tokens == 2**17  # 2 GiB
    assert key_copy(2, 32, 8, 128, 10_000) is None


def test_the_longest_sequences_come_first():
    layout = lay_out(np.array([0, 90]), np.array([100]), page_table(1), GEOMETRIES[0], PAGE)
    (cross,) = layout.cross
    lengths = cross.lengths.tolist()
    assert lengths == sorted(lengths, reverse=True)


def test_a_request_said_to_be_shorter_than_its_step_reads_no_page_before_the_first():
    layout = lay_out(np.array([0, 30]), np.array([3]), page_table(1), GEOMETRIES[0], PAGE)
    assert layout.rows.positions.tolist() == list(range(30))


@pytest.mark.parametrize("all_have", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_steps_of_one_token_a_request(geometry, all_have):
    memory = DecodeMemory(30, WIDTH, torch.device("cpu"))
    memory.pages[:], memory.lengths[:] = -1, -1  # what an earlier step has left
    lengths = torch.tensor([*range(1, 27), 100, 0]).int()
    table, layout = page_table(28), memory.layout(28, 100)
    intra = layout.intra
    lay_out_decode(lengths, table, geometry, PAGE, layout.rows, intra.starts, intra.lengths, intra.pages, all_have)
    requests = list(range(28))
    assert seen(layout, geometry) == expected([*requests, 27], lengths.tolist(), table, geometry)
    assert layout.intra.lengths.view(3, 28)[:, -1].tolist() == [0, 0, 0]
    assert layout.intra.starts.tolist() == list(range(85)) or not all_have
    again = memory.layout(28, 50)
    assert again.intra.pages.data_ptr() == layout.intra.pages.data_ptr()
