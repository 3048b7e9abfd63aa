"""Which kernels serve a device."""

import os
from typing import cast

import torch

from dca_hub.vllm_plugin.cuda import reference
from dca_hub.vllm_plugin.cuda.ops import Kernels


def kernels_for(device: torch.device) -> tuple[Kernels, str]:
    """The module whose functions serve tensors of a device, and why it is that one."""
    if device.type == "cuda":
        return triton_kernels(), "Triton, on a GPU"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return triton_kernels(), "Triton's interpreter, which TRITON_INTERPRET asks for"
    return cast(Kernels, reference), f"PyTorch, since Triton has no compiler for {device.type!r}"


def triton_kernels() -> Kernels:
    from dca_hub.vllm_plugin.cuda import triton_kernels as module  # needs Triton, which a CPU may do without

    return cast(Kernels, module)
