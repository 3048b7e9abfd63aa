"""How far loading a model is, told while it goes on: bytes on their way from the Hub, then tensors put in place."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from tqdm.std import tqdm

_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Progress:
    """`done` of `total`: bytes while `stage` is "downloading", tensors while it is "loading"."""

    stage: Literal["downloading", "loading"]
    done: int
    total: int


# Called every so often; whatever it raises ends the work at once and passes through.
Report = Callable[[Progress], None]


@contextmanager
def tensors_told(report: Report | None) -> Iterator[None]:
    """Within it, a model that this thread loads is reported tensor by tensor.

    The library's hook for its progress bars is the one place where it hands control back between tensors. The hook is
    the whole process's: bars of other threads stay what they were, and two loads do not overlap.
    """
    if report is None:
        yield
        return
    from transformers.utils import logging

    own = threading.get_ident()

    def bar(factory: Callable[..., Any], args: tuple, options: dict[str, Any]) -> Any:
        if threading.get_ident() != own or not args:
            return factory(*args, **options)
        return _Told(args[0], report)

    with _one_at_a_time:
        before = logging.set_tqdm_hook(bar)
        try:
            yield
        finally:
            logging.set_tqdm_hook(before)


class _Told(tqdm):
    """A bar that is not drawn but told."""

    def __init__(self, items: Iterable, report: Report):
        super().__init__(items, disable=True)
        self._report = report

    def __iter__(self) -> Iterator[Any]:
        for done, item in enumerate(self.iterable):
            self._report(Progress("loading", done, self.total or done + 1))
            yield item
