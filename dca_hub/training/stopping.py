"""Ctrl-C in the middle of a training: the step ends, and a checkpoint is written."""

import signal
import time

from accelerate import Accelerator
from transformers import TrainerCallback

_SAME = 2.0  # seconds; torchrun passes on the Ctrl-C of a terminal that its processes have had already


class StopAtStep(TrainerCallback):
    """Makes Ctrl-C end the training after the step it is in, with a checkpoint; a second one ends it at once.

    All processes stop after the same step, whichever of them was told first.
    """

    def __init__(self, accelerator: Accelerator):
        self.asked = False
        self._accelerator, self._told = accelerator, 0.0

    def __enter__(self):
        self._before = signal.signal(signal.SIGINT, self._tell)
        return self

    def __exit__(self, *_):
        signal.signal(signal.SIGINT, self._before)

    def _tell(self, *_):
        if self._told and time.monotonic() - self._told > _SAME:
            raise KeyboardInterrupt
        self._told = self._told or time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):
        if self._told:
            self._accelerator.set_trigger()
        if self._accelerator.check_trigger():
            self.asked = control.should_save = control.should_training_stop = True
