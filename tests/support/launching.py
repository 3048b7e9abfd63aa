"""Python in processes of its own: one, or several under torchrun."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def launch(processes: int, *command: str) -> subprocess.CompletedProcess:
    """What `python COMMAND` gives, in so many processes."""
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), f"--master-port={_port()}"]
    return subprocess.run(
        [sys.executable, *(torchrun if processes > 1 else []), *command],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
