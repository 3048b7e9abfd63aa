"""The devices that models run on: which there are and what is free on them."""

import torch

from dca_hub.errors import DcaHubError, Fix

TENSOR_PARALLEL = "tensor-parallel"


def check_device(device: str) -> str:
    """The device, if this machine has it; DcaHubError otherwise."""
    if device in ("auto", TENSOR_PARALLEL):
        return device
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise DcaHubError(
            f"There is no device {device!r}: use cpu, cuda, cuda:1, mps, auto or {TENSOR_PARALLEL}."
        ) from None
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise DcaHubError(
            f"PyTorch cannot use the device {device!r} here, where it finds {torch.cuda.device_count()} CUDA devices",
            Fix("choose another {}, or leave it out", "device"),
        )
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise DcaHubError(
            "PyTorch cannot use the device 'mps' here",
            Fix("choose another {}, or leave it out", "device"),
        )
    return device


def best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def is_cuda(device: str) -> bool:
    """Whether a model that goes there is on CUDA devices."""
    return device.startswith("cuda") or (device in ("auto", TENSOR_PARALLEL) and torch.cuda.is_available())


def shares_work() -> bool:
    """Whether this process computes each layer together with others (`torchrun`), which must call the model alike."""
    return (
        torch.distributed.is_available()
        and torch.distributed.is_initialized()
        and (torch.distributed.get_world_size() > 1)
    )


def free_bytes(device: str) -> int:
    """Memory that is free on a device, all GPUs together for "auto", in bytes."""
    if is_cuda(device):
        spread, count = device in ("auto", TENSOR_PARALLEL), range(torch.cuda.device_count())
        chosen = count if spread else [torch.device(device).index or 0]
        return sum(torch.cuda.mem_get_info(index)[0] for index in chosen)
    import psutil

    return psutil.virtual_memory().available
