"""Decoding on a GPU: one query a batch row, in one launch a layer, for any layout of the cache.

A step is written down once for all layers, on the device alone: a CUDA graph that holds it serves every length.
"""

from dataclasses import dataclass

import torch

from .dual_chunk_cuda import TRITON, without_triton
from .dual_chunk_rotation import RelationRotations

_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def refuse_decode(query: torch.Tensor, key: torch.Tensor, in_graph: bool = False) -> str | None:
    """Why one launch cannot serve these tensors, or None; with `in_graph` torch.compile may be tracing it."""
    if query.shape[2] != 1:
        return "there is more than one query"
    if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad):
        return "gradients are wanted"
    if query.dtype not in _DTYPES:
        return f"it takes bfloat16, float16 and float32, not {query.dtype}"
    return without_triton(query.device, in_graph)


def attend_decode(query, key, value, rotations: RelationRotations, geometry, scaling):
    """One query at the end of contiguous positions."""
    from .dual_chunk_triton_decode import decode

    cos, sin, factor = _tables(rotations)
    arrivals = _arrivals(rotations, query.shape[0] * key.shape[1], query.device)
    return decode(query, key, value, cos, sin, factor, arrivals, geometry.chunk_length, scaling)


def attend_positioned(query, key, value, step: "DecodeStep", chunk_length: int, scaling: float) -> torch.Tensor:
    """One query a batch row over slots that each hold their own position."""
    cos, sin, factor = _tables(step.rotations)
    arrivals = _arrivals(step.rotations, query.shape[0] * key.shape[1], query.device)
    tensors = (query, key, value, cos, sin, factor, arrivals, step.positions, step.query_positions)
    if torch.compiler.is_compiling():
        return _operator(*tensors, chunk_length, scaling)  # pyright: ignore[reportOptionalCall]
    from .dual_chunk_triton_decode import decode

    return decode(*tensors[:7], chunk_length, scaling, *tensors[7:])


@dataclass(frozen=True)
class DecodeStep:
    """What the layers of a step share: the rotations of each row's query, int32 positions [B, K] of the slots, negative
    where nothing is held, and [B + 1] those of the queries and the number of slots in use."""

    rotations: RelationRotations
    positions: torch.Tensor
    query_positions: torch.Tensor

    @classmethod
    def of(cls, rotations: RelationRotations, positions: torch.Tensor, queries: torch.Tensor) -> "DecodeStep":
        """From positions [B or 1, K] of the slots and [B or 1, 1] of the queries."""
        if "step" not in rotations.shared:
            batch = max(len(positions), len(queries))
            slots = torch.arange(1, positions.shape[1] + 1, dtype=torch.int32, device=positions.device)
            used = torch.where(positions >= 0, slots, 0).max().to(torch.int32)
            positions = positions.expand(batch, -1).to(torch.int32)
            queries = torch.cat([queries.expand(batch, 1)[:, 0].to(torch.int32), used.view(1)])
            rotations.shared["step"] = cls(rotations, positions, queries)
        return rotations.shared["step"]


def _tables(rotations: RelationRotations) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Cosines and sines [3, B or 1, R / 2] and the temperature [B or 1] of one query a batch row."""
    half = rotations.cos.shape[-1]
    factor = None if rotations.factor is None else rotations.factor.reshape(-1)
    return rotations.cos.reshape(3, -1, half), rotations.sin.reshape(3, -1, half), factor


def _arrivals(rotations: RelationRotations, count: int, device: torch.device) -> torch.Tensor:
    key = ("arrivals", count)
    if key not in rotations.shared:
        rotations.shared[key] = torch.zeros(count, dtype=torch.int32, device=device)
    return rotations.shared[key]


def _register():
    """`decode` as an operator that torch.compile takes as it is. It is named after this module, of which each package
    loaded from the Hub brings its own."""
    namespace = "".join(c if c.isalnum() else "_" for c in __name__)

    @torch.library.custom_op(f"{namespace}::decode", mutates_args=())
    def operator(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        factor: torch.Tensor | None,
        arrivals: torch.Tensor,  # written, and left as they were
        positions: torch.Tensor,
        query_positions: torch.Tensor,
        chunk_length: int,
        scaling: float,
    ) -> torch.Tensor:
        from .dual_chunk_triton_decode import decode

        tensors = (query, key, value, cos, sin, factor, arrivals)
        return decode(*tensors, chunk_length, scaling, positions, query_positions)

    @operator.register_fake
    def _(query, *rest):
        return torch.empty_like(query, memory_format=torch.contiguous_format)

    return operator


_operator = _register() if TRITON else None
