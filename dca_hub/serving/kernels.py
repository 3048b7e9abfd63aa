"""What the CUDA backend does to the rows of a step around its attention calls, and which kernels do it.

`plain_kernels` and `triton_kernels` hold the same four functions: the first to read, and to compare with; the second
to run. Shapes: N tokens of a step, F queries of the relations other than intra ("far"), H query heads, D head size.
"""

import os
from dataclasses import dataclass
from types import ModuleType

import torch


@dataclass(frozen=True)
class Rows:
    """The rows of a step, int32 [N] each: where a token stands in its request, and which of the F far queries it has in
    the successive and in the inter relation, or -1 where it has none. Where both relations place a query alike, one far
    query serves both and is counted as inter."""

    positions: torch.Tensor
    successive: torch.Tensor
    inter: torch.Tensor


def kernels_for(device: torch.device) -> tuple[ModuleType, str]:
    """The module whose functions serve tensors of a device, and why it is that one."""
    if device.type == "cuda":
        from dca_hub.serving import triton_kernels

        return triton_kernels, "Triton on a GPU"
    if os.environ.get("TRITON_INTERPRET") == "1":
        from dca_hub.serving import triton_kernels

        return triton_kernels, "Triton's interpreter, which TRITON_INTERPRET asks for"
    from dca_hub.serving import plain_kernels

    return plain_kernels, f"plain PyTorch, since Triton has no compiler for {device.type!r}"
