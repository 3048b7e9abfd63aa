"""What this machine can run: which models fit into its memory, and how long they take to read."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from dca_hub.catalogue import Entry
from dca_hub.devices import free_bytes
from dca_hub.pace import Pace
from dca_hub.precision import choose_precision

_SIDE = 1024  # of the matrices whose product is timed
_SECONDS = 0.15
_READ = 8_192  # tokens of cache for which there must be room beside the weights
_SPARE = 0.9  # of the free memory
_QUICK, _PATIENCE = 5.0, 30.0  # seconds for 1,000 tokens: up to which a model is quick, and may be recommended at all


@dataclass
class Machine:
    """One device, with the bytes that the loaded model would leave on it, and what is known of how quickly models read
    here, by name."""

    device: str
    dtype: str = ""
    freed: int = 0
    paces: Mapping[str, Pace] = field(default_factory=dict)
    _speeds: dict[torch.dtype, float] = field(default_factory=dict)

    def runs_in(self, entry: Entry) -> torch.dtype:
        """The dtype of a model's weights here, which for a small one on a CPU is wider than that of its files."""
        if self.dtype not in ("", "auto"):
            return getattr(torch, self.dtype)
        return choose_precision(getattr(torch, entry.dtype), entry.parameters, self.device).dtype

    def needs(self, entry: Entry) -> int:
        """Bytes of the weights and of a cache for a document of some pages."""
        dtype = self.runs_in(entry)
        return entry.weights_bytes(dtype) + _READ * entry.cache_bytes_per_token(dtype)

    def fits(self, entry: Entry) -> bool:
        return self.needs(entry) <= _SPARE * free_bytes(self.device) + self.freed

    def seconds(self, entry: Entry) -> float:
        """How long reading 1,000 tokens takes: measured, or about, by the products of matrices that this machine was
        timed at."""
        measured = self.measured(entry)
        if measured is not None:
            return measured
        return 1000 * entry.architecture.operations_per_token / self._speed(self.runs_in(entry))

    def measured(self, entry: Entry) -> float | None:
        """The seconds for 1,000 tokens, by what the model has read here; None where that is not enough to say."""
        pace = self.paces.get(entry.name)
        return pace.seconds(0, 1000) if pace else None

    def recommended(self, entries: list[Entry]) -> Entry | None:
        """Of the models for questions that fit, the largest quick one, or else the quickest, if it does not take too
        long; None where there is none."""
        able = [
            e for e in entries if e.kind == "chat" and not e.is_local and not e.gated and self.fits(e)
            and self.seconds(e) <= _PATIENCE
        ]  # fmt: skip
        quick = [entry for entry in able if self.seconds(entry) <= _QUICK]
        if quick:
            return max(quick, key=lambda entry: entry.parameters)
        return min(able, key=self.seconds, default=None)

    def sorted(self, entries: list[Entry]) -> tuple[list[Entry], list[Entry]]:
        """Those that fit, the quickest first, and those that do not, the smallest first."""
        fitting = [entry for entry in entries if self.fits(entry)]
        others = [entry for entry in entries if entry not in fitting]
        return sorted(fitting, key=self.seconds), sorted(others, key=self.needs)

    def _speed(self, dtype: torch.dtype) -> float:
        """Operations a second."""
        if dtype not in self._speeds:
            device = torch.device("cuda" if self.device == "auto" and torch.cuda.is_available() else self.device)
            matrix, done = torch.ones(_SIDE, _SIDE, device=device, dtype=dtype), 0
            float((matrix @ matrix)[0, 0])  # what is prepared once
            begun = time.monotonic()
            while time.monotonic() - begun < _SECONDS:
                float((matrix @ matrix)[0, 0])
                done += 1
            self._speeds[dtype] = done * 2 * _SIDE**3 / (time.monotonic() - begun)
        return self._speeds[dtype]
