"""The Triton kernels give what the naive twin gives: in Triton's interpreter, and on a GPU where there is one."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="needs triton")


def run(interpreted: bool) -> dict:
    """In a process of its own: the interpreter must be asked for before the kernels are read."""
    script = Path(__file__).parents[1] / "support" / "triton_cases.py"
    path = os.pathsep.join([str(script.parents[2]), str(script.parents[1]), os.environ.get("PYTHONPATH", "")])
    given = {"TRITON_INTERPRET": "1"} if interpreted else {}
    finished = subprocess.run(
        [sys.executable, script],
        env=os.environ | given | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    return json.loads(finished.stdout.splitlines()[-1])


def check(found: dict) -> None:
    assert {name: error for name, error in found["errors"].items() if not error <= 2} == {}
    assert len(found["errors"]) > 40


@pytest.mark.slow
def test_in_the_interpreter():
    """With PyTorch's attention for CPU and a plain FlashAttention-3 in the place of a GPU's kernels."""
    check(run(interpreted=True))


@pytest.mark.gpu
def test_on_a_gpu():
    """With the kernels of the GPU, as many as serve it, forward and backward."""
    check(run(interpreted=False))
