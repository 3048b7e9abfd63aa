"""A cache that grows without being copied at every token, for decoding after a long text, in 16 bits or in 8, on the
device or in the host's memory."""

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class GrowingLayer(DynamicLayer):
    """A `DynamicLayer` whose keys and values are views of larger tensors, grown by a sixteenth when full: a
    token is written, where `DynamicLayer` copies all that came before it.

    An offloading cache (`offloading=True`) moves each layer to the host's memory and back. Of what a layer holds only
    the tokens that are new go there; all of them come back for each call.
    """

    _held: tuple[torch.Tensor, torch.Tensor] | None = None  # the larger tensors
    _host: tuple[torch.Tensor, torch.Tensor] | None = None  # larger tensors in the host's memory
    _on_host = 0  # so many tokens of the host's are what the device has
    _is_away = False  # keys and values are views of the host's
    _reserved = 0
    _last = 0  # tokens of the last call

    def reserve(self, tokens: int) -> None:
        """Makes room for so many tokens in all, once, when the cache next grows."""
        self._reserved = tokens

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        if torch.is_grad_enabled() and (key_states.requires_grad or value_states.requires_grad):
            return super().update(key_states, value_states, *args, **kwargs)  # what is written over has no gradient
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.prefetch()
        length, self._last = self.get_seq_length(), key_states.shape[-2]
        end = length + self._last
        self._on_host = min(self._on_host, length)
        if not self._has_room(self._held, end):
            self._on_host = 0
            self._held = self._grown(self.keys, key_states, end), self._grown(self.values, value_states, end)
        assert self._held is not None
        for held, new in zip(self._held, (key_states, value_states)):
            held[..., length:end, :] = new
        self.keys, self.values = (held[..., :end, :] for held in self._held)
        return self.keys, self.values

    def _has_room(self, larger: tuple[torch.Tensor, torch.Tensor] | None, end: int) -> bool:
        """Whether the larger tensors have room, and still are what keys and values are views of: to reorder, repeat or
        move them makes new ones."""
        if larger is None or larger[0].shape[-2] < end:
            return False
        current = (self.keys, self.values)
        return all(
            x is not None and x.data_ptr() == held.data_ptr() and x.stride() == held.stride()
            for x, held in zip(current, larger)
        )

    def _capacity(self, end: int, grows: bool) -> int:
        """A first call gets what it needs and a little more; one that grows, a sixteenth more as well. What is reserved
        is enough if all fits in it."""
        return self._reserved if self._reserved >= end else end + (end // 16 if grows else 0) + 256

    def _grown(self, current: torch.Tensor | None, new: torch.Tensor, end: int) -> torch.Tensor:
        length = current.shape[-2] if current is not None and current.numel() else 0
        grown = new.new_empty(*new.shape[:-2], self._capacity(end, grows=length > 0), new.shape[-1])
        if current is not None and length:
            grown[..., :length, :] = current
        return grown

    def offload(self) -> None:
        """Moves keys and values to the host's memory."""
        if self.keys is None or self.values is None or self._is_away:
            return
        length, current = self.get_seq_length(), (self.keys, self.values)
        pinned = self.keys.is_cuda  # page-locked memory is copied several times as fast
        if self._host is None or self._host[0].shape[-2] < length or self._host[0].shape[:-2] != self.keys.shape[:-2]:
            size = (*self.keys.shape[:-2], self._capacity(length, grows=self._host is not None), self.keys.shape[-1])
            keys, values = (torch.empty(size, dtype=x.dtype, pin_memory=pinned) for x in current)
            self._host, self._on_host = (keys, values), 0
        elif not self._has_room(self._held, length):
            self._on_host = 0
        for host, x in zip(self._host, current):
            _copy_rows(host, x, self._on_host, length)
        if pinned:
            torch.cuda.current_stream(self.device).synchronize()
        self.keys, self.values = (host[..., :length, :] for host in self._host)
        self._held, self._is_away, self._on_host = None, True, length

    def prefetch(self) -> None:
        """Brings keys and values back to the device, with room for a call like the last."""
        if self.keys is None or self.values is None or not self._is_away:
            return
        length = self.get_seq_length()
        if not self._has_room(self._host, length):
            self._host, self._on_host = None, 0
        size = (*self.keys.shape[:-2], self._capacity(length + self._last, grows=True), self.keys.shape[-1])
        current = (self.keys, self.values)
        keys, values = (torch.empty(size, dtype=x.dtype, device=self.device) for x in current)
        self._held = keys, values
        for held, x in zip(self._held, current):
            _copy_rows(held, x, 0, length)
        self.keys, self.values = (held[..., :length, :] for held in self._held)
        self._is_away = False

    def __copy__(self) -> "GrowingLayer":
        """A layer of the same keys and values. Neither writes into the tensors they share from here on: what one cuts
        off and writes anew, the other still sees."""
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        self._held = other._held = self._host = other._host = None
        self._on_host = other._on_host = 0
        return other

    def reset(self) -> None:
        self._held, self._host, self._on_host, self._is_away = None, None, 0, False
        super().reset()


def _copy_rows(to: torch.Tensor, source: torch.Tensor, begin: int, end: int) -> None:
    """Copies the tokens from `begin` to `end`, a head at a time: a copy between devices is a plain one where both sides
    are contiguous, and otherwise goes through further tensors. The CPU does not wait for it."""
    for mine, its in zip(to.flatten(0, -3), source.flatten(0, -3)):
        mine[begin:end].copy_(its[begin:end], non_blocking=True)


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
        offloading: keep the layers in the host's memory, but for the one that is used and the next. For a CUDA device.

    Raises ValueError for other bits than 16 (the model's own dtype) and 8.
    """

    def __init__(self, config=None, bits: int = 16, offloading: bool = False):
        if bits not in (8, 16):
            raise ValueError(f"a cache must have 8 or 16 bits a number, not {bits!r}.")
        super().__init__(config=config, offloading=offloading)
        kind = EightBitLayer if bits == 8 else GrowingLayer
        self.layers = [kind() if type(layer) is DynamicLayer else layer for layer in self.layers]
        if self.layer_class_to_replicate is DynamicLayer:
            self.layer_class_to_replicate = kind

    def reserve(self, tokens: int) -> None:
        """Makes room for so many tokens in all at once, so that a text of known length is never copied."""
        for layer in self.layers:
            if isinstance(layer, GrowingLayer):
                layer.reserve(tokens)
