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
KERNELS = {
    "rotates": ("_rotate", LAYER | {"HEADS": 16, "TEMPERED": False, "EDGE": False}),
    "rotates, all": ("_rotate", PARTIAL | {"HEADS": 8, "TEMPERED": True, "EDGE": True}),
    "merges": ("_merge", {"D": 128, "WIDE": 128, "ROWS": 32}),
    "merges 80": ("_merge", {"D": 80, "WIDE": 128, "ROWS": 32}),
    "sums keys": ("_sum", LAYER | {"ROWS": 16, "ROTATED": False, "TEMPERED": False}),
    "sums queries": ("_sum", LAYER | {"ROWS": 16, "ROTATED": True, "TEMPERED": True}),
    "decodes": ("_decode", DECODE | {"GROUP": 4, "HEADS": 4, "POSITIONED": False, "TEMPERED": False}),
    "decodes slots": ("_decode", DECODE | {"GROUP": 7, "HEADS": 8, "POSITIONED": True, "TEMPERED": True}),
}
POINTERS = dict.fromkeys(("query", "intra", "successive", "inter", "key", "value", "out"), "*bf16")
POINTERS |= dict.fromkeys(("cos", "sin", "factor", "lse", "partial", "statistics"), "*fp32")
POINTERS |= {"table": "*i64", "arrivals": "*i32", "positions": "*i32", "query_positions": "*i32", "scaling": "fp32"}


MODULES = {"_rotate": "rotation", "_merge": "merge", "_sum": "merge", "_decode": "decode"}


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", KERNELS)
def test_compiles(name, capability, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel, constants = KERNELS[name]
    module = import_module(f"dca_hub.modeling.dual_chunk_triton_{MODULES[kernel]}")
    check_compiles(getattr(module, kernel), constants, POINTERS, capability)
