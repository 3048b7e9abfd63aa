"""Decoding over a paged cache: each request gets what the naive twin gives over its own keys and values."""

import random

import pytest
import torch

from dca_hub.modeling.dual_chunk_attention import naive_dual_chunk_attention
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_rotation import (
    HALF_SPLIT,
    RelationRotations,
    query_positions,
    relation_rotations,
    rotate,
)
from dca_hub.vllm_plugin.cpu import decode_plan as planning
from dca_hub.vllm_plugin.cpu.decode import decode_attention
from dca_hub.vllm_plugin.cpu.decode_plan import PageRun, plan_decode, runs
from dca_hub.vllm_plugin.cpu.pages import PageShape, read, slot_indices, write
from dca_hub.vllm_plugin.spans import Span

PAGE, GROUPS, SIZE, ALL = 4, 2, 8, 80
SHAPE = PageShape(PAGE, GROUPS, SIZE, torch.float32)
INV_FREQ = 0.3 ** torch.arange(SIZE // 2)
LENGTHS = [1, 11, 12, 22, 23, 35, 50]


def test_runs_are_the_pages_in_order():
    assert runs([5, 6, 7, 2, 3, 9]) == [PageRun(5, 3), PageRun(2, 2), PageRun(9, 1)]
    assert runs([3, 2, 1]) == [PageRun(3, 1), PageRun(2, 1), PageRun(1, 1)]


def test_short_runs_are_put_together_up_to_a_size(monkeypatch):
    monkeypatch.setattr(planning, "_COPY_BYTES", 40)
    found = [(5, 1), (7, 2), (10, 2), (20, 3), (30, 1), (40, 9), (60, 1)]
    wanted = [(None, 3), (10, 2), (20, 3), (30, 1), (40, 9), (60, 1)]
    assert list(planning._together([PageRun(*one) for one in found], 10, 20)) == [PageRun(*one) for one in wanted]


def some_pages(order: str, lengths: list[int]) -> list[list[int]]:
    counts = [-(-length // PAGE) for length in lengths]
    pages = list(range(7, 7 + sum(counts)))
    if order == "shuffled":
        random.Random(0).shuffle(pages)
    elif order == "scattered":
        pages = random.Random(0).sample(range(ALL), sum(counts))
    lines = [[pages.pop(0) for _ in range(count)] for count in counts]
    if order == "shared":  # the longest request begins as all others do
        longest = max(lines, key=len)
        lines = [longest[: len(line) - 1] + line[-1:] for line in lines]
    return lines


@pytest.mark.parametrize("order", ["in a row", "shuffled", "scattered", "shared"])
@pytest.mark.parametrize("read_as", ["in place", "some copied", "all copied"])
@pytest.mark.parametrize("heads", [GROUPS, 3 * GROUPS])
@pytest.mark.parametrize("chunk_size, temperature", [(14, 0.2), (11, 0.0)])
@pytest.mark.parametrize("lengths", [*([length] for length in LENGTHS), LENGTHS, LENGTHS[::-1]])
def test_requests_in_pages(order, read_as, heads, chunk_size, temperature, lengths, monkeypatch):
    least = {"in place": 0, "some copied": SHAPE.half, "all copied": 10**9}[read_as]
    for name, value in ("_LEAST_BYTES", least), ("_COPY_BYTES", 3 * SHAPE.half):
        monkeypatch.setattr(planning, name, value)
    geometry = DualChunkGeometry(chunk_size, local_size=3, pretraining_length=14, temperature=temperature)
    torch.manual_seed(sum(lengths))
    cache = torch.full((ALL, GROUPS, 2, PAGE, SIZE), float("nan"))
    lines = some_pages(order, lengths)
    for line, length in zip(lines, lengths):
        slots = torch.tensor([line[at // PAGE] * PAGE + at % PAGE for at in range(length)])
        new = cache[slots // PAGE, 0, 0, slots % PAGE, 0].isnan()
        write(cache, slot_indices(slots[new], SHAPE), *torch.randn(2, int(new.sum()), GROUPS, SIZE))
    table = torch.zeros(len(lengths) + 1, max(map(len, lines)), dtype=torch.int32)
    for request, line in enumerate(lines, 1):
        table[request, : len(line)] = torch.tensor(line)
    # The other rows of the step belong to request 0, which is not among the last tokens.
    lasts = [Span(request, 3 + request, 4 + request, length) for request, length in enumerate(lengths, 1)]

    query, at = torch.randn(len(lengths), heads, SIZE), torch.tensor(lengths) - 1
    rotations, angle = (
        relation_rotations(at, INV_FREQ, geometry),
        query_positions(at, geometry).unsqueeze(-1) * INV_FREQ,
    )
    cos, sin = angle.cos(), angle.sin()
    placed = rotate(query, cos[0].unsqueeze(1), sin[0].unsqueeze(1))  # queries arrive as they are at position 0
    factor = 1.0 if rotations.factor is None else rotations.factor
    seen = plan_decode(lasts, table, SHAPE, geometry.chunk_length)
    rotated = RelationRotations(cos * factor, sin * factor, rotations.factor, HALF_SPLIT)
    found = decode_attention(query, cache, seen, rotated, 0.4)

    for request, (line, length) in enumerate(zip(lines, lengths)):
        keys, values = read(cache, torch.tensor(line), length)
        expected, _ = naive_dual_chunk_attention(
            placed[request].view(1, heads, 1, SIZE),
            keys,
            values,
            RelationRotations(
                *(x[:, request : request + 1] for x in (rotations.cos, rotations.sin)),
                _row(rotations.factor, request),
                HALF_SPLIT,
            ),
            at[request].view(1, 1),
            torch.arange(length)[None],
            geometry.chunk_length,
            0.4,
        )
        torch.testing.assert_close(found[request], expected[0, :, 0])


def _row(factor, request):
    return None if factor is None else factor[request : request + 1]
