"""What app.py does: read the settings, build the interface, serve it until Ctrl-C, SIGTERM or SIGHUP."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from dca_hub.errors import DcaHubError
from dca_hub.processor import settle_threads
from dca_hub.space import zero  # noqa: F401  (before torch, as ZeroGPU asks)
from dca_hub.space.leftovers import upload_folder
from dca_hub.space.settings import FILE, read


def main(folder: Path) -> int:
    """Runs the Space whose own settings file, if there is one, is in `folder`; gives the exit code."""
    settle_threads()
    try:
        settings = read(file=folder / FILE)
        with _ended_by_signals(), upload_folder():
            # Torch and the rest are loaded only now, so that --help and a wrong option answer at once.
            from dca_hub import sources
            from dca_hub.space.build import build, serve

            if settings.gguf_file:
                settings = replace(settings, model=sources.gguf_path(settings.model, settings.gguf_file))
            blocks, context = build(settings)
            try:
                context.answers.read_example()
                serve(blocks, context)
            finally:
                context.close()
                blocks.close(verbose=False)
    except DcaHubError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 2
    except _Ended as ended:
        return 128 + ended.signal
    return 0


class _Ended(BaseException):
    def __init__(self, number: int):
        self.signal = number


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """What hosts send to end a program ends it as an exception does: visitors' files are deleted on the way out."""

    def end(number: int, frame) -> None:
        for other in handled:  # a second one must not interrupt the cleaning
            signal.signal(other, signal.SIG_IGN)
        raise _Ended(number)

    handled = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, end) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
