"""Queries and keys reach vLLM's attention rotated at their absolute position: what rotates them from
there to where DCA has them.

Everything is taken from the model's own table of cosines and sines: whatever scaling made it (YaRN's factor included)
is in both the vector and the rotation, and the table's rounding cancels. Shapes: N tokens, R rotated dimensions.
"""

from dataclasses import dataclass

import torch

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_rotation import logit_factors, query_positions

CosSin = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class StepRotations:
    """The rotations of the N tokens of one step from their absolute position, all float32.

    `by_relation` takes queries to their position in each of the three relations: cos and sin, [3, N, R / 2], without
    temperature; `in_chunk`, [N, R / 2], takes keys, and queries of the intra relation, to their position in the chunk.
    `factor` is the temperature [N, 1], or None where there is none.
    """

    by_relation: CosSin
    factor: torch.Tensor | None

    @property
    def in_chunk(self) -> CosSin:
        return self.by_relation[0][0], self.by_relation[1][0]

    def factor_of(self, rows: slice | torch.Tensor) -> torch.Tensor | None:
        return None if self.factor is None else self.factor[rows]


class RotaryTable:
    """A model's cosines and sines by position, float32 [N, R / 2] each, in the half-split layout."""

    def __init__(self, cos_sin: torch.Tensor):
        self.cos_sin = cos_sin

    def at(self, positions: torch.Tensor) -> CosSin:
        return self.cos_sin[positions].float().chunk(2, dim=-1)

    def between(self, source: torch.Tensor, target: torch.Tensor) -> CosSin:
        """The rotation of a vector from one position to another; exactly the identity where they agree."""
        (c, s), (c_to, s_to) = self.at(source), self.at(target)
        squared = c * c + s * s
        same = (source == target).unsqueeze(-1)
        cos = torch.where(same, 1.0, (c_to * c + s_to * s) / squared)
        return cos, torch.where(same, 0.0, (s_to * c - c_to * s) / squared)

    def step(self, positions: torch.Tensor, geometry: DualChunkGeometry) -> StepRotations:
        """The rotations for tokens at absolute positions [N]."""
        rotations = [self.between(positions, target) for target in query_positions(positions, geometry)]
        cos, sin = (torch.stack(parts) for parts in zip(*rotations))
        return StepRotations((cos, sin), logit_factors(positions, geometry, torch.float32))
