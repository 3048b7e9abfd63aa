"""What long work is given to call: how far it is, and what it says; how far loading a model is; how long is left."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

# Called with (done, total); whatever it raises ends the work and passes through.
OnProgress = Callable[[int, int], None]
# Called with a sentence for whoever waits.
OnMessage = Callable[[str], None]


@dataclass(frozen=True)
class LoadProgress:
    """How far loading is. `done` of `total`: bytes while `stage` is "downloading", tensors while it is "loading"."""

    stage: Literal["downloading", "loading"]
    done: int
    total: int


# As `OnProgress`, while a model is fetched and loaded.
OnLoadProgress = Callable[[LoadProgress], None]


def about(seconds: float) -> str:
    """An estimated time for people, rounded: 40 s, 3 min, 1 h 20 min."""
    if seconds < 55:
        return f"{max(1, round(seconds) if seconds < 10 else 5 * round(seconds / 5))} s"
    minutes = max(1, round(seconds / 60))
    hours, minutes = (minutes // 60, minutes % 60) if minutes < 600 else (round(minutes / 60), 0)
    return " ".join([*([f"{hours:,} h"] if hours else []), *([f"{minutes} min"] if minutes else [])])
