"""In which precision a model runs on a device, unless one is asked for, and why: the one place that decides it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

from dca_hub import processor
from dca_hub.devices import TENSOR_PARALLEL

_SMALL = 50_000_000  # parameters below which nobody waits for float32
_FLOAT32_BYTES = 2 << 30  # of weights above which memory counts for more than speed
_GAIN = 1.25  # below which products in bfloat16 are not worth what they round off
_SIDES = (256, 512, 512)  # of the product that is timed, which takes a millisecond or two on one core
_REPEATS = 3


@dataclass(frozen=True)
class Precision:
    """A dtype, and in a few words why this one."""

    dtype: torch.dtype
    why: str


def choose_precision(stated: torch.dtype, parameters: int, device: str) -> Precision:
    """What a model of so many parameters, whose checkpoint states a dtype, runs in on a device."""
    on_cpu = device == "cpu" or (device in ("auto", TENSOR_PARALLEL) and not torch.cuda.is_available())
    if not on_cpu or stated not in (torch.bfloat16, torch.float16):
        return Precision(stated, "the checkpoint's own")
    if parameters < _SMALL:
        return Precision(torch.float32, "a model this small is fast in it")
    fast, why = judge_bfloat16()
    if fast:
        return Precision(torch.bfloat16, why)
    wide = parameters * torch.float32.itemsize
    if stated == torch.float16 or wide <= _FLOAT32_BYTES:
        return Precision(torch.float32, why)
    return Precision(stated, f"the checkpoint's own; float32 would take {wide / 1e9:.0f} GB")


@cache
def judge_bfloat16() -> tuple[bool, str]:
    """Whether products of matrices in bfloat16 are faster than in float32 on this processor, by what it has and by a
    measurement of some milliseconds; and why."""
    units = processor.bfloat16_units()
    if units is None:
        return False, f"{processor.name()} has no bfloat16 units"
    gain = measured_gain()
    words = f"{gain:.1f} times as fast as float32 when it was timed"
    if gain < _GAIN:
        return False, f"bfloat16 with {units} was only {words}"
    return True, f"with {units} {words}"


def measured_gain() -> float:
    """How many times as fast a product of matrices is in bfloat16 as in float32."""
    rows, inner, columns = _SIDES
    taken = []
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.ones(rows, inner, dtype=dtype), torch.ones(columns, inner, dtype=dtype)
        taken.append(_seconds(lambda a=a, b=b: torch.nn.functional.linear(a, b)))
    return taken[0] / taken[1]


def _seconds(function: Callable) -> float:
    function()  # what is prepared once
    times = []
    for _ in range(_REPEATS):
        begun = time.perf_counter()
        function()
        times.append(time.perf_counter() - begun)
    return min(times)
