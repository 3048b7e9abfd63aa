"""A cache that grows without being copied at every token, for decoding after a long text, in 16 bits or in 8."""

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class GrowingLayer(DynamicLayer):
    """A `DynamicLayer` whose keys and values are views of larger tensors, grown by a sixteenth when full: a
    token is written, where `DynamicLayer` copies all that came before it."""

    _held: tuple[torch.Tensor, torch.Tensor] | None = None  # the larger tensors
    _reserved = 0

    def reserve(self, tokens: int) -> None:
        """Makes room for so many tokens in all, once, when the cache next grows."""
        self._reserved = tokens

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        if torch.is_grad_enabled() and (key_states.requires_grad or value_states.requires_grad):
            return super().update(key_states, value_states, *args, **kwargs)  # what is written over has no gradient
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        length = self.get_seq_length()
        end = length + key_states.shape[-2]
        if not self._continues(length, end):
            self._held = self._grown(self.keys, key_states, end), self._grown(self.values, value_states, end)
        assert self._held is not None
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
            x is not None and x.data_ptr() == held.data_ptr() and x.stride() == held.stride()
            for x, held in zip(current, self._held)
        )

    def _grown(self, current: torch.Tensor | None, new: torch.Tensor, end: int) -> torch.Tensor:
        """A first call gets what it needs and a little more; one that grows, a sixteenth more as well. What is reserved
        is enough if all fits in it."""
        length = current.shape[-2] if current is not None and current.numel() else 0
        capacity = self._reserved if self._reserved >= end else end + (end // 16 if length else 0) + 256
        grown = new.new_empty(*new.shape[:-2], capacity, new.shape[-1])
        if current is not None and length:
            grown[..., :length, :] = current
        return grown

    def __copy__(self) -> "GrowingLayer":
        """A layer of the same keys and values. Neither writes into the tensors they share from here on: what one cuts
        off and writes anew, the other still sees."""
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        self._held = other._held = None
        return other

    def offload(self):
        self._held = None
        super().offload()

    def reset(self) -> None:
        self._held = None
        super().reset()


class EightBitLayer(GrowingLayer):
    """A `GrowingLayer` that holds each key and value as 8-bit whole numbers and one float32 scale, in about half the
    memory of bfloat16. A call gets them all in the dtype they came in, each number within 1/254 of its row's largest.

    What is held, in place of [B, G, K, D], are bytes [B, G, K, D + 4]: all that a cache does to its tensors it does to
    them. Without gradients.
    """

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        if torch.is_grad_enabled() and (key_states.requires_grad or value_states.requires_grad):
            raise ValueError("an 8-bit cache has no gradients: use a 16-bit one, or torch.no_grad().")
        keys, values = super().update(_packed(key_states), _packed(value_states), *args, **kwargs)
        return _unpacked(keys, key_states), _unpacked(values, value_states)


def _packed(x: torch.Tensor) -> torch.Tensor:
    """[..., D] as int8 [..., D + padding + 4]: the numbers in steps of a row's scale, and that scale's four bytes."""
    wide = x.float()
    scale = wide.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / 127
    numbers = (wide / scale).round_().to(torch.int8)
    return torch.cat([torch.nn.functional.pad(numbers, (0, -x.shape[-1] % 4)), scale.view(torch.int8)], dim=-1)


def _unpacked(packed: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The inverse of `_packed`, in the size and dtype of `like`."""
    numbers, scale = packed[..., : like.shape[-1]], packed[..., -4:].view(torch.float32)
    # Multiplied in float32 and rounded once, without a float32 tensor of the whole on a GPU.
    return torch.mul(numbers, scale, out=torch.empty(numbers.shape, dtype=like.dtype, device=like.device))


class GrowingCache(DynamicCache):
    """A `DynamicCache` whose full-attention layers are `GrowingLayer`s. To be given to a model or to `generate()`.

    Args:
        bits: of each number; 8 makes them `EightBitLayer`s.

    Raises ValueError for other bits than 16 (the model's own dtype) and 8.
    """

    def __init__(self, config=None, bits: int = 16):
        if bits not in (8, 16):
            raise ValueError(f"a cache must have 8 or 16 bits a number, not {bits!r}.")
        super().__init__(config=config)
        kind = EightBitLayer if bits == 8 else GrowingLayer
        self.layers = [kind() if type(layer) is DynamicLayer else layer for layer in self.layers]
        if self.layer_class_to_replicate is DynamicLayer:
            self.layer_class_to_replicate = kind

    def reserve(self, tokens: int) -> None:
        """Makes room for so many tokens in all at once, so that a text of known length is never copied."""
        for layer in self.layers:
            if isinstance(layer, GrowingLayer):
                layer.reserve(tokens)
