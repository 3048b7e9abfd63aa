"""The Triton kernels compile for GPUs: down to their machine code, with the assembler that Triton brings along."""

from importlib import import_module
from importlib.util import find_spec

import pytest

from support.triton_compiling import check_compiles

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="needs triton")
LAYER = {"HALF": 64, "WIDE": 64, "REST": 0, "REST_WIDE": 1}
PARTIAL = {"HALF": 12, "WIDE": 16, "REST": 72, "REST_WIDE": 128}
DECODE = {"D": 128, "D_WIDE": 128, "BLOCK": 64, "SPLITS": 32, "PRECISION": "tf32"}
DECODE |= {"HALF": 64, "WIDE": 64, "REST": 0, "REST_WIDE": 16}
SCORE = {"BROAD": 256, "DEEP": 64, "PRECISION": None}
BLOCKS = {"SIDE": 128, "PRECISION": None}
KERNELS = {
    "rotates": ("_rotate", LAYER | {"HEADS": 16, "TEMPERED": False, "EDGE": False}),
    "rotates, all": ("_rotate", PARTIAL | {"HEADS": 8, "TEMPERED": True, "EDGE": True}),
    "merges": ("_merge", {"D": 128, "WIDE": 128, "ROWS": 32}),
    "merges 80": ("_merge", {"D": 80, "WIDE": 128, "ROWS": 32}),
    "sums keys": ("_sum", LAYER | {"ROWS": 16, "ROTATED": False, "TEMPERED": False}),
    "sums queries": ("_sum", LAYER | {"ROWS": 16, "ROTATED": True, "TEMPERED": True}),
    "decodes": ("_decode", DECODE | {"GROUP": 4, "HEADS": 4, "POSITIONED": False, "TEMPERED": False}),
    "scores": ("_score", SCORE | {"NUMBERS": 16 * 128, "PER": 8, "TALL": 128}),
    "scores 64": ("_score", SCORE | {"NUMBERS": 64 * 128, "PER": 2, "TALL": 16}),
    "holds": ("_hold", {"STRIDE": 16, "SIDE": 128, "WIDE": 8192, "BITS": 31}),
    "lists": ("_list", {"WIDE": 8192}),
    "attends to blocks": ("_attend", BLOCKS | {"SIZE": 128, "WIDE": 128, "PER": 1}),
    "attends to blocks 256": ("_attend", BLOCKS | {"SIZE": 256, "WIDE": 256, "PER": 2}),
    "decodes slots": ("_decode", DECODE | {"GROUP": 7, "HEADS": 8, "POSITIONED": True, "TEMPERED": True}),
}
POINTERS = dict.fromkeys(("query", "intra", "successive", "inter", "key", "value", "out"), "*bf16")
POINTERS |= dict.fromkeys(("cos", "sin", "factor", "lse", "partial", "statistics"), "*fp32")
POINTERS |= {"table": "*i64", "arrivals": "*i32", "positions": "*i32", "query_positions": "*i32", "scaling": "fp32"}
OWN = {"_score": {"out": "*fp32", "scale": "fp32"}, "_attend": {"scale": "fp32", "order": "*i32", "ends": "*i32"}}
OWN |= {"_hold": {"scores": "*fp32", "kept": "*i1", "share": "fp32"}}
OWN |= {"_list": {"kept": "*i1", "order": "*i32", "ends": "*i32"}}


def tile(rows: int, numbers: int) -> str:
    return f"tensordesc<bf16[1, 1, {rows}, {numbers}]>"


def attended(WIDE: int, SIDE: int, PER: int, **_) -> dict[str, str]:
    queries = dict.fromkeys(("intra", "successive", "inter"), tile(SIDE, WIDE))
    return queries | dict.fromkeys(("key", "value"), tile(SIDE // PER, WIDE))


def scored(TALL: int, BROAD: int, DEEP: int, **_) -> dict[str, str]:
    return {"query": tile(TALL, DEEP), "key": tile(BROAD, DEEP)}


DESCRIBED = {"_attend": attended, "_score": scored}
MODULES = {"_rotate": "triton_rotation", "_merge": "triton_merge", "_sum": "triton_merge", "_decode": "triton_decode"}
MODULES |= dict.fromkeys(("_score", "_hold", "_list"), "selection_triton") | {"_attend": "sparse_triton"}


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", KERNELS)
def test_compiles(name, capability, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel, constants = KERNELS[name]
    module = import_module(f"dca_hub.modeling.dual_chunk_{MODULES[kernel]}")
    types = POINTERS | OWN.get(kernel, {}) | DESCRIBED.get(kernel, lambda **_: {})(**constants)
    check_compiles(getattr(module, kernel), constants, types, capability)
