"""Compiles a Triton kernel for a GPU that need not be there, down to its machine code."""

from pathlib import Path

import pytest


def check_compiles(kernel, constants: dict, pointers: dict[str, str], capability: int) -> None:
    """Args: kernel: a function of `triton.jit`. constants: its constexprs. pointers: the types of its other arguments
    by name, `i32` where there is none. capability: of the GPU, 90 for Hopper."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if not (Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas").exists():
        pytest.skip("this triton has no assembler for NVIDIA's GPUs")
    types = {name: "constexpr" if name in constants else pointers.get(name, "i32") for name in kernel.arg_names}
    made = triton.compile(ASTSource(kernel, types, constexprs=constants), target=GPUTarget("cuda", capability, 32))
    assert made.asm["cubin"] and ".local" not in made.asm["ptx"]  # nothing spills
