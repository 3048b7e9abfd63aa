"""The Triton kernels give what the naive twin gives: in Triton's interpreter, and on a GPU where there is one."""

from importlib.util import find_spec

import pytest

from support.interpreted import run_script

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="needs triton")


def check(found: dict) -> None:
    assert {name: error for name, error in found["errors"].items() if not error <= 2} == {}
    assert len(found["errors"]) > 40


@pytest.mark.slow
def test_in_the_interpreter():
    """With PyTorch's attention for CPU and a plain FlashAttention-3 in the place of a GPU's kernels."""
    check(run_script("triton_cases.py"))


@pytest.mark.gpu
def test_on_a_gpu():
    """With the kernels of the GPU, as many as serve it, forward and backward."""
    check(run_script("triton_cases.py", interpreted=False))
