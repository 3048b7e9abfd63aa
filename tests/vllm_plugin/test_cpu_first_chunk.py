"""vLLM's own attention for the queries of the first chunk: it gives causal attention over their keys."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from dca_hub.vllm_plugin.cpu.pages import PageShape
from dca_hub.vllm_plugin.spans import Span

pytestmark = pytest.mark.vllm
PAGE, GROUPS, HEADS, SIZE, CHUNK = 32, 2, 6, 64, 96


@pytest.fixture
def cpu_attn():
    return pytest.importorskip("vllm.v1.attention.backends.cpu_attn")


def test_there_is_no_plan_for_later_chunks(cpu_attn):
    from dca_hub.vllm_plugin.cpu.first_chunk import plan_first_chunk

    page = PageShape(PAGE, GROUPS, SIZE, torch.float32)
    assert plan_first_chunk(Span(0, 0, 4, CHUNK + 4), page, HEADS, "vec", CHUNK) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("first, length", [(0, 5), (0, CHUNK), (31, 70), (90, 96), (40, 250)])
def test_causal_attention_of_the_first_chunk(cpu_attn, dtype, first, length):
    from dca_hub.vllm_plugin.cpu.first_chunk import attend_first_chunk, plan_first_chunk

    torch.manual_seed(length)
    isa = cpu_attn._get_attn_isa(dtype, PAGE, SIZE)
    layer = SimpleNamespace(isa=isa, _k_scale_float=1.0, _v_scale_float=1.0)
    impl = SimpleNamespace(attn_type="decoder", kv_cache_dtype="auto", alibi_slopes=None, sliding_window=-1)
    impl.scale, impl.sinks, impl.logits_soft_cap = 0.2, None, 0
    keys, values = torch.randn(2, 1, GROUPS, length, SIZE).to(dtype)
    plan = plan_first_chunk(
        Span(3, 7, 7 + length - first, length), PageShape(PAGE, GROUPS, SIZE, dtype), HEADS, isa, CHUNK
    )
    stop = min(length, CHUNK)
    assert (plan.max_seq_len, plan.num_actual_tokens) == (stop, stop - first)
    keys[:, :, stop:] = values[:, :, stop:] = float("nan")
    query = torch.randn(stop - first, HEADS, SIZE).to(dtype)
    found = torch.full_like(query, float("nan"))
    attend_first_chunk(impl, layer, query, keys, values, plan, PAGE, found)

    exact, low = (causal(query, keys, values, first, stop, kind) for kind in (torch.float64, dtype))
    assert (found - exact).abs().max() <= 2 * (low - exact).abs().max() + 1e-5


def causal(query, keys, values, first, stop, dtype):
    seen = torch.arange(stop) <= torch.arange(first, stop).unsqueeze(1)
    query, keys, values = (x.to(dtype) for x in (query.transpose(0, 1)[None], keys[:, :, :stop], values[:, :, :stop]))
    out = scaled_dot_product_attention(query, keys, values, attn_mask=seen, scale=0.2, enable_gqa=True)
    return out[0].transpose(0, 1).double()
