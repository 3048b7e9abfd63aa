"""What the Triton kernels of block-sparse attention give, against their naive twins in float64: run with
TRITON_INTERPRET=1 for a CPU, or on a GPU.

Prints a JSON object: for each case the greatest relative error, over that of the naive twin in the same precision; for
what must be equal, a hundred times how many rows are not.
"""

import json
import os

import torch

from dca_hub.modeling.dual_chunk_blocks import attend_blocks_naive, slabs
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_rotation import ORDER, relation_rotations
from dca_hub.modeling.dual_chunk_selection import _by_block, block_weights
from dca_hub.modeling.dual_chunk_selection_triton import block_scores, holding, lists
from dca_hub.modeling.dual_chunk_sparse_triton import attend_listed
from support.op_cases import inverse_frequencies, relative

SMALL = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if SMALL else "cuda"
GEOMETRY = DualChunkGeometry(384, 128, 512) if SMALL else DualChunkGeometry(3072, 512, 4096)
UNIT = 256 if SMALL else 2560
CASES = [(0, 1.7), (1.2, 3.3), (2, 3)]
KINDS = [(torch.float32, 16)] if SMALL else [(torch.bfloat16, 128), (torch.float16, 64), (torch.float32, 96)]


def measure(dtype, size: int, first: int, last: int) -> dict[str, float]:
    torch.manual_seed(last)
    query = torch.randn(2, 4, last - first, size, device=DEVICE, dtype=torch.float64).to(dtype)
    key, value = torch.randn(2, 2, last, 2, size, device=DEVICE, dtype=torch.float64).to(dtype).transpose(2, 3)
    if first == 0:  # rows in one piece, as a cache has them
        key, value = key.contiguous(), value.contiguous()
    positions = torch.arange(first, last, device=DEVICE)
    rotations = relation_rotations(positions, inverse_frequencies(size).double().to(DEVICE), GEOMETRY)
    errors = {}
    for slab in slabs(first, last, GEOMETRY.chunk_length, 1024):
        rows = slice(slab.start - first, slab.stop - first)
        queries = {r: rotations.forward(query[:, :, rows], r, rows) for r, *_ in slab.ranges}
        kept = torch.rand(2, 4, len(slab.blocks), slab.blocks.stop, device=DEVICE) < 0.4
        kept[..., 0] = True
        kept &= slab.seen(kept.device)
        wide = {r: q.double() for r, q in queries.items()}
        truth = attend_blocks_naive(wide, key.double(), value.double(), slab, kept, size**-0.5)
        twin = attend_blocks_naive(queries, key, value, slab, kept, size**-0.5)
        found = attend_listed(queries, key, value, slab, kept, size**-0.5)
        for name, mine, its, true in zip(("out", "lse"), found, twin, truth, strict=True):
            ratio = relative(mine, true) / max(relative(its, true), 1e-7)
            case = f"{name}, {dtype}, {size}, {first} to {last}"
            errors[case] = max(errors.get(case, 0.0), ratio)
        for stride in (8, 16, 64):
            true = block_weights(wide, key.double(), slab, stride, size**-0.5)
            its = block_weights(queries, key, slab, stride, size**-0.5)
            scores = block_scores(queries, key, slab, stride, size**-0.5)
            mine = _by_block(scores.softmax(-1), slab, stride)
            case = f"weights, {dtype}, {size}, {first} to {last}"
            ratio = relative(mine, true) / max(relative(its, true), 1e-6)
            errors[case] = max(errors.get(case, 0.0), ratio)
            case = f"fewest, {first} to {last}"
            taken = holding(scores, slab, stride, 0.7)
            errors[case] = errors.get(case, 0) + 100 * wrongly_taken(mine, taken, 0.7)
            # Sharp enough that a stride without queries, whose attention is even, would keep another number of blocks.
            scores = block_scores(queries, key, slab, stride, 2 * stride**0.5)
            taken = holding(scores, slab, stride, 0.7)
            errors[case] += 100 * wrongly_taken(_by_block(scores.softmax(-1), slab, stride), taken, 0.7)
            case = f"lists, {first} to {last}"
            errors[case] = errors.get(case, 0) + 100 * wrongly_listed(taken, slab)
    return errors


def wrongly_taken(weights: torch.Tensor, taken: torch.Tensor, share: float) -> int:
    """How many rows hold less than the share, or would hold it without their least block; but for rounding."""
    whole = weights.double().sum(-1)
    held = (weights.double() * taken).sum(-1)
    least = weights.double().masked_fill(~taken, torch.inf).amin(-1)
    wrong = (held < (share - 1e-5) * whole) | (held - least > (share + 1e-5) * whole)
    return int((wrong & (whole > 0)).sum())


def wrongly_listed(kept: torch.Tensor, slab) -> int:
    """How many rows of lists differ from the kept blocks, relation by relation, in order."""
    order, ends = (found.cpu() for found in lists(kept, slab))
    kept, wrong = kept.cpu(), 0
    for at in torch.cartesian_prod(*map(torch.arange, kept.shape[:3])).tolist():
        blocks, last = kept[tuple(at)].nonzero()[:, 0].tolist(), 0
        wrong += order[tuple(at)][: len(blocks)].tolist() != blocks
        for relation, found in zip(reversed(ORDER), ends[tuple(at)].tolist(), strict=True):
            last = next((-(-end // 128) for r, _, end in slab.ranges if r == relation), last)
            wrong += found != sum(block < last for block in blocks)
    return wrong


def main() -> None:
    errors = {}
    for dtype, size in [*KINDS, (torch.float32, 24 if SMALL else 128)]:
        for first, last in CASES:
            errors |= measure(dtype, size, int(first * UNIT), int(last * UNIT))
    print(json.dumps(errors))


if __name__ == "__main__":
    main()
