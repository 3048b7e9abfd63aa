"""The operation and its naive twin against the definition: values, gradients, precision, shapes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_hub.modeling import dual_chunk_one_query
from dca_hub.modeling.dual_chunk_attention import capped_dual_chunk_attention, dual_chunk_attention
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry, Relation
from dca_hub.modeling.dual_chunk_rotation import RotaryLayout, relation_rotations
from support.explicit_reference import explicit_attention
from support.op_cases import GEOMETRY, WARM, inputs, inverse_frequencies, naive, placed, relative, unrotated

BACKENDS = ("cpu_flash", "portable")
backends = pytest.mark.parametrize("backend", BACKENDS)


@pytest.fixture(autouse=True)
def flash_gains(monkeypatch):
    """Flash attention of one query serves whatever this processor is."""
    monkeypatch.setattr(dual_chunk_one_query, "_measured_gain", lambda dtype: 2.0)


@pytest.mark.parametrize("geometry", [GEOMETRY, WARM], ids=["plain", "temperature"])
@pytest.mark.parametrize("rotated", [16, 8], ids=["full", "partial"])
def test_twin_and_operation_are_the_definition(geometry, rotated):
    q, k, v = unrotated(B=2)
    inv_freq = inverse_frequencies(rotated)
    g = geometry
    expected = explicit_attention(
        q, k, v, inv_freq, g.chunk_size, g.local_size, g.pretraining_length, f=g.temperature, scaling=0.4
    )
    q, k, v = placed(q, k, v, geometry, inv_freq)
    torch.testing.assert_close(naive(q, k, v, inv_freq, geometry, 0.4), expected, rtol=0, atol=1e-12)
    for backend in BACKENDS:
        out = dual_chunk_attention(q, k, v, inv_freq, geometry=geometry, scaling=0.4, backend=backend)
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 24),
    st.integers(0, 23),
    st.integers(1, 80),
    st.integers(0, 80),
    st.sampled_from([(1, 2, 1), (2, 4, 2), (3, 3, 3), (2, 6, 2)]),
    st.sampled_from([4, 16, 20]),
    st.sampled_from([0.0, 0.4]),
    st.sampled_from([*BACKENDS, None]),
)
def test_random_sizes_agree_with_the_twin(C, w, queries, past, heads, D, temperature, backend):
    geometry = DualChunkGeometry(C, min(w, C - 1), 24, temperature)
    B, H, G = heads
    q, k, v, inv_freq = inputs(geometry, B=B, H=H, G=G, Q=queries, K=queries + past, D=D)
    out = dual_chunk_attention(q, k, v, inv_freq, geometry=geometry, backend=backend)
    torch.testing.assert_close(out, naive(q, k, v, inv_freq, geometry), rtol=0, atol=1e-10)


@backends
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-6)])
@pytest.mark.parametrize(("queries", "keys"), [(90, 90), (37, 90), (5, 90), (16, 64)])
def test_forward_and_gradient_are_those_of_dense_autograd(backend, dtype, tolerance, queries, keys):
    leaves = inputs(WARM, B=2, Q=queries, K=keys, dtype=dtype)
    *leaves, inv_freq = leaves
    exact = [x.double().requires_grad_() for x in leaves]
    leaves = [x.clone().requires_grad_() for x in leaves]
    out = dual_chunk_attention(*leaves, inv_freq, geometry=WARM, backend=backend)
    dense = naive(*exact, inv_freq, WARM)
    assert out.dtype == dtype and relative(out, dense) < tolerance
    seed = torch.randn(out.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    shares = torch.autograd.grad(out, leaves, seed.to(dtype))
    for share, whole in zip(shares, torch.autograd.grad(dense, exact, seed)):
        assert share.dtype == dtype and relative(share, whole) < tolerance


@backends
def test_gradcheck(backend):
    geometry = DualChunkGeometry(6, 2, 8, 0.3)
    *leaves, inv_freq = inputs(geometry, H=2, G=1, Q=11, K=14, D=4)
    op = lambda q, k, v: dual_chunk_attention(q, k, v, inv_freq, geometry=geometry, backend=backend)
    assert torch.autograd.gradcheck(op, [x.requires_grad_() for x in leaves], atol=1e-7, rtol=1e-5)


def test_twins_gradient_in_gradcheck():
    geometry = DualChunkGeometry(6, 2, 8, 0.3)
    *leaves, inv_freq = inputs(geometry, H=2, G=1, Q=9, K=12, D=4)
    twin = lambda q, k, v: naive(q, k, v, inv_freq, geometry)
    assert torch.autograd.gradcheck(twin, [x.requires_grad_() for x in leaves], atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("geometry", [GEOMETRY, WARM], ids=["plain", "temperature"])
@pytest.mark.parametrize("backend", [*BACKENDS, "one_query", "one_query_flash"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_errs_at_most_twice_as_much_as_the_twin(geometry, backend, dtype):
    queries = 1 if backend.startswith("one_query") else 150
    q, k, v, inv_freq = inputs(geometry, B=2, H=4, G=2, Q=queries, K=150, D=32, dtype=dtype, scale=1.0)
    exact = naive(q.double(), k.double(), v.double(), inv_freq, geometry)
    out = dual_chunk_attention(q, k, v, inv_freq.float(), geometry=geometry, backend=backend)
    twin = naive(q, k, v, inv_freq.float(), geometry)
    assert out.dtype == twin.dtype == dtype
    assert relative(out, exact) <= 2 * relative(twin, exact)
    assert (out.double() - exact).abs().max() <= 2 * (twin.double() - exact).abs().max()


@pytest.mark.parametrize("backend", [*BACKENDS, "one_query", "one_query_flash"])
def test_float16_holds_scores_that_only_their_scale_brings_within_its_range(backend):
    queries = 1 if backend.startswith("one_query") else 50
    q, k, v, inv_freq = inputs(GEOMETRY, Q=queries, K=80, D=64, dtype=torch.float16, scale=60.0)
    exact = naive(q.double(), k.double(), v.double(), inv_freq, GEOMETRY)
    for out in (
        dual_chunk_attention(q, k, v, inv_freq.float(), geometry=GEOMETRY, backend=backend),
        naive(q, k, v, inv_freq.float()),
    ):
        assert relative(out, exact) < 0.2


@backends
def test_bfloat16_gradients_err_at_most_twice_as_much_as_the_twins(backend):
    *leaves, inv_freq = inputs(GEOMETRY, Q=120, K=120, D=32, dtype=torch.bfloat16, scale=1.0)
    op = lambda q, k, v: dual_chunk_attention(q, k, v, inv_freq.float(), geometry=GEOMETRY, backend=backend)
    twin = lambda q, k, v: naive(q, k, v, inv_freq.float())

    def gradients(function, dtype):
        given = [x.detach().to(dtype).requires_grad_() for x in leaves]
        out = function(*given)
        seed = torch.randn(out.shape, generator=torch.Generator().manual_seed(9)).bfloat16()
        return torch.autograd.grad(out, given, seed.to(dtype))

    exact = gradients(lambda *given: naive(*given, inv_freq), torch.float64)
    for mine, twins, whole in zip(gradients(op, torch.bfloat16), gradients(twin, torch.bfloat16), exact):
        assert relative(mine, whole) <= 2 * relative(twins, whole)


@pytest.mark.parametrize("backend", [*BACKENDS, "one_query", "one_query_flash"])
def test_inputs_need_not_be_contiguous(backend):
    queries = 1 if backend.startswith("one_query") else 50
    q, k, v, inv_freq = inputs(WARM, B=2, Q=queries, K=80)
    expected = dual_chunk_attention(q, k, v, inv_freq, geometry=WARM, backend=backend)
    strided = lambda x: torch.stack([x.transpose(1, 2)] * 2, dim=2)[:, :, 1].transpose(1, 2)
    padded = lambda x: torch.nn.functional.pad(x, (0, 0, 3, 5))[:, :, 3:-5]
    for change in (strided, padded):
        out = dual_chunk_attention(*(change(x) for x in (q, k, v)), inv_freq, geometry=WARM, backend=backend)
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


@backends
def test_gradient_of_noncontiguous_and_expanded_inputs(backend):
    q, k, v, inv_freq = inputs(WARM, Q=70, K=70)
    leaves = [x.transpose(1, 2).contiguous().requires_grad_() for x in (q, k, v)]
    out = dual_chunk_attention(*(x.transpose(1, 2) for x in leaves), inv_freq, geometry=WARM, backend=backend)
    grown = out.sum(dim=2, keepdim=True).expand_as(out)  # its gradient comes back expanded
    shares = torch.autograd.grad(grown.sum(), leaves)
    plain = [x.detach().requires_grad_() for x in (q, k, v)]
    dense = naive(*plain, inv_freq, WARM)
    wholes = torch.autograd.grad(dense.sum() * out.shape[2], plain)
    for share, whole in zip(shares, wholes):
        torch.testing.assert_close(share.transpose(1, 2), whole, rtol=0, atol=1e-9)


def test_keys_far_apart_in_scale_do_not_overflow_the_merge():
    q, k, v, inv_freq = inputs(GEOMETRY, Q=80, K=80, dtype=torch.float32, scale=30.0)
    for backend in BACKENDS:
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        out = dual_chunk_attention(*leaves, inv_freq, geometry=GEOMETRY, backend=backend)
        assert relative(out, naive(q.double(), k.double(), v.double(), inv_freq)) < 1e-3
        assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), leaves))


def test_temperature_turns_on_at_the_trained_length_without_a_jump():
    q, k, v, inv_freq = inputs(WARM, Q=70, K=70)
    warm = dual_chunk_attention(q, k, v, inv_freq, geometry=WARM)
    plain = dual_chunk_attention(q, k, v, inv_freq, geometry=GEOMETRY)
    torch.testing.assert_close(warm[:, :, :32], plain[:, :, :32], rtol=0, atol=1e-13)
    assert ((warm - plain)[:, :, 32:].abs().amax(dim=(0, 1, 3)) > 0).all()
    factor = relation_rotations(torch.arange(70), inv_freq, WARM).factor.flatten()
    torch.testing.assert_close(factor, torch.tensor([WARM.logit_factor(i) for i in range(70)], dtype=factor.dtype))


def test_shared_turns_give_what_inverse_frequencies_give():
    q, k, v, inv_freq = inputs(WARM, Q=20, K=70)
    rotations = relation_rotations(torch.arange(50, 70), inv_freq, WARM)
    a = dual_chunk_attention(q, k, v, geometry=WARM, rotations=rotations)
    assert torch.equal(a, dual_chunk_attention(q, k, v, inv_freq, geometry=WARM))


def test_unapply_is_the_transpose_of_apply():
    x, y = torch.randn(2, 2, 3, 9, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind()
    rotations = relation_rotations(torch.arange(30, 39), inverse_frequencies(8), WARM)
    for relation in Relation:
        left, right = (rotations.forward(x, relation) * y).sum(), (x * rotations.transpose(y, relation)).sum()
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@backends
def test_autocast_takes_mixed_inputs_in_the_dtype_of_autocast(backend, dtype):
    q, k, v, inv_freq = inputs(GEOMETRY, Q=60, K=60, dtype=torch.float32, scale=1.0)
    leaves = [x.requires_grad_() for x in (q, k, v)]
    with torch.autocast("cpu", dtype=dtype):
        out = dual_chunk_attention(q, k, v.to(dtype), inv_freq.float(), geometry=GEOMETRY, backend=backend)
    assert out.dtype == dtype
    dense = naive(*leaves, inv_freq.float())
    assert relative(out, dense) < 0.02
    shares = torch.autograd.grad(out.float().square().sum(), leaves)
    for share, whole in zip(shares, torch.autograd.grad(dense.square().sum(), leaves)):
        assert share.dtype == torch.float32 and relative(share, whole) < 0.04


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda q, k, v: (q[0], k, v), "query must be"),
        (lambda q, k, v: (q, k, v[:, :, 1:]), "query must be"),
        (lambda q, k, v: (q, k, v[..., 1:]), "query must be"),
        (lambda q, k, v: (q[:, :3], k, v), "does not fit key"),
        (lambda q, k, v: (q[..., :8], k, v), "does not fit key"),
        (lambda q, k, v: (torch.cat([q, q]), k, v), "does not fit key"),
        (lambda q, k, v: (torch.cat([q, q], 2), k, v), "1 to K queries, got 40 for 20"),
        (lambda q, k, v: (q[:, :, :0], k, v), "1 to K queries, got 0"),
        (lambda q, k, v: (q, k, v.float()), "one dtype"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_in_words(change, words):
    q, k, v, inv_freq = inputs(Q=20, K=20)
    with pytest.raises(ValueError, match=words):
        dual_chunk_attention(*change(q, k, v), inv_freq, geometry=GEOMETRY)


def test_frequencies_are_asked_for():
    q, k, v, _ = inputs(Q=20, K=20)
    with pytest.raises(ValueError, match="inv_freq"):
        dual_chunk_attention(q, k, v, geometry=GEOMETRY)


def _sizes(geometry):
    return geometry.chunk_size, geometry.local_size, geometry.pretraining_length


@pytest.mark.parametrize("geometry", [GEOMETRY, WARM], ids=["plain", "temperature"])
@pytest.mark.parametrize("queries", [70, 23, 1])
def test_sinks_enter_the_normalizer_once(geometry, queries):
    q, k, v = unrotated(B=2)
    inv_freq, sinks = inverse_frequencies(16), torch.tensor([-1.0, 0.5, 2.0, 4.0], dtype=torch.float64)
    expected = explicit_attention(
        q, k, v, inv_freq, *_sizes(geometry), f=geometry.temperature, scaling=0.4, sinks=sinks
    )[:, :, -queries:]
    q, k, v = placed(q, k, v, geometry, inv_freq)
    for backend in (*BACKENDS, None):
        out = dual_chunk_attention(
            q[:, :, -queries:], k, v, inv_freq, geometry=geometry, scaling=0.4, sinks=sinks, backend=backend
        )
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


def test_sinks_are_taken_in_bfloat16_too():
    q, k, v, inv_freq = inputs(Q=1, dtype=torch.float32)
    sinks = torch.tensor([-1.0, 0.5, 2.0, 4.0])
    half = [x.bfloat16() for x in (q, k, v)]
    out = dual_chunk_attention(*half, inv_freq, geometry=GEOMETRY, sinks=sinks.bfloat16())
    wide = dual_chunk_attention(*(x.float() for x in half), inv_freq, geometry=GEOMETRY, sinks=sinks)
    assert relative(out, wide) < 0.01 < relative(out, dual_chunk_attention(q, k, v, inv_freq, geometry=GEOMETRY))


@backends
def test_gradients_of_sinks_and_through_them(backend):
    *leaves, inv_freq = inputs(WARM, B=2, Q=37, K=90)
    leaves = [*leaves, torch.tensor([-1.0, 0.5, 2.0, 4.0], dtype=torch.float64)]
    exact, fast = ([x.clone().requires_grad_() for x in leaves] for _ in range(2))
    weight = torch.randn(2, 4, 37, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    (naive(*exact[:3], inv_freq, WARM, sinks=exact[3]) * weight).sum().backward()
    out = dual_chunk_attention(*fast[:3], inv_freq, geometry=WARM, sinks=fast[3], backend=backend)
    (out * weight).sum().backward()
    for a, b in zip(fast, exact):
        torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("geometry", [GEOMETRY, WARM], ids=["plain", "temperature"])
@pytest.mark.parametrize(("start", "interleaved"), [(0, True), (4, False), (8, False), (6, True)])
@pytest.mark.parametrize("queries", [70, 23, 1])
def test_other_rotary_layouts(geometry, start, interleaved, queries):
    """The same heads with their dimensions in another order give the same attention."""
    q, k, v = unrotated(B=2)
    inv_freq = inverse_frequencies(8)
    expected = explicit_attention(q, k, v, inv_freq, *_sizes(geometry), f=geometry.temperature)[:, :, -queries:]
    q, k, v = placed(q, k, v, geometry, inv_freq)
    pairs = torch.arange(8).view(2, 4).T.flatten() if interleaved else torch.arange(8)
    order = torch.cat([torch.arange(8, 8 + start), pairs, torch.arange(8 + start, 16)])
    rotations = relation_rotations(torch.arange(70 - queries, 70), inv_freq, geometry, RotaryLayout(start, interleaved))
    for backend in (*BACKENDS, None):
        out = dual_chunk_attention(
            q[:, :, -queries:, order], k[..., order], v, geometry=geometry, rotations=rotations, backend=backend
        )
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("queries", [70, 1])
def test_soft_caps(queries, monkeypatch):
    monkeypatch.setattr("dca_hub.modeling.dual_chunk_attention._SCORES", 3 * 2 * 4 * 70 * 16)
    q, k, v = unrotated(B=2)
    inv_freq, sinks = inverse_frequencies(16), torch.tensor([-1.0, 0.5, 2.0, 4.0], dtype=torch.float64)
    expected = explicit_attention(q, k, v, inv_freq, *_sizes(WARM), f=0.3, scaling=0.4, sinks=sinks, cap=1.5)
    q, k, v = placed(q, k, v, WARM, inv_freq)
    rotations = relation_rotations(torch.arange(70 - queries, 70), inv_freq, WARM)
    out = capped_dual_chunk_attention(
        q[:, :, -queries:], k, v, 1.5, geometry=WARM, scaling=0.4, rotations=rotations, sinks=sinks
    )
    torch.testing.assert_close(out, expected[:, :, -queries:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("rotated", [16, 8], ids=["all dimensions", "half of them"])
def test_one_query_rotated_with_the_tables_that_layers_share_is_the_query_of_each_relation(rotated):
    geometry = DualChunkGeometry(24, 8, 32, temperature=0.2)
    query = torch.randn(2, 4, 1, 16, generator=torch.Generator().manual_seed(0))
    rotations = relation_rotations(torch.tensor([70]), inverse_frequencies(rotated, torch.float32), geometry)
    wanted = 0.3 * rotations.stacked(query.double())
    for _ in range(2):  # made, and shared
        torch.testing.assert_close(rotations.stacked_one(query, 0.3).double(), wanted, rtol=1e-6, atol=1e-6)
    narrow = rotations.stacked_one(query.bfloat16(), 0.3)
    torch.testing.assert_close(narrow.double(), wanted, rtol=2e-2, atol=2e-2)
