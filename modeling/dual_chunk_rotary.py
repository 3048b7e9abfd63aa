"""The rotary wrapper of a DCA model: the base model's own frequencies, at positions within the chunk."""

import torch
from torch import nn
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from .dual_chunk_geometry import DualChunkGeometry


class DualChunkRotary(nn.Module):
    """Rotates queries and keys at `position mod s`, with the cosines and sines of the rotary module it wraps.

    Dynamic NTK scaling picks its frequencies by the length of the sequence. The length comes with the positions
    (`with_length`), and the wrapped module's memory of earlier lengths is cleared at each call: nothing outlives it.
    """

    def __init__(self, inner: nn.Module, geometry: DualChunkGeometry):
        super().__init__()
        self.inner = inner
        self.geometry = geometry

    @property
    def is_dynamic(self) -> bool:
        return "dynamic" in str(self.inner.rope_type)

    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin for x, [B or 1, Q, R] each; a factor that the model puts on them (YaRN) is in both."""
        within = position_ids % self.geometry.chunk_length
        if not self.is_dynamic:
            return self.inner(x, within)
        length = getattr(position_ids, "sequence_length", None) or int(position_ids.max()) + 1
        self._forget()
        # The wrapped module reads the length off the largest position it is given.
        longest = within.new_full((*within.shape[:-1], 1), length - 1)
        cos, sin = self.inner(x, torch.cat([within, longest], dim=-1))
        self._forget()
        return cos[..., :-1, :], sin[..., :-1, :]

    def inverse_frequencies(self, length: int) -> torch.Tensor:
        """[R / 2] radians per token, for a sequence of `length` tokens."""
        if not self.is_dynamic:
            return self.inner.inv_freq
        config, device = self.inner.config, self.inner.inv_freq.device
        if length <= self.inner.original_max_seq_len:
            return self.inner.original_inv_freq.to(device)  # inv_freq may still be that of a longer, plain call
        return ROPE_INIT_FUNCTIONS[self.inner.rope_type](config, device, seq_len=length)[0]

    def _forget(self) -> None:
        self.inner.max_seq_len_cached = self.inner.original_max_seq_len
        self.inner.inv_freq = self.inner.original_inv_freq.to(self.inner.inv_freq.device)


def with_length(position_ids: torch.Tensor, length: int) -> torch.Tensor:
    """The same positions, carrying the length of the whole sequence to the rotary module."""
    position_ids.sequence_length = length
    return position_ids
