"""What a needle test asks: lengths, depths, trials. Needs neither torch nor transformers."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from dca_hub.errors import DcaHubError

Style = Literal["authors", "chat", "plain"]
STYLES: tuple[Style, ...] = ("authors", "chat", "plain")


@dataclass(frozen=True)
class Grid:
    """What is asked: lengths in tokens (the answer's room included), depths from 0 (beginning) to 1, trials a cell,
    how many needles a prompt holds, and how it is laid out: in the model's chat format by default, where it has one.
    The haystack `pairs` is keys and values in place of a text.

    Raises DcaHubError for an empty grid, or numbers out of range.
    """

    lengths: tuple[int, ...]
    depths: tuple[float, ...]
    trials: int = 1
    haystack: str = "prose"
    seed: int = 0
    needles: int = 1
    style: Style | None = None

    def __post_init__(self):
        if not self.lengths or not self.depths or self.trials < 1:
            raise DcaHubError("A needle test needs at least one length, one depth and one trial.")
        if min(self.lengths) < 1 or any(not 0 <= depth <= 1 for depth in self.depths):
            raise DcaHubError("Lengths must be positive numbers of tokens, and depths must be from 0 to 1.")
        if self.style not in (None, *STYLES):
            raise DcaHubError(f"The style must be one of {', '.join(STYLES)}, not {self.style!r}.")
        object.__setattr__(self, "lengths", tuple(sorted(set(self.lengths))))
        object.__setattr__(self, "depths", tuple(sorted(set(self.depths))))

    @property
    def prompts(self) -> int:
        return len(self.lengths) * len(self.depths) * self.trials

    def trial_keys(self) -> Iterator[tuple[int, float, int]]:
        """(length, depth, trial) of every prompt, short ones first."""
        return ((n, d, t) for n in self.lengths for d in self.depths for t in range(self.trials))


def spread(count: int) -> tuple[float, ...]:
    """That many depths from 0 to 1, evenly; a single one is the middle."""
    return (0.5,) if count == 1 else tuple(round(step / (count - 1), 4) for step in range(count))


def at_random(count: int, seed: int) -> tuple[float, ...]:
    """That many depths anywhere from 0 to 1, the same for the same seed."""
    rng = random.Random(f"depths {seed}")
    return tuple(sorted(round(rng.random(), 4) for _ in range(count)))
