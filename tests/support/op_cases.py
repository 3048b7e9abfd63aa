"""Inputs of the operation, and its results by the naive twin and by the definition, for the tests of the operation."""

import torch

from dca_hub.modeling.dual_chunk_attention import naive_dual_chunk_attention
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_rotation import relation_rotations
from support.explicit_reference import rotate

GEOMETRY = DualChunkGeometry(24, 8, 32)
WARM = DualChunkGeometry(24, 8, 32, temperature=0.3)


def inverse_frequencies(rotated: int, dtype=torch.float64) -> torch.Tensor:
    return (10000.0 ** (-torch.arange(0, rotated, 2, dtype=torch.float64) / rotated)).to(dtype)


def unrotated(B=1, H=4, G=2, Q=70, K=70, D=16, dtype=torch.float64, seed=0, scale=1.5):
    """Random query, key and value before rotation; `scale` makes the softmax sharp."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda heads, length: torch.randn(B, heads, length, D, generator=generator, dtype=torch.float64)
    return tuple((x * f).to(dtype) for x, f in ((draw(H, Q), scale), (draw(G, K), scale), (draw(G, K), 1.0)))


def placed(q, k, v, geometry, inv_freq):
    """Query and key as a model hands them over: rotated at `position mod s`, the queries being the last positions."""
    s, positions = geometry.chunk_length, torch.arange(k.shape[2])
    at = positions % s
    return rotate(q.double(), at[-q.shape[2] :], inv_freq).to(q.dtype), rotate(k.double(), at, inv_freq).to(k.dtype), v


def inputs(geometry=GEOMETRY, rotated=None, dtype=torch.float64, **shape):
    """Query, key, value as the operation takes them, and the inverse frequencies."""
    q, k, v = unrotated(dtype=dtype, **shape)
    inv_freq = inverse_frequencies(rotated or q.shape[-1])
    return (*placed(q, k, v, geometry, inv_freq), inv_freq)


def naive(q, k, v, inv_freq, geometry=GEOMETRY, scaling=None, **others):
    """The naive twin over contiguous positions."""
    Q, K = q.shape[2], k.shape[2]
    positions = torch.arange(K)
    rotations = relation_rotations(positions[-Q:], inv_freq, geometry)
    scaling = q.shape[-1] ** -0.5 if scaling is None else scaling
    return naive_dual_chunk_attention(
        q, k, v, rotations, positions[None, -Q:], positions[None], geometry.chunk_length, scaling, **others
    )[0]


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """The root mean square of a - b over that of b."""
    return ((a.double() - b.double()).pow(2).mean().sqrt() / b.double().pow(2).mean().sqrt()).item()
