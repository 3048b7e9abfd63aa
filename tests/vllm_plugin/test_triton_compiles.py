"""The Triton kernels compile for GPUs: down to their machine code, with the assembler that Triton brings along."""

from importlib import import_module
from importlib.util import find_spec

import pytest

from support.triton_compiling import check_compiles

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="needs triton: pip install triton")
LAYER, WHOLE = {"HALF": 64, "WIDE": 64, "REST": 0, "REST_WIDE": 1}, {"S": 2560, "C": 3072, "L": 4096}
PARTIAL = {"HALF": 12, "WIDE": 16, "REST": 72, "REST_WIDE": 128}
KERNELS = {
    "rotates": ("_rotate_queries", WHOLE | LAYER | {"TEMPERATURE": 0.0, "HEADS": 16}),
    "rotates, temperature": ("_rotate_queries", WHOLE | PARTIAL | {"TEMPERATURE": 0.1, "HEADS": 8}),
    "writes": ("_write_keys", {"S": 2560, "PAGE": 128, "HEADS": 8, "SIZE_WIDE": 128} | LAYER),
    "writes, partial": ("_write_keys", {"S": 64, "PAGE": 16, "HEADS": 1, "SIZE_WIDE": 128} | PARTIAL),
    "merges": ("_merge", {"D": 128, "WIDE": 128, "HEADS": 16, "IN_PLACE": False}),
    "merges in place": ("_merge", {"D": 80, "WIDE": 128, "HEADS": 16, "IN_PLACE": True}),
    "gathers": ("_gather", {"PAGE": 128, "STEP": 32, "WIDE": 128}),
    "layout": ("_lay_out_decode", {"ALL_HAVE": False, "STEP": 256, "REQUESTS": 256}),
    "layout for FA2": ("_lay_out_decode", {"ALL_HAVE": True, "STEP": 256, "REQUESTS": 256}),
}
ROWS = ("query", "out", "key", "value", "keys", "values", "output", "intra", "cross", "table", "copy")
NUMBERS = ("starts", "positions", "successive", "inter", "lengths", "block_table", "key_lengths", "pages")
POINTERS = dict.fromkeys(ROWS, "*bf16") | dict.fromkeys(NUMBERS, "*i32")
POINTERS |= {"slots": "*i64", "intra_lse": "*fp32", "cross_lse": "*fp32"}


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", KERNELS)
def test_compiles(name, capability, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel, constants = KERNELS[name]
    module = import_module("dca_hub.vllm_plugin.cuda.triton_kernels")
    check_compiles(getattr(module, kernel), constants, POINTERS, capability)
