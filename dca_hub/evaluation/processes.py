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
            torch.distributed.barrier()


def join() -> Processes:
    """This process among those that a launcher has started, as its environment says."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes()
    if not torch.distributed.is_initialized():
        # Nothing but waiting goes over it, and a process may have to wait for the longest of all prompts.
        torch.distributed.init_process_group("gloo", timeout=datetime.timedelta(days=30))
    return Processes(torch.distributed.get_rank(), torch.distributed.get_world_size())


def own_device() -> str | None:
    """The GPU that is this process's own, if there are several processes and GPUs; else None, for the usual choice."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or not torch.cuda.is_available():
        return None
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
