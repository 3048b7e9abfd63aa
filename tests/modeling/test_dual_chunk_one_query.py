"""One query over all keys, by products and by flash calls, against the operation over all queries, and the choice."""

import pytest
import torch

from dca_hub.modeling import dual_chunk_one_query
from dca_hub.modeling.dual_chunk_attention import dual_chunk_attention
from dca_hub.modeling.dual_chunk_backends import choose_backend
from dca_hub.modeling.dual_chunk_kernels import times_as_fast
from dca_hub.modeling.dual_chunk_one_query import attend_one_query, attend_one_query_by_flash
from dca_hub.modeling.dual_chunk_rotation import relation_rotations
from support.op_cases import GEOMETRY, WARM, inputs, naive, relative
from support.op_results import Results

ways = pytest.mark.parametrize("attend", [attend_one_query, attend_one_query_by_flash])


@pytest.fixture(params=[1, 1 << 20], ids=["chunks", "ranges"], autouse=True)
def block(request, monkeypatch):
    """Calls for chunks, however short they are, and calls for ranges."""
    monkeypatch.setattr(dual_chunk_one_query, "_BLOCK", request.param)


def last(attend, q, k, v, inv_freq, geometry, sinks=None):
    rotations = relation_rotations(torch.tensor([k.shape[2] - 1]), inv_freq, geometry)
    return attend(q[:, :, -1:], k, v, rotations, geometry, q.shape[-1] ** -0.5, sinks)


@ways
@pytest.mark.parametrize("heads", [(4, 2), (3, 3), (6, 1)])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_it_is_the_last_row_of_all_queries(attend, heads, batch, dtype):
    sinks = torch.linspace(-1, 3, heads[0], dtype=dtype)
    for keys in [*range(1, 60), 151]:
        q, k, v, inv_freq = inputs(WARM, B=batch, H=heads[0], G=heads[1], Q=keys, K=keys)
        low = [x.to(dtype) for x in (q, k, v)]
        for given in (None, sinks):
            options = {} if given is None else {"sinks": given.double()}
            whole = dual_chunk_attention(*(x.double() for x in low), inv_freq, geometry=WARM, **options)[:, :, -1:]
            out = last(attend, *low, inv_freq.to(torch.promote_types(dtype, torch.float32)), WARM, given)
            assert out.dtype == dtype and out.shape == whole.shape
            torch.testing.assert_close(
                out.double(), whole, rtol=0, atol=1e-12 if dtype == torch.float64 else 0.02 * whole.abs().max().item()
            )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_products_on_a_cpu_do_not_round_their_scores(dtype):
    """Large logits, as some models have: bfloat16 would tell 128 from 129 and nothing between."""
    q, k, v, inv_freq = inputs(GEOMETRY, B=2, H=4, G=2, Q=1, K=1500, D=32, dtype=dtype, scale=3.0)
    exact = naive(q.double(), k.double(), v.double(), inv_freq, GEOMETRY)
    assert relative(last(attend_one_query, q, k, v, inv_freq.float(), GEOMETRY), exact) <= torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_flash_calls_err_with_large_logits_at_most_twice_as_much_as_the_twin(dtype):
    q, k, v, inv_freq = inputs(GEOMETRY, B=2, H=4, G=2, Q=1, K=1500, D=32, dtype=dtype, scale=3.0)
    exact = naive(q.double(), k.double(), v.double(), inv_freq, GEOMETRY)
    out = last(attend_one_query_by_flash, q, k, v, inv_freq.float(), GEOMETRY)
    assert relative(out, exact) <= 2 * relative(naive(q, k, v, inv_freq.float()), exact)


FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
PRODUCTS = torch.ops.aten.bmm, torch.ops.aten.baddbmm_, FLASH


@ways
@pytest.mark.parametrize("batch", [1, 2])
def test_each_key_and_value_is_read_once(attend, batch):
    keys = 100
    q, k, v, inv_freq = inputs(GEOMETRY, B=batch, Q=1, K=keys, dtype=torch.float32)
    with torch.no_grad(), Results() as results:
        last(attend, q, k, v, inv_freq.float(), GEOMETRY)
    for given in (k, v):
        storage = given.untyped_storage().data_ptr()
        products = [
            x
            for function, args in results.reads
            for x in args
            if x.untyped_storage().data_ptr() == storage and function.overloadpacket in PRODUCTS
        ]
        assert sum(x.numel() for x in products) == given.numel()
    parts = 3 + keys // GEOMETRY.chunk_length  # of the output, or of the queries of each relation
    assert results.largest <= max(parts * q.numel(), batch * 4 * keys), "a key or value was copied"


def test_the_faster_way_is_chosen_for_each_dtype(monkeypatch):
    gains = {torch.float32: 1.05, torch.bfloat16: 3.0}
    monkeypatch.setattr(dual_chunk_one_query, "_measured_gain", gains.__getitem__)
    q, k, _, _ = inputs(Q=1, K=50, dtype=torch.float32)
    backend, why = choose_backend(q, k)
    assert backend.name == "one_query" and "only 1.05 times as fast as plain products when it was timed" in why
    assert choose_backend(q.bfloat16(), k.bfloat16())[0].name == "one_query_flash"
    assert choose_backend(q.to("meta"), k.to("meta"))[0].name == "one_query"


def test_timing_it_draws_nothing_from_a_users_random_numbers():
    before = torch.get_rng_state()
    assert 0.01 < dual_chunk_one_query._measured_gain.__wrapped__(torch.float32) < 100
    assert torch.equal(torch.get_rng_state(), before)


class Clock:
    """Time that passes only in calls, which take one of the given seconds after another; the last stays."""

    def __init__(self, *seconds: float):
        self.now, self.seconds, self.calls = 0.0, list(seconds), 0

    def perf_counter(self) -> float:
        return self.now

    def call(self):
        self.calls += 1
        self.now += self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]


@pytest.mark.parametrize(
    ("seconds", "gain", "calls"),
    [
        ([0.02, 0.01] * 4, 2.0, 8),
        ([0.02, 0.09, 0.05, 0.07, 0.04, 0.06, 0.03, 0.05] + [0.02, 0.01] * 2, 2.0, 12),
        ([9.0, 1.0] * 4, 9.0, 8),
        ([0.08, 0.1, 0.16, 0.2, 0.04, 0.05, 0.32, 0.4, 9.0], 0.8, 8),
    ],
    ids=["quiet", "disturbed at first", "slow", "disturbed for a second"],
)
def test_ways_are_timed_until_the_least_agree(monkeypatch, seconds, gain, calls):
    clock = Clock(*seconds)
    monkeypatch.setattr("dca_hub.modeling.dual_chunk_kernels.time", clock)
    assert times_as_fast(clock.call, clock.call) == pytest.approx(gain)
    assert clock.calls == calls
