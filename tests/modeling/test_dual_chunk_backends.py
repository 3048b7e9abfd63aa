"""Which backend serves what and why, and what the fast paths never build."""

import subprocess
import sys
from types import ModuleType

import pytest
import torch

from dca_hub.modeling import dual_chunk_backends, dual_chunk_one_query
from dca_hub.modeling.dual_chunk_attention import dual_chunk_attention
from dca_hub.modeling.dual_chunk_backends import BACKENDS, Backend, _by_parts, choose_backend
from dca_hub.modeling.dual_chunk_kernels import CpuFlash, FlashAttnPackage
from dca_hub.modeling.dual_chunk_rotation import relation_rotations
from support.op_cases import GEOMETRY, inputs, naive, relative
from support.op_results import Results


@pytest.mark.parametrize("backend", ["cpu_flash", "portable"])
def test_nothing_grows_with_the_square_of_the_length(backend):
    """Forward and backward: no result has more entries than a few rows of keys, let alone T x T."""
    T = 1024
    q, k, v, inv_freq = inputs(GEOMETRY, H=2, G=1, Q=T, K=T, D=8, dtype=torch.float32)
    leaves = [x.requires_grad_() for x in (q, k, v)]
    with Results() as results:
        dual_chunk_attention(*leaves, inv_freq.float(), geometry=GEOMETRY, backend=backend).sum().backward()
    rows = 128 if backend == "portable" else 8  # the portable path works in blocks of 128 query rows
    assert results.largest <= 2 * T * rows
    assert not any(shape[-2:] == (T, T) for shape in results.shapes)


@pytest.mark.parametrize("backend", ["cpu_flash", "portable"])
def test_keys_and_values_are_never_expanded_to_all_query_heads(backend):
    """Few queries on many keys, eight query heads a key: whatever is as large as expanded keys is expanded keys."""
    H, K, D = 8, 3000, 64
    q, k, v, inv_freq = inputs(GEOMETRY, H=H, G=1, Q=8, K=K, D=D, dtype=torch.float32)
    leaves = [x.requires_grad_() for x in (q, k, v)]
    with Results() as results:
        dual_chunk_attention(*leaves, inv_freq.float(), geometry=GEOMETRY, backend=backend).sum().backward()
    assert results.largest < H * K * D / 4


@pytest.fixture
def flash_gains_nothing(monkeypatch):
    monkeypatch.setattr(dual_chunk_one_query, "_measured_gain", lambda dtype: 1.0)


def test_choice_says_why(flash_gains_nothing):
    q, k, _, _ = inputs(Q=20, K=20, dtype=torch.float32)
    on_gpu = ["plain", "decode", "one_query_flash", "one_query", "flash3", "cudnn", "flash_attn", "cuda_flash"]
    assert [b.name for b in BACKENDS] == [*on_gpu, "onednn", "cpu_flash", "portable"]
    backend, why = choose_backend(q, k)
    assert backend.name == "cpu_flash"
    assert why == (
        "cpu_flash: not plain, nothing is the first chunk; not decode, there is more than one query; "
        "not one_query_flash, there is more than one query; not one_query, there is more than one query; "
        "not flash3, the tensors are not on a CUDA device; "
        "not cudnn, the tensors are not on a CUDA device; not flash_attn, the tensors are not on a CUDA device; "
        "not cuda_flash, the tensors are not on a CUDA device; not onednn, there are few queries and keys."
    )
    assert choose_backend(q[:, :, :1], k)[0].name == "one_query"
    why = choose_backend(q[:, :, :1], k)[1]
    assert why.startswith("one_query: not plain, nothing is the first chunk; not decode, ")
    assert choose_backend(q, k, "portable")[1] == "portable: asked for by name."
    meta = q.to("meta")
    assert choose_backend(meta, meta)[0].name == "portable"


def test_one_query_gives_way_where_gradients_are_wanted(flash_gains_nothing):
    q, k, v, inv_freq = inputs(Q=1, K=50)
    q.requires_grad_()
    backend, why = choose_backend(q, k)
    assert backend.name == "cpu_flash" and "gradients are wanted" in why
    with torch.no_grad():
        assert choose_backend(q, k)[0].name == "one_query"
    out = dual_chunk_attention(q, k, v, inv_freq, geometry=GEOMETRY)
    assert torch.autograd.grad(out.sum(), q)[0].abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "queries", "words"),
    [
        ("nothing", 20, "no backend 'nothing'; the backends are plain, decode, one_query_flash, one_query, flash3"),
        ("one_query", 20, "cannot serve these tensors: there is more than one query"),
        ("plain", 20, "keys beyond the first chunk"),
        ("decode", 20, "there is more than one query"),
        ("flash3", 20, "not on a CUDA device"),
        ("cudnn", 20, "not on a CUDA device"),
        ("flash_attn", 20, "not on a CUDA device"),
        ("cuda_flash", 20, "not on a CUDA device"),
    ],
)
def test_backend_that_cannot_serve_is_refused_in_words(name, queries, words):
    q, k, v, inv_freq = inputs(Q=queries, K=20)
    with pytest.raises(ValueError, match=words):
        dual_chunk_attention(q, k, v, inv_freq, geometry=GEOMETRY, backend=name)


