"""Runs a script of this folder in its own process: Triton's interpreter must be asked for before kernels are read."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent


def run_script(name: str, *, interpreted: bool = True, timeout: int = 900) -> Any:
    """The last line that the script prints, as JSON."""
    path = os.pathsep.join([str(_FOLDER.parents[1]), str(_FOLDER.parent), os.environ.get("PYTHONPATH", "")])
    given = {"PYTHONPATH": path} | ({"TRITON_INTERPRET": "1"} if interpreted else {})
    finished = subprocess.run(
        [sys.executable, _FOLDER / name],
        env=os.environ | given,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    return json.loads(finished.stdout.splitlines()[-1])
