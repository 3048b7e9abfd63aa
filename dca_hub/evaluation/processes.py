"""Which of how many processes this is, under `torchrun` or `accelerate launch`."""

import datetime
import os
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Processes:
    """`rank` of `count` processes; alone, 0 of 1."""

    rank: int = 0
    count: int = 1

    def wait(self) -> None:
        """Returns when every process has called it."""
        if self.count > 1:
            torch.distributed.all_reduce(torch.zeros(1))  # on the CPU, whatever the GPUs are at


def join(sharing: bool = False) -> Processes:
    """This process among those that a launcher has started, as its environment says.

    sharing: whether they will share the layers of one model, for which GPUs need a connection of their own.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes()
    if not torch.distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if sharing and torch.cuda.is_available() else "gloo"
        # A process may have to wait for the longest of all prompts.
        torch.distributed.init_process_group(backend, timeout=datetime.timedelta(days=30))
    return Processes(torch.distributed.get_rank(), torch.distributed.get_world_size())


def is_first() -> bool:
    """Whether this process is the first of those that a launcher has started, or alone; before they have met, too."""
    return int(os.environ.get("RANK", "0")) == 0


def own_device() -> str | None:
    """The GPU that is this process's own, if there are several processes and GPUs; else None, for the usual choice."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or not torch.cuda.is_available():
        return None
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
