"""The Triton kernels against their plain twins: `kernel_cases.py` runs every case, on a GPU or, with
TRITON_INTERPRET=1, in Triton's interpreter, and prints the relative errors as JSON."""

import json
import os
from dataclasses import dataclass

import torch

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.vllm_plugin.cuda import reference, triton_kernels
from dca_hub.vllm_plugin.cuda.ops import Rows
from dca_hub.vllm_plugin.rotary_table import RotaryTable

PAGE, NAN = 4, float("nan")
GEOMETRY = DualChunkGeometry(chunk_size=20, local_size=8, pretraining_length=24)
WARM = DualChunkGeometry(chunk_size=20, local_size=8, pretraining_length=24, temperature=0.1)


@dataclass(frozen=True)
class Shape:
    heads: int
    groups: int
    size: int
    rotated: int
    dtype: torch.dtype
    geometry: DualChunkGeometry = GEOMETRY


SHAPES = {
    "128, bfloat16": Shape(28, 4, 128, 128, torch.bfloat16),
    "128, temperature": Shape(4, 4, 128, 128, torch.bfloat16, WARM),
    "64, float32": Shape(3, 1, 64, 64, torch.float32, WARM),
    "80 of which 32 rotate, float16": Shape(5, 5, 80, 32, torch.float16, WARM),
    "96 of which 24 rotate, float32": Shape(18, 2, 96, 24, torch.float32),
}


def rotary(shape: Shape, device: str) -> RotaryTable:
    angle = torch.arange(120).unsqueeze(1) * 50.0 ** -(torch.arange(0, shape.rotated, 2) / shape.rotated)
    return RotaryTable(torch.cat([angle.cos(), angle.sin()], dim=1).to(shape.dtype).mul(1.1).to(device))


def ragged(device: str) -> tuple[Rows, int]:
    """Rows with no, one and both of the cross parts, in no order."""
    positions = torch.tensor([0, 11, 12, 19, 20, 30, 36, 43, 44, 60, 99, 3])
    successive = torch.tensor([-1, -1, 6, 2, -1, 4, 9, 0, -1, 1, -1, -1])
    inter = torch.tensor([-1, -1, -1, -1, 3, 12, 8, 5, 10, 7, 11, -1])
    return Rows(*(x.to(device, torch.int32) for x in (positions, successive, inter))), 13


def some(device: str, *sizes: int, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(sum(sizes))).to(device, dtype)


def turning(kernels, shape: Shape, device: str) -> torch.Tensor:
    rows, cross = ragged(device)
    packed = some(device, 15, shape.heads + 2, shape.size, dtype=shape.dtype)
    packed[12:] = NAN  # rows that pad the step
    return kernels.rotate_queries(packed[:, : shape.heads], rows, cross, rotary(shape, device), shape.geometry)


def writing(kernels, shape: Shape, device: str) -> torch.Tensor:
    slots = torch.tensor([5, 0, 23, -1, 7, 8, 9, 10, 11, 12, 13, 20, -1, -1], device=device)
    key, value = (some(device, 16, shape.groups, shape.size, dtype=shape.dtype) + n for n in range(2))
    pages = torch.zeros(6, shape.groups, PAGE, 2 * shape.size, device=device, dtype=shape.dtype)
    cache = pages.transpose(1, 2).split(shape.size, dim=-1)
    rows, _ = ragged(device)
    kernels.write_keys(key, value, cache, slots, rows.positions, rotary(shape, device), shape.geometry)
    return pages


def merging(kernels, shape: Shape, device: str, in_place: bool = False) -> torch.Tensor:
    rows, cross = ragged(device)
    tokens = len(rows.positions)
    outs = some(device, tokens + cross, shape.heads, shape.size, dtype=shape.dtype)
    lse = some(device, shape.heads, tokens + cross).mul(30)
    lse[:, 0], outs[0] = NAN, NAN  # a row that pads the step
    lse[:, 5], outs[5] = float("inf"), NAN  # no keys, as FA2 says it
    lse[:, tokens + 3], outs[tokens + 3] = float("-inf"), NAN  # and FA3
    lse[0, tokens + 9] = float("inf")
    outs[tokens + 9, 0] = NAN
    if in_place:
        outs[0], lse[:, 0] = 1.0, 0.0
        outs[5] = 0.0
    output = outs[:tokens] if in_place else torch.full_like(outs[:tokens], NAN)
    kernels.merge(output, outs[:tokens], lse[:, :tokens], outs[tokens:], lse[:, tokens:], rows)
    return output


def merging_in_place(kernels, shape: Shape, device: str) -> torch.Tensor:
    return merging(kernels, shape, device, in_place=True)


def laying_out(kernels, shape: Shape, device: str) -> torch.Tensor:
    """Lengths on both sides of every border, and 0; in one case, of more requests than are counted at a time. Pages
    beyond the keys are nobody's."""
    lengths = torch.tensor([0, 1, 12, 13, 20, 21, 24, 25, 33, 36, 37, 40, 97, 100, 1109, 1199], device=device).int()
    lengths = lengths.repeat(17 if shape is SHAPES["64, float32"] else 1)
    requests, width = len(lengths), 300
    table = torch.randperm(requests * width, generator=torch.Generator().manual_seed(0)).view(requests, width)
    rows = Rows(*torch.full((3, requests), -7, device=device, dtype=torch.int32))
    starts, counts = (torch.full((3 * requests + n,), -7, device=device, dtype=torch.int32) for n in (1, 0))
    pages = torch.full((3 * requests, width), -7, device=device, dtype=torch.int32)
    all_have = shape is SHAPES["128, temperature"]
    kernels.lay_out_decode(lengths, table.to(device).int(), shape.geometry, PAGE, rows, starts, counts, pages, all_have)
    used = torch.arange(width, device=device) < -(-counts // PAGE).unsqueeze(1)
    found = [rows.positions, rows.successive, rows.inter, starts, counts, pages.masked_fill(~used, 0).flatten()]
    return torch.cat(found)


def key_copy(kernels, shape: Shape, device: str) -> torch.Tensor:
    """Pages in no order, some of them twice; what lies behind the last stays as it was."""
    pages = some(device, 9, shape.groups, PAGE, 2 * shape.size, dtype=shape.dtype)
    copy = torch.full((2, shape.groups, 8 * PAGE + 5, shape.size), 7.0, device=device, dtype=shape.dtype)
    chosen = torch.tensor([8, 0, 3, 3, 5, 1, 7, 2], device=device, dtype=torch.int32)
    kernels.gather(pages.transpose(1, 2).split(shape.size, dim=-1), chosen, copy)
    return copy


CASES = {
    f"{case.__name__}, {name}": (case, shape)
    for case in (turning, writing, merging, merging_in_place, laying_out, key_copy)
    for name, shape in SHAPES.items()
}


def error(name: str, device: str) -> float:
    """The relative error of a case; a NaN anywhere gives NaN."""
    case, shape = CASES[name]
    found, expected = (case(kernels, shape, device).double() for kernels in (triton_kernels, reference))
    return float((found - expected).norm() / expected.norm())


def allowed(name: str, device: str) -> float:
    """Results of the same float32 numbers, which may round to either side; the interpreter cuts bfloat16 off."""
    dtype = CASES[name][1].dtype
    if dtype == torch.bfloat16:
        return 5e-3 if device == "cpu" else 1e-3
    return {torch.float32: 2e-6, torch.float16: 2e-4}[dtype]


if __name__ == "__main__":
    device = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
    print(json.dumps({name: error(name, device) for name in CASES}))
