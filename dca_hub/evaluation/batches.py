"""Which prompts are answered together: as many of like length as a GPU has room for."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from dca_hub.devices import free_bytes
from dca_hub.loading import Loaded
from dca_hub.memory import Architecture

MOST = 32  # prompts of a batch that is chosen by itself
_SHARE = 0.4  # of a GPU's free memory, for the cache of a batch: it is copied as it grows
Item = TypeVar("Item")


@dataclass(frozen=True)
class Room:
    """How many prompts of a length can be answered at once. `most` is what was asked for: None for as many as fit on a
    GPU, and one at a time elsewhere, where several take as long as one after another."""

    loaded: Loaded
    most: int | None = None

    def rows(self, length: int) -> int:
        """`length` is in tokens, the answer included."""
        if self.most is not None:
            return self.most
        device = self.loaded.device
        if device.type != "cuda":
            return 1
        numbers = Architecture.from_config(self.loaded.source.config)
        row = numbers.cache_bytes_per_token(self.loaded.model.dtype) * length
        return max(1, min(MOST, int(_SHARE * free_bytes(str(device)) / row)))


def grouped(
    items: Sequence[Item], key: Callable[[Item], Hashable], rows: Callable[[Hashable], int]
) -> Iterator[list[Item]]:
    """Neighbours of one key, in lists of at most `rows` of that key."""
    chosen: list[Item] = []
    most = 1
    for item in items:
        if chosen and (key(item) != key(chosen[0]) or len(chosen) >= most):
            yield chosen
            chosen = []
        if not chosen:
            most = rows(key(item))
        chosen.append(item)
    if chosen:
        yield chosen