def test_flash_attn_is_not_imported_with_the_modeling_files():
    code = (
        "import sys, dca_hub.modeling.modeling_dca_llama;"
        "sys.exit(any(name.split('.')[0] == 'flash_attn' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_flash_attn_is_called_as_its_interface_asks(monkeypatch):
    """The calls of flash-attn 2.7 and later, computed by another kernel: layouts, arguments, gradients in place."""
    cpu = CpuFlash()

    def forward(
        q, k, v, dropout_p, softmax_scale, causal, window_size_left, window_size_right, softcap, alibi_slopes,
        return_softmax,
    ):  # fmt: skip
        assert (dropout_p, window_size_left, window_size_right, softcap, alibi_slopes) == (0.0, -1, -1, 0.0, None)
        out, lse = cpu.forward(*(x.transpose(1, 2) for x in (q, k, v)), causal, softmax_scale)
        return out.transpose(1, 2), lse, None, None

    def backward(
        dout, q, k, v, out, softmax_lse, dq, dk, dv, dropout_p, softmax_scale, causal, window_size_left,
        window_size_right, softcap, alibi_slopes, deterministic, rng_state=None,
    ):  # fmt: skip
        assert all(x.is_contiguous() for x in (dout, q, k, v, out, softmax_lse, dq, dk, dv))
        dout, q, k, v, out = (x.transpose(1, 2) for x in (dout, q, k, v, out))
        for given, share in zip((dq, dk, dv), cpu.backward(dout, q, k, v, out, softmax_lse, causal, softmax_scale)):
            given.copy_(share.transpose(1, 2))
        return softmax_lse

    interface = ModuleType("flash_attn.flash_attn_interface")
    interface._flash_attn_forward, interface._flash_attn_backward = forward, backward
    monkeypatch.setitem(sys.modules, "flash_attn", ModuleType("flash_attn"))
    monkeypatch.setitem(sys.modules, "flash_attn.flash_attn_interface", interface)
    q, k, v, inv_freq = inputs(B=2, Q=50, K=70, dtype=torch.float32)
    rotations = relation_rotations(torch.arange(20, 70), inv_freq.float(), GEOMETRY)
    found = []
    for kernel in (FlashAttnPackage(), cpu):
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        out = _by_parts(kernel)(*leaves, rotations, GEOMETRY, 0.3)
        found.append((out, *torch.autograd.grad(out.square().sum(), leaves)))
    for mine, wanted in zip(*found):
        torch.testing.assert_close(mine, wanted)


def test_backend_that_is_not_general_is_passed_over_in_words(monkeypatch):
    narrow = Backend("narrow", lambda query, key: None, lambda *_: None)
    monkeypatch.setattr("dca_hub.modeling.dual_chunk_backends.BACKENDS", (narrow, *BACKENDS))
    q, k, *_ = inputs(dtype=torch.float32)
    assert choose_backend(q, k)[0] is narrow
    chosen, why = choose_backend(q, k, special="attention sinks")
    assert chosen is not narrow and "not narrow, it does not take attention sinks" in why
    with pytest.raises(ValueError, match="'narrow' cannot serve these tensors: it does not take attention sinks"):
        choose_backend(q, k, "narrow", special="attention sinks")


@pytest.mark.parametrize("span", [1, 50, 130, 10_000])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("queries", [230, 171])
def test_spans_of_any_size_give_the_same(monkeypatch, span, dtype, queries):
    *tensors, inv_freq = inputs(GEOMETRY, B=2, Q=queries, K=230)
    wanted = naive(*tensors, inv_freq)
    monkeypatch.setattr(dual_chunk_backends, "_SPAN", span)
    found = dual_chunk_attention(
        *(x.to(dtype) for x in tensors), inv_freq.float(), geometry=GEOMETRY, backend="cpu_flash"
    )
    assert relative(found, wanted) < (1e-6 if dtype == torch.float64 else 1e-2)


def test_on_a_cpu_only_what_is_handed_back_is_as_large_as_the_queries(monkeypatch):
    """Memory that is new for each call costs a CPU as much as a tenth of the attention."""
    monkeypatch.setattr(dual_chunk_backends, "_SPAN", 64)
    q, k, v, inv_freq = inputs(GEOMETRY, Q=1024, K=1024, dtype=torch.float32)
    rotations = relation_rotations(torch.arange(1024), inv_freq.float(), GEOMETRY)
    with torch.no_grad(), Results() as results:
        dual_chunk_attention(q, k, v, geometry=GEOMETRY, rotations=rotations, backend="cpu_flash")
    assert sum(torch.Size(shape).numel() > q.numel() / 4 for shape in results.shapes) == 1
