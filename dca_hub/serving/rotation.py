"""Queries and keys reach vLLM's attention rotated at their absolute position; what turns them to where DCA has them.

Everything is taken from the model's own table of cosines and sines: whatever scaling made it (YaRN's factor included)
is in both the vector and the turn, and the table's rounding cancels. Shapes: N tokens, R rotated dimensions.
"""

from dataclasses import dataclass

import torch
from vllm.model_executor.layers import rotary_embedding

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_rotation import logit_factors, query_positions

Turn = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class StepTurns:
    """The turns of the N tokens of one step, all float32.

    `places` takes queries to where each of the three relations has them: cos and sin, [3, N, R / 2], without
    temperature; `place`, [N, R / 2], does so for keys, and for queries of the intra relation. `factor` is the
    temperature [N, 1], or None where there is none.
    """

    places: Turn
    factor: torch.Tensor | None

    @property
    def place(self) -> Turn:
        return self.places[0][0], self.places[1][0]

    def factor_of(self, rows: slice | torch.Tensor) -> torch.Tensor | None:
        return None if self.factor is None else self.factor[rows]


class RotaryTable:
    """A model's cosines and sines by position, float32 [N, R / 2] each, in the half-split layout."""

    def __init__(self, cos_sin: torch.Tensor):
        self.cos_sin = cos_sin

    def at(self, positions: torch.Tensor) -> Turn:
        return self.cos_sin[positions].float().chunk(2, dim=-1)

    def between(self, source: torch.Tensor, target: torch.Tensor) -> Turn:
        """What turns a vector rotated at one position into the same rotated at another; exactly 1 where they agree."""
        (c, s), (c_to, s_to) = self.at(source), self.at(target)
        squared = c * c + s * s
        same = (source == target).unsqueeze(-1)
        cos = torch.where(same, 1.0, (c_to * c + s_to * s) / squared)
        return cos, torch.where(same, 0.0, (s_to * c - c_to * s) / squared)

    def step(self, positions: torch.Tensor, geometry: DualChunkGeometry) -> StepTurns:
        """The turns for tokens at absolute positions [N]."""
        places = query_positions(positions, geometry)
        turns = [self.between(positions, place) for place in places]
        cos, sin = (torch.stack(parts) for parts in zip(*turns))
        return StepTurns((cos, sin), logit_factors(positions, geometry, torch.float32))


def model_table(model_config, head_size: int, device: torch.device, geometry: DualChunkGeometry) -> RotaryTable:
    """The table that the layers of a loaded model rotate with.

    Raises:
        ValueError: the model rotates in a way of its own, or its table ends before the model length.
    """
    config, made = model_config.hf_config, len(rotary_embedding._ROPE_DICT)
    rope = rotary_embedding.get_rope(
        head_size,
        max_position=config.max_position_embeddings,
        rope_parameters=getattr(config, "rope_parameters", None),
        dtype=model_config.dtype,
    )
    if len(rotary_embedding._ROPE_DICT) != made:
        raise ValueError(
            "this model's layers do not rotate with vLLM's ordinary half-split RoPE, which Dual Chunk Attention needs: "
            "serve it with vLLM's own model class (--model-impl vllm), or with transformers."
        )
    known, needed = len(rope.cos_sin_cache), max(model_config.max_model_len, geometry.chunk_size + 1)
    if known < needed:
        raise ValueError(
            f"the RoPE scaling of this model knows {known:,} positions, and a model length of "
            f"{model_config.max_model_len:,} with chunk_size {geometry.chunk_size:,} needs {needed:,}: choose a "
            "smaller --max-model-len and chunk_size, or a larger factor in rope_parameters."
        )
    return RotaryTable(rope.cos_sin_cache.to(device))
