"""The Triton kernels give what their plain twins give: in Triton's interpreter, and on a GPU where there is one."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="needs triton: pip install triton")
if find_spec("triton"):
    from support.kernel_cases import CASES, allowed, error
else:
    CASES = {"none": None}


@pytest.fixture(scope="module")
def interpreted() -> dict[str, float]:
    """The errors in the interpreter; it must be asked for before the kernels are read, so in a process of its own."""
    script = Path(__file__).parents[1] / "support" / "kernel_cases.py"
    path = os.pathsep.join([str(script.parents[2]), os.environ.get("PYTHONPATH", "")])
    finished = subprocess.run(
        [sys.executable, script],
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    return json.loads(finished.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", CASES)
def test_in_the_interpreter(name, interpreted):
    assert interpreted[name] <= allowed(name, "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_on_a_gpu(name):
    assert error(name, "cuda") <= allowed(name, "cuda")
