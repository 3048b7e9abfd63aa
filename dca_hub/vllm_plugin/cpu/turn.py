"""Rotations made once a step for what each layer does with them."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Turn:
    """Rotates [..., D] in few operations: `cos`, `sin` [..., 1, D], and where to find the `other` of each pair [D]."""

    cos: torch.Tensor
    sin: torch.Tensor
    other: torch.Tensor

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        return torch.addcmul(wide * self.cos, wide.index_select(-1, self.other), self.sin).to(x.dtype)

    def rows(self, rows: slice) -> "Turn":
        """For some of the rows of x [N, ..., D]."""
        return Turn(self.cos[rows], self.sin[rows], self.other)


def turn(cos: torch.Tensor, sin: torch.Tensor, size: int, factor: torch.Tensor | None = None) -> Turn:
    """For rotations [..., X / 2] of heads of `size`, in the half-split layout; `factor` [..., 1] is in them already."""
    half = cos.shape[-1]
    rest = cos.new_ones(*cos.shape[:-1], size - 2 * half)
    rest = rest if factor is None else rest * factor
    cos, sin = torch.cat([cos, cos, rest], -1), torch.cat([-sin, sin, torch.zeros_like(rest)], -1)
    at = torch.arange(size)
    return Turn(cos.unsqueeze(-2), sin.unsqueeze(-2), torch.cat([at[half : 2 * half], at[:half], at[2 * half :]]))
