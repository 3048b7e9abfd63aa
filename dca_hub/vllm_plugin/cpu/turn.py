"""Rotations made once a step for what each layer does with them."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Turn:
    """Rotates [..., D] in few operations, by `cos` and `sin` [..., 1, D]; dimension i makes a pair with i + `half`."""

    cos: torch.Tensor
    sin: torch.Tensor
    half: int

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        first, second, rest = wide.tensor_split((self.half, 2 * self.half), dim=-1)
        return torch.addcmul(wide * self.cos, torch.cat([second, first, rest], -1), self.sin).to(x.dtype)

    def rows(self, rows: slice) -> "Turn":
        """For some of the rows of x [N, ..., D]."""
        return Turn(self.cos[rows], self.sin[rows], self.half)


def turn(cos: torch.Tensor, sin: torch.Tensor, size: int, factor: torch.Tensor | None = None) -> Turn:
    """For rotations [..., X / 2] of heads of `size`, in the half-split layout; `factor` [..., 1] is in them already."""
    half = cos.shape[-1]
    rest = cos.new_ones(*cos.shape[:-1], size - 2 * half)
    rest = rest if factor is None else rest * factor
    cos, sin = torch.cat([cos, cos, rest], -1), torch.cat([-sin, sin, torch.zeros_like(rest)], -1)
    return Turn(cos.unsqueeze(-2), sin.unsqueeze(-2), half)
