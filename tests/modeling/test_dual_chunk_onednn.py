"""Flash attention over oneDNN's products against PyTorch's own, in blocks of all sizes, and where it is chosen."""

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_hub.modeling import dual_chunk_onednn
from dca_hub.modeling.dual_chunk_attention import dual_chunk_attention
from dca_hub.modeling.dual_chunk_backends import _by_parts, choose_backend
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_kernels import CpuFlash
from dca_hub.modeling.dual_chunk_onednn import OneDnnFlash
from dca_hub.modeling.dual_chunk_rotation import relation_rotations
from support.op_cases import WARM, inputs, inverse_frequencies, naive, relative
from support.op_results import Results

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN")
SMALL = OneDnnFlash(rows=32, keys=40, few=0, least=0)


def tensors(N, H, G, Q, K, D, dtype=torch.float32, scale=1.5):
    draw = torch.Generator().manual_seed(0)
    shapes = (N, H, Q, D), (N, G, K, D), (N, G, K, D)
    return [(scale * torch.randn(shape, generator=draw, dtype=torch.float64)).to(dtype) for shape in shapes]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 3),
    st.sampled_from([(2, 1), (4, 2), (3, 3), (6, 1)]),
    st.integers(1, 150),
    st.one_of(st.none(), st.integers(1, 150)),
    st.integers(1, 64),
    st.integers(2, 90),
)
def test_any_blocks_give_what_pytorch_gives(N, heads, Q, K, rows, keys):
    q, k, v = tensors(N, *heads, Q, K or Q, 16)
    out, lse = OneDnnFlash(rows=rows, keys=keys, few=0, least=0).forward(q, k, v, K is None, 0.3)
    wanted, wanted_lse = CpuFlash().forward(q, k, v, K is None, 0.3)
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-4)
    torch.testing.assert_close(lse, wanted_lse, rtol=0, atol=1e-4)


@pytest.mark.parametrize("layout", ["tokens first", "heads within rows", "one head for all"])
def test_layouts_give_what_contiguous_tensors_give_and_nearly_as_fast(layout):
    """oneDNN has products for most strides that are right, and hundreds of times slower."""
    q, k, v = tensors(1, 4, 2, 600, 600, 64)
    if layout == "tokens first":
        given = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]
    elif layout == "heads within rows":
        given = [torch.nn.functional.pad(x, (3, 5, 1, 2))[:, :, 1:-2, 3:-5] for x in (q, k, v)]
    else:
        k, v = (x[:, :1].contiguous().expand_as(x) for x in (k, v))
        given = [q, k, v]
    plain = [x.contiguous() for x in (q, k, v)]
    taken = {}
    for name, these in (("given", given), ("plain", plain)) * 4:
        begun = time.perf_counter()
        found = SMALL.forward(*these, True, 0.3)
        taken.setdefault(name, []).append(time.perf_counter() - begun)
        taken[name, "found"] = found
    for mine, wanted in zip(taken["given", "found"], taken["plain", "found"]):
        torch.testing.assert_close(mine, wanted, rtol=0, atol=1e-6)
    assert min(taken["given"]) < 5 * min(taken["plain"])


@pytest.mark.parametrize(
    "kernel", [OneDnnFlash(keys=256, few=0, least=0), OneDnnFlash(few=0, least=0)], ids=["blocks", "one block"]
)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_it_errs_at_most_twice_as_much_as_pytorch(kernel, causal, dtype):
    given = [x.to(dtype) for x in tensors(1, 4, 2, 700, 700, 64)]
    wanted = CpuFlash().forward(*[x.double() for x in given], causal, 64**-0.5)
    found, own = (flash.forward(*given, causal, 64**-0.5) for flash in (kernel, CpuFlash()))
    for mine, pytorchs, whole in zip(found, own, wanted):
        assert relative(mine, whole) <= 2 * relative(pytorchs, whole)


def test_scores_far_apart_do_not_overflow():
    q, k, v = tensors(1, 2, 1, 80, 80, 16, scale=40.0)
    for found, wanted in zip(SMALL.forward(q, k, v, True, 1.0), CpuFlash().forward(q, k, v, True, 1.0)):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("queries", [150, 60])
