"""What the CUDA backend does to the rows of a step around its attention calls, and which kernels do it.

Each function has a plain twin in PyTorch, to read and to compare with, and one in Triton, to run. Shapes: N tokens of a
step, F queries of the relations other than intra ("far"), H query heads, D head size.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Rows:
    """The rows of a step, int32 [N] each: where a token stands in its request, and which of the F far queries it has in
    the successive and in the inter relation, or -1 where it has none. Where both relations place a query alike, one far
    query serves both and is counted as inter."""

    positions: torch.Tensor
    successive: torch.Tensor
    inter: torch.Tensor


@dataclass(frozen=True)
class Kernels:
    """The functions of `plain_kernels`, or others with their signatures and results."""

    turn_queries: Callable
    write_keys: Callable
    merge: Callable
    lay_out_decode: Callable
    gather: Callable


def kernels_for(device: torch.device) -> tuple[Kernels, str]:
    """What serves tensors of a device, and why it is that."""
    if device.type == "cuda":
        return triton_kernels(), "Triton, on a GPU"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return triton_kernels(), "Triton's interpreter, which TRITON_INTERPRET asks for"
    return plain_kernels(), f"PyTorch, since Triton has no compiler for {device.type!r}"


def plain_kernels() -> Kernels:
    from dca_hub.serving import plain_kernels as plain

    return Kernels(plain.turn_queries, plain.write_keys, plain.merge, plain.lay_out_decode, plain.gather)


def triton_kernels() -> Kernels:
    from dca_hub.serving.triton_decode import lay_out_decode
    from dca_hub.serving.triton_gather import gather
    from dca_hub.serving.triton_merge import merge
    from dca_hub.serving.triton_turns import turn_queries, write_keys

    return Kernels(turn_queries, write_keys, merge, lay_out_decode, gather)
