# ruff: noqa: B023
"""What the Triton kernels give, against the naive twin in float64: run with TRITON_INTERPRET=1 for a CPU, or on a GPU.

Prints a JSON object: for each case the greatest relative error of output and gradients, over that of the naive twin in
the same precision. On a CPU the attention calls are PyTorch's for CPU, handed over as those of a GPU's kernels.
"""

import itertools
import json
import os
import sys
from types import ModuleType

import torch

from dca_hub.modeling import dual_chunk_cuda, dual_chunk_decode, dual_chunk_kernels
from dca_hub.modeling.dual_chunk_attention import naive_dual_chunk_attention
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_layout import Extras, PositionedLayout
from dca_hub.modeling.dual_chunk_rotation import relation_rotations
from support.op_cases import inputs, inverse_frequencies, relative

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
SMALL = DEVICE == "cpu"
S = 16 if SMALL else 256
SIZES = {
    "plain": DualChunkGeometry(S + S // 2, S // 2, 2 * S),
    "temperature": DualChunkGeometry(S + S // 2, S // 2, 2 * S, temperature=0.3),
    "no window": DualChunkGeometry(S, 0, 2 * S),
    "wide window": DualChunkGeometry(3 * S, 2 * S, 4 * S),
}
D = 16 if SMALL else 128
LENGTHS = [(7, 0), (2, 3.5), (0.5, 3.25), (1.5, 0.75)]
BATCH, HEADS, GROUPS = (1, 2, 1) if SMALL else (2, 4, 2)
KINDS = sys.argv[1:]  # only these sizes


class Planned(dual_chunk_kernels.CpuFlash):
    """A kernel whose shapes must be few, and are counted."""

    planned = True
    shapes: set = set()  # noqa: RUF012

    def forward(self, q, k, v, causal, scaling):
        self.shapes.add((tuple(q.shape), tuple(k.shape), causal))
        out, lse = super().forward(q, k, v, causal, scaling)
        return out, lse.contiguous()


def flash3(q, k, v, cu_q, cu_k, max_q, max_k, seqused_q, seqused_k, softmax_scale, causal, return_attn_probs):
    """The ragged call of FlashAttention-3, written out; what it leaves alone holds garbage."""
    assert return_attn_probs and cu_q.dtype == cu_k.dtype == seqused_q.dtype == seqused_k.dtype == torch.int32
    assert len(cu_q) == len(cu_k) == len(seqused_q) + 1 == len(seqused_k) + 1
    out, lse = torch.full_like(q, float("nan")), torch.full((q.shape[1], q.shape[0]), float("nan"))
    for number, (queries, keys) in enumerate(zip(seqused_q.tolist(), seqused_k.tolist())):
        assert 0 < queries <= max_q and 0 < keys <= max_k
        rows = slice(int(cu_q[number]), int(cu_q[number]) + queries)
        seen = slice(int(cu_k[number]), int(cu_k[number]) + keys)
        assert rows.stop <= len(q) and seen.stop <= len(k)
        key, value = (x[seen].repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
        score = torch.einsum("qhd,khd->hqk", q[rows].float(), key.float()) * softmax_scale
        if causal:
            score.masked_fill_(torch.ones(score.shape[1:], dtype=torch.bool).triu(1 + keys - queries), float("-inf"))
        assert torch.isnan(out[rows]).all(), "a row is computed twice"
        out[rows] = torch.einsum("hqk,khd->qhd", score.softmax(-1), value.float()).to(q.dtype)
        lse[:, rows] = score.logsumexp(-1)
    return out, lse


def kernels():
    """The ways to compute the attention: each a function, the dtypes to check, and whether it is slow to check."""
    if not SMALL:
        found = {"cuda_flash": dual_chunk_kernels.CudaFlash(), "cudnn": dual_chunk_kernels.CudnnFlash()}
        ways = {name: dual_chunk_cuda.attend_by_squares(kernel) for name, kernel in found.items()}
        probe = torch.zeros(1, 1, 2, 64, device="cuda", dtype=torch.bfloat16)
        if dual_chunk_cuda.refuse_flash3(probe, probe) is None:
            ways["flash3"] = dual_chunk_cuda.attend_by_flash3
        return ways
    module = ModuleType("fa3_fwd_interface")
    module.flash_attn_varlen_func = flash3
    sys.modules["fa3_fwd_interface"] = module
    dual_chunk_cuda._flash3_module = lambda: "fa3_fwd_interface"
    cpu, planned = dual_chunk_kernels.CpuFlash(), Planned()
    dual_chunk_cuda.CudaFlash = lambda: cpu
    dual_chunk_cuda.CudnnFlash = lambda: planned
    ways = {"squares": dual_chunk_cuda.attend_by_squares(cpu), "planned": dual_chunk_cuda.attend_by_squares(planned)}
    return ways | {"flash3": dual_chunk_cuda.attend_by_flash3}


def results(attend, tensors, dtype):
    leaves = [x.detach().to(DEVICE, dtype).requires_grad_() for x in tensors]
    out = attend(*leaves)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE, dtype)
    return [x.detach() for x in (out, *torch.autograd.grad(out, leaves, grad))]


def prefill(found: dict) -> None:
    for (kind, geometry), (queries, past) in itertools.product(SIZES.items(), LENGTHS):
        if KINDS and kind not in KINDS:
            continue
        if SMALL and kind != "plain" and past == 0.75:
            continue  # the interpreter takes its time
        s = geometry.chunk_length
        Q, K = int(queries * s) + 3, int((queries + past) * s) + 5
        rotated, batch = (D // 2, 2) if kind == "plain" and past == 3.5 else (D, BATCH)
        *tensors, inv_freq = inputs(
            geometry, rotated, torch.float64, B=batch, H=HEADS, G=GROUPS, Q=Q, K=K, D=D, scale=1.0
        )
        at = torch.arange(K, device=DEVICE)
        rotations = relation_rotations(at[-Q:], inv_freq.float().to(DEVICE), geometry)
        naive = lambda *x: naive_dual_chunk_attention(*x, rotations, at[None, -Q:], at[None], s, D**-0.5)[0]
        exact = results(naive, tensors, torch.float64)
        for dtype in (torch.float32,) if SMALL else (torch.bfloat16,):
            plain = results(naive, tensors, dtype)
            for name, attend in kernels().items():
                got = results(lambda *x: attend(*x, rotations, geometry, D**-0.5), tensors, dtype)
                errors = [relative(a, e) / max(relative(p, e), 1e-6) for a, p, e in zip(got, plain, exact)]
                found[f"{name}, {kind}, {Q} of {K}, {dtype}"] = max(errors)


def decoding(found: dict) -> None:
    lengths = (1, S, 2 * S + 1, 9 * S + 7) if SMALL else (1, 2 * S + 1, 100 * S + 3)
    heads = ((3, 1),) if SMALL else ((8, 2), (7, 1), (4, 4))
    dtypes = (torch.float32,) if SMALL else (torch.bfloat16, torch.float16, torch.float32)
    for (kind, geometry), K, (H, G), dtype in itertools.product(SIZES.items(), lengths, heads, dtypes):
        if kind != "plain" and dtype != dtypes[0]:
            continue
        rotated = D // 2 if kind == "plain" else D
        *tensors, inv_freq = inputs(geometry, rotated, torch.float64, B=2, H=H, G=G, Q=1, K=K, D=D, scale=1.0)
        given = [x.to(DEVICE, dtype) for x in tensors]
        at = torch.arange(K, device=DEVICE)
        rotations = relation_rotations(at[-1:], inv_freq.float().to(DEVICE), geometry)
        rest = (rotations, at[None, -1:], at[None], geometry.chunk_length, D**-0.5)
        exact, plain = (naive_dual_chunk_attention(*x, *rest)[0] for x in ([g.double() for g in given], given))
        for _ in range(2):  # the second finds the arrivals as the first left them
            got = dual_chunk_decode.attend_decode(*given, rotations, geometry, D**-0.5)
        error = relative(got, exact) / max(relative(plain, exact), 1e-6)
        found[f"decode, {kind}, {K} keys, {H} over {G} heads, {dtype}"] = error


def ragged_decoding(found: dict) -> None:
    """A static cache: rows that start late, holes, and slots that are not in use."""
    capacity, used = 6 * S + 9, 5 * S + 3
    positions = torch.full((3, capacity), -1)
    positions[0, :used] = torch.arange(used)
    positions[1, S + 1 : used] = torch.arange(used - S - 1)
    kept = torch.arange(used) % 7 != 3
    kept[-1] = True
    positions[2, :used] = torch.where(kept, kept.cumsum(0) - 1, -1)
    positions = positions.to(DEVICE)
    at = positions[:, used - 1 : used]
    for kind, geometry in SIZES.items():
        inv_freq = inverse_frequencies(D).float().to(DEVICE)
        generator = torch.Generator().manual_seed(3)
        dtype = torch.float32 if SMALL else torch.bfloat16
        draw = lambda heads, rows: torch.randn(3, heads, rows, D, generator=generator).to(DEVICE, dtype)
        q, k, v = draw(4, 1), draw(2, capacity), draw(2, capacity)
        v[:, :, used:] = float("nan")
        k[:, :, used:] = float("nan")
        rotations = relation_rotations(at.unsqueeze(1), inv_freq, geometry)
        layout = PositionedLayout(at, positions, rotations)
        got, weights = layout.attend(q, k, v, geometry, D**-0.5, Extras())
        assert weights is None, "the naive twin served it"
        short = [x[:, :, :used] for x in (k, v)]
        rest = (rotations, at, positions[:, :used], geometry.chunk_length, D**-0.5)
        exact = naive_dual_chunk_attention(q.double(), *(x.double() for x in short), *rest)[0]
        plain = naive_dual_chunk_attention(q, *short, *rest)[0]
        found[f"static cache, {kind}"] = relative(got, exact) / max(relative(plain, exact), 1e-6)


def main() -> None:
    found: dict[str, float] = {}
    with torch.no_grad():
        decoding(found)
        ragged_decoding(found)
    prefill(found)
    print(json.dumps({"errors": found, "shapes": len(Planned.shapes)}))


if __name__ == "__main__":
    main()