def test_forward_and_gradient_are_those_of_dense_autograd(queries):
    *leaves, inv_freq = inputs(WARM, B=2, Q=queries, K=150, dtype=torch.float32)
    leaves = [x.requires_grad_() for x in leaves]
    exact = [x.detach().double().requires_grad_() for x in leaves]
    rotations = relation_rotations(torch.arange(150 - queries, 150), inv_freq, WARM)
    out = _by_parts(SMALL)(*leaves, rotations, WARM, 0.25)
    wanted = naive(*exact, inv_freq, WARM, 0.25)
    torch.testing.assert_close(out.double(), wanted, rtol=0, atol=5e-6)
    seed = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    for share, whole in zip(torch.autograd.grad(out, leaves, seed), torch.autograd.grad(wanted, exact, seed.double())):
        torch.testing.assert_close(share.double(), whole, rtol=0, atol=5e-5)


def test_it_is_chosen_for_long_calls_past_the_first_chunk_on_processors_that_gain(monkeypatch):
    monkeypatch.setattr(dual_chunk_onednn, "_no_gain", lambda: None)
    long = torch.empty(1, 4, 4096, 8)
    assert choose_backend(long, long)[0].name == "onednn"
    assert choose_backend(long, long, chunk_length=4095)[0].name == "onednn"
    backend, why = choose_backend(long, long, chunk_length=4096)
    assert backend.name == "cpu_flash" and "within the first chunk it would not be PyTorch's own" in why
    assert choose_backend(long, long, "onednn", 4096)[0].name == "onednn"
    for other, words in (
        (long.double(), "it takes float32, bfloat16 and float16, not torch.float64"),
        (long[:, :, :63], "there are few queries and keys"),
        (long.to("meta"), "not on a CPU"),
    ):
        assert words in choose_backend(other, other)[1]
    monkeypatch.setattr(dual_chunk_onednn, "_no_gain", lambda: "it would not be faster")
    assert "it would not be faster" in choose_backend(long, long)[1]


def test_within_the_first_chunk_dca_is_pytorchs_attention_to_the_bit(monkeypatch):
    monkeypatch.setattr(dual_chunk_onednn, "_no_gain", lambda: None)
    q, k, v = tensors(1, 4, 1, 1100, 1100, 32)
    plain = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    inv_freq = inverse_frequencies(32, torch.float32)
    wide, narrow = (DualChunkGeometry(s + 100, 100, s + 100) for s in (1100, 1099))
    assert torch.equal(dual_chunk_attention(q, k, v, inv_freq, geometry=wide), plain)
    assert not torch.equal(dual_chunk_attention(q, k, v, inv_freq, geometry=narrow)[:, :, :1099], plain[:, :, :1099])


@pytest.mark.parametrize(
    ("capability", "processor", "gain", "refusal"),
    [
        ("AVX512", "vendor_id : AuthenticAMD", 1.4, None),
        ("AVX512", "vendor_id : AuthenticAMD", 1.05, "it was only 1.05 times as fast as PyTorch's attention"),
        ("AVX512", "vendor_id : GenuineIntel", 1.4, "it is for AMD's processors with AVX-512"),
        ("AVX2", "vendor_id : AuthenticAMD", 1.4, "it is for AMD's processors with AVX-512"),
    ],
)
def test_processors_that_gain_are_those_that_mkl_holds_back_and_that_were_timed(
    monkeypatch, capability, processor, gain, refusal
):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(dual_chunk_onednn, "_processor", lambda: processor)
    monkeypatch.setattr(dual_chunk_onednn, "_measured_gain", lambda: gain)
    found = dual_chunk_onednn._no_gain.__wrapped__()
    assert found is None if refusal is None else found.startswith(refusal)


def test_timing_it_draws_nothing_from_a_users_random_numbers():
    before = torch.get_rng_state()
    assert 0.01 < dual_chunk_onednn._measured_gain() < 100
    assert torch.equal(torch.get_rng_state(), before)


def test_calls_too_small_to_gain_are_pytorchs_own():
    q, k, v = tensors(1, 2, 1, 50, 50, 16)
    for found, wanted in zip(OneDnnFlash().forward(q, k, v, True, 0.3), CpuFlash().forward(q, k, v, True, 0.3)):
        assert torch.equal(found, wanted)


def test_scores_are_held_by_blocks():
    q, k, v = tensors(1, 2, 1, 600, 600, 8)
    with Results() as results:
        SMALL.forward(q, k, v, True, 0.3)
    assert max(s[0] * s[-1] for s in results.shapes if len(s) == 2) <= torch.get_num_threads() * 32 * 64
