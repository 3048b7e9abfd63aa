"""Reading a paged cache in place: any order of pages gives what contiguous keys and values give."""

import random

import pytest
import torch

from dca_hub.modeling.dual_chunk_attention import naive_dual_chunk_attention, query_turns
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.serving import paged
from dca_hub.serving.paged import Run, attend_last, read, runs, write

PAGE, GROUPS, HEADS, SIZE = 4, 2, 6, 8
GEOMETRY = DualChunkGeometry(chunk_size=14, local_size=3, pretraining_length=14, temperature=0.2)


def test_runs_are_the_pages_in_order():
    assert runs([]) == ()
    assert runs([5, 6, 7, 2, 3, 9]) == (Run(5, 3), Run(2, 2), Run(9, 1))
    assert runs([3, 2, 1]) == (Run(3, 1), Run(2, 1), Run(1, 1))


@pytest.mark.parametrize("order", ["in a row", "in two runs", "shuffled"])
@pytest.mark.parametrize("copied", [True, False])
@pytest.mark.parametrize("length", [1, 11, 12, 22, 23, 35, 50])
def test_a_request_in_pages(order, length, copied, monkeypatch):
    monkeypatch.setattr(paged, "_LEAST_BYTES", 10**9 if copied else 0)
    torch.manual_seed(length)
    cache = torch.full((40, GROUPS, 2, PAGE, SIZE), float("nan"))
    count = -(-length // PAGE)
    pages = list(range(7, 7 + count))
    if order == "in two runs":
        pages = pages[count // 2 :] + pages[: count // 2]
    elif order == "shuffled":
        pages = random.Random(0).sample(range(40), count)
    kept = torch.randn(2, length, GROUPS, SIZE)
    slots = torch.tensor([pages[at // PAGE] * PAGE + at % PAGE for at in range(length)])
    write(cache, slots, *kept)

    keys, values = read(cache, runs(pages), length)
    for found, expected in zip((keys, values), kept):
        assert torch.equal(found, expected.transpose(0, 1).unsqueeze(0))

    query, at = torch.randn(HEADS, SIZE), torch.tensor([length - 1])
    turns = query_turns(at, 0.3 ** torch.arange(SIZE // 2), GEOMETRY)
    found = attend_last(query, cache, runs(pages), length, turns, GEOMETRY.chunk_length, 0.4)
    everywhere = torch.arange(length)[None]
    expected, _ = naive_dual_chunk_attention(
        query.view(1, HEADS, 1, SIZE), keys, values, turns, at[None], everywhere, GEOMETRY.chunk_length, 0.4
    )
    torch.testing.assert_close(found, expected[0, :, 0])
