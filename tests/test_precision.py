"""In which precision models run by default."""

import pytest
import torch

from dca_hub import precision, processor
from dca_hub.precision import choose_precision, judge_bfloat16

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
MILLION = 1_000_000


@pytest.fixture
def fast(monkeypatch):
    """Another processor: what it multiplies bfloat16 with, and how many times as fast it is."""

    def become(units: str | None, gain: float) -> None:
        monkeypatch.setattr(processor, "bfloat16_units", lambda: units)
        monkeypatch.setattr(precision, "measured_gain", lambda: gain)
        judge_bfloat16.cache_clear()

    yield become
    judge_bfloat16.cache_clear()


@pytest.mark.parametrize(
    ("units", "gain", "stated", "parameters", "chosen"),
    [
        ("AMX-BF16", 3.0, BF16, 135 * MILLION, BF16),
        ("AMX-BF16", 3.0, FP16, 135 * MILLION, BF16),
        ("AMX-BF16", 3.0, FP32, 135 * MILLION, FP32),  # nothing is rounded off that the checkpoint has
        ("AMX-BF16", 3.0, BF16, 4 * MILLION, FP32),  # the demo model keeps its answers
        ("AMX-BF16", 1.0, BF16, 135 * MILLION, FP32),  # it has the units, and gains nothing by them
        (None, 9.0, BF16, 135 * MILLION, FP32),
        (None, 9.0, BF16, 7000 * MILLION, BF16),
        (None, 9.0, FP16, 7000 * MILLION, FP32),
    ],
)
def test_what_runs_in_bfloat16_on_a_processor(fast, units, gain, stated, parameters, chosen):
    fast(units, gain)
    assert choose_precision(stated, parameters, "cpu").dtype == chosen


def test_a_gpu_takes_what_the_checkpoint_states(fast):
    fast(None, 1.0)
    assert choose_precision(BF16, MILLION, "cuda:0").dtype == BF16


def test_the_reason_is_told(fast):
    fast("AMX-BF16", 2.96)
    assert (
        choose_precision(BF16, 135 * MILLION, "cpu").why
        == "with AMX-BF16 3.0 times as fast as float32 when it was timed"
    )
    fast("AMX-BF16", 0.9)
    assert "only 0.9 times as fast" in choose_precision(BF16, 135 * MILLION, "cpu").why
    fast(None, 1.0)
    assert "has no bfloat16 units" in choose_precision(BF16, 135 * MILLION, "cpu").why
    assert "28 GB" in choose_precision(BF16, 7000 * MILLION, "cpu").why


def test_the_measurement_measures(monkeypatch):
    real = torch.nn.functional.linear

    def slow_in_float32(a, b):
        for _ in range(20 if a.dtype == FP32 else 1):
            out = real(a.float(), b.float())
        return out

    monkeypatch.setattr(torch.nn.functional, "linear", slow_in_float32)
    assert precision.measured_gain() > 3
