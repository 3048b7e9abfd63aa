"""What long work is given to call: how far it is, and what it says; and how far loading a model is."""

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
