"""What Dual Chunk Attention's Triton kernels share: rows as rotated halves and a rest, and where they run.

A launch reads each row once and writes it once, with float32 in between. `TRITON_INTERPRET=1` runs the kernels without
a GPU. Import this module, and those beside it, only where Triton is installed.

Shapes: B batch, H query heads, G key/value heads, Q queries, K keys, D head size, R the rotated part of D, M the rows
of a part's result.
"""

try:  # transformers refuses a file from the Hub over an import that is missing, unless it stands in a try
    import triton
    import triton.language as tl
except ImportError:
    raise

import contextlib

import torch


def heads_per_program(heads: int) -> int:
    """Enough heads of a row to be worth a program, few enough for its registers."""
    return min(16, triton.next_power_of_2(heads))


def halves(size: int, half: int) -> dict[str, int]:
    """Of the rotated halves of a head and of what is left of it, and the powers of 2 that hold them."""
    rest = size - 2 * half
    wide, rest_wide = (triton.next_power_of_2(max(1, width)) for width in (half, rest))
    return {"HALF": half, "WIDE": wide, "REST": rest, "REST_WIDE": rest_wide}


@triton.jit
def load_halves(
    x, heads, head_stride, H, HALF: tl.constexpr, WIDE: tl.constexpr, REST: tl.constexpr, REST_WIDE: tl.constexpr
):
    """The `heads` of a row, those below H: two halves [heads, WIDE] and what does not rotate, in float32."""
    i, j = tl.arange(0, WIDE), tl.arange(0, REST_WIDE)
    at = x + heads[:, None] * head_stride
    mask = (heads < H)[:, None] & (i < HALF)[None, :]
    a = tl.load(at + i[None, :], mask=mask, other=0.0).to(tl.float32)
    b = tl.load(at + HALF + i[None, :], mask=mask, other=0.0).to(tl.float32)
    rest = tl.load(at + 2 * HALF + j[None, :], mask=(heads < H)[:, None] & (j < REST)[None, :], other=0.0)
    return a, b, rest.to(tl.float32)


@triton.jit
def store_halves(
    x, heads, head_stride, H, a, b, rest,
    HALF: tl.constexpr, WIDE: tl.constexpr, REST: tl.constexpr, REST_WIDE: tl.constexpr,
):  # fmt: skip
    i, j = tl.arange(0, WIDE), tl.arange(0, REST_WIDE)
    at = x + heads[:, None] * head_stride
    mask = (heads < H)[:, None] & (i < HALF)[None, :]
    kind = x.dtype.element_ty
    tl.store(at + i[None, :], a.to(kind), mask=mask)
    tl.store(at + HALF + i[None, :], b.to(kind), mask=mask)
    if REST > 0:
        tl.store(at + 2 * HALF + j[None, :], rest.to(kind), mask=(heads < H)[:, None] & (j < REST)[None, :])


@triton.jit
def angles(cos, sin, at, HALF: tl.constexpr, WIDE: tl.constexpr):
    i = tl.arange(0, WIDE)
    c = tl.load(cos + at * HALF + i, mask=i < HALF, other=0.0).to(tl.float32)
    s = tl.load(sin + at * HALF + i, mask=i < HALF, other=0.0).to(tl.float32)
    return c[None, :], s[None, :]


def on_device(device: torch.device):
    """Triton launches on the current device, which need not be that of the tensors."""
    if device.type != "cuda" or device.index == torch.cuda.current_device():
        return contextlib.nullcontext()
    return torch.cuda.device(device)
