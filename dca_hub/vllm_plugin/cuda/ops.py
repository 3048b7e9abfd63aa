"""What the CUDA backend does to the rows of a step around its attention calls: the operations, whoever computes them.

Two modules are such a namespace: `reference` in PyTorch, to read and to compare with, and `triton_kernels`, to run.
Shapes: N tokens of a step, F queries of the relations other than intra ("cross"), H query heads, G key/value heads, D
head size, R requests of one token each, W pages of a request.
"""

from dataclasses import dataclass
from typing import Protocol

import torch

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.vllm_plugin.rotary_table import RotaryTable


@dataclass(frozen=True)
class Rows:
    """The rows of a step, int32 [N] each: where a token stands in its request, and which of the F cross queries it has
    in the successive and in the inter relation, or -1 where it has none. Where both relations rotate a query alike, one
    cross query serves both and is counted as inter."""

    positions: torch.Tensor
    successive: torch.Tensor
    inter: torch.Tensor


class Kernels(Protocol):
    """The operations; `reference` documents each."""

    def rotate_queries(
        self, query: torch.Tensor, rows: Rows, cross: int, table: RotaryTable, geometry: DualChunkGeometry
    ) -> torch.Tensor: ...

    def write_keys(
        self,
        key: torch.Tensor,
        value: torch.Tensor,
        cache: tuple[torch.Tensor, torch.Tensor],
        slots: torch.Tensor,
        positions: torch.Tensor,
        table: RotaryTable,
        geometry: DualChunkGeometry,
    ) -> None: ...

    def merge(
        self,
        output: torch.Tensor,
        intra: torch.Tensor,
        intra_lse: torch.Tensor,
        cross: torch.Tensor,
        cross_lse: torch.Tensor,
        rows: Rows,
    ) -> None: ...

    def lay_out_decode(
        self,
        lengths: torch.Tensor,
        block_table: torch.Tensor,
        geometry: DualChunkGeometry,
        page_size: int,
        rows: Rows,
        starts: torch.Tensor,
        key_lengths: torch.Tensor,
        pages: torch.Tensor,
        all_have: bool,
    ) -> None: ...

    def gather(self, cache: tuple[torch.Tensor, torch.Tensor], pages: torch.Tensor, copy: torch.Tensor) -> None: ...


def pages_of(block_table: torch.Tensor, request: torch.Tensor, first: torch.Tensor, count: int) -> torch.Tensor:
    """`count` pages of each sequence's request [P], from its `first` [P] on; what is beyond its keys is never read."""
    wanted = first.unsqueeze(1) + torch.arange(count, device=block_table.device)
    return block_table[request.unsqueeze(1), wanted.clamp(max=block_table.shape[1] - 1)]
