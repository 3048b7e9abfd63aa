"""Decoding by vLLM's kernel over a paged cache: no further off than the naive twin in 16 bits, by twice at most."""

import random

import pytest
import torch

from dca_hub.modeling.dual_chunk_attention import naive_dual_chunk_attention
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_rotation import HALF_SPLIT, RelationRotations, relation_rotations, rotate
from dca_hub.vllm_plugin.cpu import decode_kernel
from dca_hub.vllm_plugin.cpu.decode_kernel import attend_by_kernel, plan_sequences, refuse_kernel
from dca_hub.vllm_plugin.cpu.pages import PageShape, slot_indices, write
from dca_hub.vllm_plugin.cpu.turn import turn
from dca_hub.vllm_plugin.rotary_table import RotaryTable
from dca_hub.vllm_plugin.spans import Span

PAGE, GROUPS, ALL, SCALING = 32, 2, 60, 0.2
LENGTHS = [1, 96, 97, 330, 3, 192, 193]


@pytest.fixture
def kernel(monkeypatch):
    """Sequences of few tokens, where there is the kernel."""
    pytest.importorskip("vllm._C")
    for dtype in (torch.bfloat16, torch.float16):
        reason = refuse_kernel(PageShape(PAGE, GROUPS, 64, dtype), [Span(0, 0, 1, 5)])
        if reason:
            pytest.skip(reason)
    monkeypatch.setattr(decode_kernel, "_LEAST_TOKENS", 40)


def test_what_the_kernel_does_not_take(monkeypatch):
    page = PageShape(PAGE, GROUPS, 64, torch.bfloat16)
    lasts = [Span(nth, nth, nth + 1, 2**20 if nth == 3 else 10) for nth in range(8)]
    assert "not torch.float32" in refuse_kernel(PageShape(PAGE, GROUPS, 64, torch.float32), lasts)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert "AVX512-BF16" in refuse_kernel(page, lasts)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.ops._C, "decode_attention_cpu", None, raising=False)
    assert "longest" in refuse_kernel(page, lasts)
    assert refuse_kernel(page, lasts[:3] + lasts[4:]) is None


def test_a_turn_is_a_rotation():
    x, angle = torch.randn(5, 3, 16), torch.randn(5, 6)
    found = turn(2 * angle.cos(), 2 * angle.sin(), 16, torch.full((5, 1), 2.0))(x)
    cos, sin = 2 * angle.cos().unsqueeze(1), 2 * angle.sin().unsqueeze(1)
    torch.testing.assert_close(found, rotate(x, cos, sin, 2.0))
    some = turn(angle.cos(), angle.sin(), 16).rows(slice(1, 3))(x[1:3])
    torch.testing.assert_close(some, rotate(x[1:3], angle[1:3].cos().unsqueeze(1), angle[1:3].sin().unsqueeze(1)))


@pytest.mark.vllm
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("heads", [GROUPS, 3 * GROUPS])
@pytest.mark.parametrize("size, rotated", [(32, 32), (64, 64), (80, 20), (112, 112), (128, 128), (256, 64)])
@pytest.mark.parametrize("local_size, temperature", [(32, 0.2), (41, 0.0)])
@pytest.mark.parametrize("lengths", [[330], [5], LENGTHS])
def test_requests_in_pages(kernel, dtype, heads, size, rotated, local_size, temperature, lengths):
    geometry = DualChunkGeometry(128, local_size, pretraining_length=128, temperature=temperature)
    page = PageShape(PAGE, GROUPS, size, dtype)
    torch.manual_seed(sum(lengths))
    order = random.Random(0).sample(range(ALL), ALL)
    lines = [[order.pop() for _ in range(-(-length // PAGE))] for length in lengths]
    cache = torch.full((ALL, GROUPS, 2, PAGE, size), float("nan"), dtype=dtype)
    kept = [torch.randn(2, length, GROUPS, size).to(dtype) for length in lengths]
    for line, both in zip(lines, kept):
        write(
            cache,
            slot_indices(torch.tensor([line[at // PAGE] * PAGE + at % PAGE for at in range(both.shape[1])]), page),
            *both,
        )
    table = torch.zeros(len(lengths) + 1, max(map(len, lines)), dtype=torch.int32)
    for request, line in enumerate(lines, 1):
        table[request, : len(line)] = torch.tensor(line)
    lasts = [Span(request, 3 + request, 4 + request, length) for request, length in enumerate(lengths, 1)]

    inv_freq = 0.5 ** torch.arange(rotated // 2).double()
    angle = torch.arange(max(lengths) + 129).double().unsqueeze(1) * inv_freq
    rotary = RotaryTable(torch.cat([angle.cos(), angle.sin()], -1).float())
    at = torch.tensor(lengths) - 1
    query = torch.randn(len(lengths), heads, size).to(dtype)  # as it arrives, rotated at the absolute position
    step = rotary.step(at, geometry)
    factor = 1.0 if step.factor is None else step.factor
    cos, sin = (x * factor for x in step.by_relation)
    plan = plan_sequences(
        lasts, table, page, geometry.chunk_length, RelationRotations(cos, sin, step.factor, HALF_SPLIT)
    )
    found = attend_by_kernel(query, cache, plan, SCALING)

    for row, (length, both) in enumerate(zip(lengths, kept)):
        exact, low = (naive(query[row], both.to(kind), at[row], inv_freq, geometry) for kind in (torch.float64, dtype))
        assert (found[row] - exact).abs().max() <= 2 * (low - exact).abs().max() + 1e-6, length


def naive(query, both, at, inv_freq, geometry):
    """The twin for one query [H, D], as it arrives, over keys and values [2, K, G, D], in the dtype of these."""
    back = ((at % geometry.chunk_length) - at) * inv_freq
    placed = rotate(query.to(both.dtype), back.cos(), back.sin()).view(1, len(query), 1, -1)
    keys, values = both.transpose(1, 2).unsqueeze(1)
    rotations = relation_rotations(at.view(1), inv_freq, geometry)
    where = torch.arange(keys.shape[2])[None]
    out, _ = naive_dual_chunk_attention(
        placed, keys, values, rotations, at.view(1, 1), where, geometry.chunk_length, SCALING
    )
    return out[0, :, 0].double()
