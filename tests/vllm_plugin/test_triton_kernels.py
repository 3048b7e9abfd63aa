"""The Triton kernels give what their plain twins give: in Triton's interpreter, and on a GPU where there is one."""

from importlib.util import find_spec

import pytest

from support.interpreted import run_script

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="needs triton: pip install triton")
if find_spec("triton"):
    from support.kernel_cases import CASES, allowed, error
else:
    CASES = {"none": None}


@pytest.fixture(scope="module")
def interpreted() -> dict[str, float]:
    """The errors in the interpreter."""
    return run_script("kernel_cases.py", timeout=300)


@pytest.mark.parametrize("name", CASES)
def test_in_the_interpreter(name, interpreted):
    assert interpreted[name] <= allowed(name, "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_on_a_gpu(name):
    assert error(name, "cuda") <= allowed(name, "cuda")
