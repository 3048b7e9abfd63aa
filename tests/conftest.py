"""Shared switches of the test suite: what is skipped, and why."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")


def pytest_collection_modifyitems(config, items):
    skip_slow = pytest.mark.skip(reason="slow: run with --slow")
    skip_vllm = pytest.mark.skip(reason="needs vLLM, in an environment of its own: bash tests/vllm_plugin/run.sh")
    skip_gpu = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(skip_slow)
        if "vllm" in item.keywords and find_spec("vllm") is None:
            item.add_marker(skip_vllm)
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(skip_gpu)


@pytest.fixture
def shared() -> Path:
    """The folder of reference data that is not part of the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"reference data is not there: {SHARED.name}/ beside the checkout")
    return SHARED
