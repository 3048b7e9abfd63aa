"""Keys and values in the pages of a cache: where they are written, and copies for a request with many queries.

A cache is [pages, G, 2, P, D]: of each page, for each of G heads, P keys and P values.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class PageShape:
    """What a page holds: for each of `heads` heads, the keys and the values of `tokens` tokens, of `size` numbers."""

    tokens: int
    heads: int
    size: int
    dtype: torch.dtype

    @property
    def half(self) -> int:
        """The bytes of its keys, and of its values."""
        return self.tokens * self.heads * self.size * self.dtype.itemsize


@dataclass(frozen=True)
class SlotIndices:
    """Where the keys and the values of a step's tokens go, as vectors of a cache; `kept` are the tokens that go
    somewhere, or None for all."""

    keys: torch.Tensor
    values: torch.Tensor
    kept: torch.Tensor | None


def slot_indices(slots: torch.Tensor, page: PageShape) -> SlotIndices:
    """The vectors of tokens with the slots [N], counted in tokens from the first page on; negative ones are padding."""
    kept = (slots >= 0).nonzero()[:, 0]
    found = slots[kept].long()
    vector = (found // page.tokens * page.heads).unsqueeze(1) + torch.arange(page.heads)
    keys = (vector * (2 * page.tokens) + (found % page.tokens).unsqueeze(1)).flatten()
    return SlotIndices(keys, keys + page.tokens, kept if len(kept) < len(slots) else None)


def write(cache: torch.Tensor, to: SlotIndices, key: torch.Tensor, value: torch.Tensor) -> None:
    """Puts keys and values [N, G, D] at their slots."""
    if to.kept is not None:
        key, value = key[to.kept], value[to.kept]
    vectors = cache.view(-1, cache.shape[-1])
    vectors.index_copy_(0, to.keys, key.flatten(0, 1))
    vectors.index_copy_(0, to.values, value.flatten(0, 1))


def read(cache: torch.Tensor, pages: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Copies of the keys and values of a request of `length` tokens, [1, G, length, D] each, by its pages in order."""
    heads, _, size, width = cache.shape[1:]
    blocks = cache.view(-1, size * width)
    first = (pages * heads + torch.arange(heads).unsqueeze(1)) * 2
    keys, values = (blocks.index_select(0, (first + kind).flatten()).view(1, heads, -1, width) for kind in (0, 1))
    return keys[:, :, :length], values[:, :, :length]
