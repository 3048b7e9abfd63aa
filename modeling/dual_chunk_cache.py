"""A cache that grows without being copied at every token, for decoding after a long text."""

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class GrowingLayer(DynamicLayer):
    """A `DynamicLayer` whose keys and values are views of larger tensors, grown by a sixteenth when full: a
    token is written, where `DynamicLayer` copies all that came before it."""

    _held: tuple[torch.Tensor, torch.Tensor] | None = None  # the larger tensors

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        if torch.is_grad_enabled() and (key_states.requires_grad or value_states.requires_grad):
            return super().update(key_states, value_states, *args, **kwargs)  # what is written over has no gradient
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        length = self.get_seq_length()
        end = length + key_states.shape[-2]
        if not self._continues(length, end):
            self._held = tuple(
                self._grown(x, new, end) for x, new in ((self.keys, key_states), (self.values, value_states))
            )
        for held, new in zip(self._held, (key_states, value_states)):
            held[..., length:end, :] = new
        self.keys, self.values = (held[..., :end, :] for held in self._held)
        return self.keys, self.values

    def _continues(self, length: int, end: int) -> bool:
        """Whether the larger tensors have room, and still are what keys and values are views of: to reorder, repeat or
        move them makes new ones."""
        if self._held is None or self._held[0].shape[-2] < end:
            return False
        current = (self.keys, self.values)
        return all(
            x.data_ptr() == held.data_ptr() and x.stride() == held.stride() for x, held in zip(current, self._held)
        )

    @staticmethod
    def _grown(current: torch.Tensor, new: torch.Tensor, end: int) -> torch.Tensor:
        """A first call gets what it needs and a little more; one that grows, a sixteenth more as well."""
        length = current.shape[-2] if current.numel() else 0
        capacity = end + (end // 16 if length else 0) + 256
        grown = new.new_empty(*new.shape[:-2], capacity, new.shape[-1])
        if length:
            grown[..., :length, :] = current
        return grown

    def __copy__(self) -> "GrowingLayer":
        """A layer of the same keys and values. Neither writes into the tensors they share from here on: what one cuts
        off and writes anew, the other still sees."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        self._held = other._held = None
        return other

    def offload(self):
        self._held = None
        super().offload()

    def reset(self) -> None:
        self._held = None
        super().reset()


class GrowingCache(DynamicCache):
    """A `DynamicCache` whose full-attention layers are `GrowingLayer`s. To be given to a model or to `generate()`."""

    def __init__(self, config=None):
        super().__init__(config=config)
        self.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in self.layers]
        if self.layer_class_to_replicate is DynamicLayer:
            self.layer_class_to_replicate = GrowingLayer
