"""The CUDA backends, on a CUDA device: the operation against the naive twin, and a whole model against its CPU self."""

import pytest
import torch

from dca_hub.modeling.dual_chunk_attention import dual_chunk_attention, naive_dual_chunk_attention
from dca_hub.modeling.dual_chunk_backends import BACKENDS
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_rotation import relation_rotations
from support.tiny_models import VOCABULARY, tiny_dca

pytestmark = pytest.mark.gpu

GEOMETRY = DualChunkGeometry(384, 128, 512, temperature=0.1)
SCALING = 64**-0.5


def case(Q: int, K: int, dtype: torch.dtype, B: int = 2, H: int = 4, G: int = 2, D: int = 64):
    generator = torch.Generator().manual_seed(Q + K)
    draw = lambda heads, rows: torch.randn(B, heads, rows, D, generator=generator).cuda().to(dtype)
    inv_freq = (10000.0 ** (-torch.arange(0, D, 2) / D)).cuda()
    rotations = relation_rotations(torch.arange(K - Q, K, device="cuda"), inv_freq, GEOMETRY)
    return draw(H, Q), draw(G, K), draw(G, K), rotations


def results(attend, tensors, dtype):
    leaves = [x.detach().to(dtype).requires_grad_() for x in tensors]
    out = attend(*leaves)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).cuda().to(dtype)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


def relative(a, b):
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


@pytest.mark.parametrize("shape", [(900, 900), (300, 1100), (37, 555), (256, 256)])
@pytest.mark.parametrize(
    "backend, dtype",
    [
        ("flash3", torch.bfloat16),
        ("cudnn", torch.bfloat16),
        ("cudnn", torch.float16),
        ("cuda_flash", torch.bfloat16),
        ("cuda_flash", torch.float16),
        ("flash_attn", torch.bfloat16),
        ("portable", torch.bfloat16),
        ("portable", torch.float32),
    ],
)
def test_operation_is_as_exact_as_plain_low_precision(backend, dtype, shape):
    q, k, v, rotations = case(*shape, dtype)
    refusal = next(b for b in BACKENDS if b.name == backend).refusal(q, k)
    if refusal:
        pytest.skip(refusal)
    Q, K = shape
    at = torch.arange(K, device="cuda")[None]

    def naive(q, k, v):
        return naive_dual_chunk_attention(q, k, v, rotations, at[:, K - Q :], at, GEOMETRY.chunk_length, SCALING)[0]

    def fast(q, k, v):
        return dual_chunk_attention(q, k, v, geometry=GEOMETRY, rotations=rotations, backend=backend)

    wanted = results(naive, (q, k, v), torch.float64)
    for got, plain, exact in zip(results(fast, (q, k, v), dtype), results(naive, (q, k, v), dtype), wanted):
        assert relative(got, exact) <= max(2 * relative(plain, exact), 2e-6)


@torch.no_grad()
def test_one_query_on_cuda():
    q, k, v, rotations = case(1, 1000, torch.float32)
    got = dual_chunk_attention(q, k, v, geometry=GEOMETRY, rotations=rotations)
    at = torch.arange(1000, device="cuda")[None]
    wanted = naive_dual_chunk_attention(
        q.double(), k.double(), v.double(), rotations, at[:, -1:], at, GEOMETRY.chunk_length, SCALING
    )[0]
    assert relative(got, wanted) < 1e-5


@pytest.mark.parametrize("cache", [None, "static", "offloaded"])
def test_generation_on_cuda_equals_the_cpu(cache):
    model = tiny_dca("llama")
    ids = torch.randint(3, VOCABULARY, (2, 90), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, :7] = 0
    options = {"max_new_tokens": 20, "do_sample": False, "pad_token_id": 0}
    wanted = model.generate(ids, attention_mask=mask, **options)
    options |= {"cache_implementation": cache} if cache else {}
    got = model.cuda().generate(ids.cuda(), attention_mask=mask.cuda(), **options)
    assert torch.equal(got.cpu(), wanted)
