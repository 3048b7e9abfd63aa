"""Gradients of Dual Chunk Attention: the exact ones of this project and those of the authors' recipe, against float64.

The authors' code computes intra, successive and inter attention each by flash-attention and merges them by their
log-sum-exps. flash-attention's backward carries no gradient through its log-sum-exp, so the weights of the merge are
constants there: the gradient of the values is right, those of queries and keys are not. `authors` does the same by
dense attention. Errors are relative, |error| / |gradient|, to the definition in float64 under PyTorch's autograd; the
spread of the logits (their standard deviation) tells how sharp the attention is: trained models have 1 to 3, and more
in some heads. Ends with a line of JSON for each case.

    python benchmarks/gradients.py
"""

import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dca_hub.modeling.dual_chunk_attention import dual_chunk_attention
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_rotation import RelationRotations, relation_rotations

GEOMETRY = DualChunkGeometry(chunk_size=96, local_size=16, pretraining_length=128)
TOKENS, HEADS, SIZE = 600, 4, 64
SPREADS = (0.25, 1.0, 2.0, 4.0)
FAITHFUL = 1e-5  # float32 over some hundred keys


@dataclass(frozen=True)
class Errors:
    """Relative errors of the three gradients, and of the output, which both have right."""

    out: float
    query: float
    key: float
    value: float


def relations(tokens: int, chunk_length: int) -> tuple[torch.Tensor, ...]:
    """Which keys a query sees in each relation: three masks [Q, K] that share no place."""
    at = torch.arange(tokens)
    seen, apart = at[:, None] >= at[None, :], at[:, None] // chunk_length - at[None, :] // chunk_length
    return seen & (apart == 0), seen & (apart == 1), seen & (apart > 1)


def scores(query, key, rotations: RelationRotations) -> torch.Tensor:
    """The logits of every relation, [3, B, H, Q, K]."""
    return rotations.stacked(query) @ key.transpose(-1, -2) * query.shape[-1] ** -0.5


def exact(query, key, value, rotations: RelationRotations, masks) -> torch.Tensor:
    """The definition: one softmax over the three relations' logits."""
    every = scores(query, key, rotations)
    logits = torch.full_like(every[0], -math.inf)
    for part, mask in zip(every, masks):
        logits = torch.where(mask, part, logits)
    return logits.softmax(-1) @ value


def authors(query, key, value, rotations: RelationRotations, masks) -> torch.Tensor:
    """Three attentions, merged by weights that carry no gradient."""
    outs, lses = [], []
    for part, mask in zip(scores(query, key, rotations), masks):
        logits = part.masked_fill(~mask, torch.finfo(part.dtype).min)
        outs.append(logits.softmax(-1) @ value)
        lse = torch.where(mask.any(-1), logits.logsumexp(-1), -math.inf)
        lses.append(lse.detach())
    weights = torch.stack(lses).softmax(0).unsqueeze(-1)
    return sum(weight * out for weight, out in zip(weights, outs))


def ours(query, key, value, rotations: RelationRotations, masks) -> torch.Tensor:
    """The attention that is published."""
    return dual_chunk_attention(query, key, value, geometry=GEOMETRY, rotations=rotations)


def gradients(attend, tensors, rotations, masks, grad) -> list[torch.Tensor]:
    """The output and the gradients of query, key and value, in float64."""
    leaves = [one.clone().requires_grad_() for one in tensors]
    out = attend(*leaves, rotations, masks)
    out.backward(grad.to(out.dtype))
    return [one.detach().double() for one in (out, *(leaf.grad for leaf in leaves))]


def compare(spread: float, seed: int = 0) -> dict[str, Errors]:
    """The errors of both, for random tensors whose logits have that standard deviation."""
    generator = torch.Generator().manual_seed(seed)
    query, key, value, grad = (
        torch.randn(1, HEADS, TOKENS, SIZE, generator=generator, dtype=torch.float64) for _ in range(4)
    )
    query = query * spread
    inv_freq = 10_000.0 ** -(torch.arange(0, SIZE, 2, dtype=torch.float64) / SIZE)
    masks = relations(TOKENS, GEOMETRY.chunk_length)

    def rotations(dtype):
        return relation_rotations(torch.arange(TOKENS), inv_freq.to(dtype), GEOMETRY)

    wanted = gradients(exact, (query, key, value), rotations(torch.float64), masks, grad)
    single = [one.float() for one in (query, key, value)]
    found = {}
    for name, attend in (("exact, this project", ours), ("constant weights, the authors' recipe", authors)):
        got = gradients(attend, single, rotations(torch.float32), masks, grad)
        found[name] = Errors(*(((a - b).norm() / b.norm()).item() for a, b in zip(got, wanted)))
    return found


def main() -> int:
    print("| spread of the logits | gradients | out | dQ | dK | dV |\n|---:|---|---:|---:|---:|---:|")
    lines, faithful = [], True
    for spread in SPREADS:
        for name, errors in compare(spread).items():
            cells = " | ".join(f"{value:.1e}" if value < 0.001 else f"{value:.1%}" for value in asdict(errors).values())
            print(f"| {spread:g} | {name} | {cells} |")
            lines.append(json.dumps({"spread": spread, "gradients": name, **asdict(errors)}))
            faithful &= not name.startswith("exact") or max(asdict(errors).values()) < FAITHFUL
    print("\n".join(["", *lines]))
    return 0 if faithful else 1


if __name__ == "__main__":
    sys.exit(main())
