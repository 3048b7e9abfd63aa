"""The progress bar of the training: steps, loss, speed, time left; and a log of one JSON object a line."""

import json
import sys

import torch
from tqdm import tqdm

from examples.demo_model.loop import Settings
from examples.demo_model.state import Progress


class Meter:
    """Counts in steps, or in seconds where the schedule is set in minutes."""

    def __init__(self, settings: Settings, tokens_a_step: int):
        self._by_time = settings.minutes is not None
        total = round(60 * settings.minutes) if self._by_time else settings.steps
        unit = "s" if self._by_time else "step"
        self._bar = tqdm(total=total, unit=unit, mininterval=1, dynamic_ncols=True)
        self._tokens, self._began = tokens_a_step, None

    def step(self, progress: Progress, loss: torch.Tensor) -> None:
        self._bar.update((round(progress.seconds) if self._by_time else progress.step) - self._bar.n)
        if self._began is None:
            self._began = Progress(progress.step, progress.seconds)
        elif progress.step % 20 == 0:
            # Reading the loss waits for the device, hence not at every step.
            speed = self._tokens * (progress.step - self._began.step) / (progress.seconds - self._began.seconds)
            self._bar.set_postfix(step=progress.step, loss=f"{loss.item():.3f}", tokens_s=f"{speed:,.0f}")

    def note(self, values: dict[str, float]) -> None:
        line = {key: round(value, 4) for key, value in values.items()}
        self._bar.write(json.dumps(line), file=sys.stdout)
        sys.stdout.flush()
