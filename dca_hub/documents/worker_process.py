"""The worker process, seen from outside: started fresh, listened to, and ended at the latest when its time is up."""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from dca_hub.documents.failures import Reason
from dca_hub.documents.limits import Limits
from dca_hub.documents.worker import OUT_OF_MEMORY, REQUEST

_TICK = 0.1
_LONGEST = 4096  # characters of a string in a request: a system refuses to start a process with a long environment
_OVERHEAD = 64 << 20  # bytes that a worker may send besides four a character: page images, JSON
_ROOT = Path(__file__).resolve().parents[2]
# The worker parses what strangers made: it gets no token, no home and no programs to run.
_PASSED_ON = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR")


class Overrun(Exception):
    """The worker was ended, or ended itself, for this reason; `DocumentError` puts it into words."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Crashed(Overrun):
    """A library died in the worker, which a damaged file can bring about."""

    def __init__(self) -> None:
        super().__init__(Reason.DAMAGED)


def run_worker(
    request: dict[str, Any],
    file: BinaryIO,
    limits: Limits,
    on_reply: Callable[[dict[str, Any]], None],
    on_wait: Callable[[], None] = lambda: None,
) -> None:
    """Runs `request` over the open `file`, calling `on_reply` for each reply and `on_wait` every 0.1 s in between.

    Returns when the worker has said that it is done. Whatever a callback raises ends the worker at once and passes
    through. Raises Overrun, or RuntimeError when the worker cannot even start (a broken installation).
    """
    with tempfile.TemporaryFile() as complaints:
        process = _start(request, file, limits, complaints)
        lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        pump = threading.Thread(target=_pump, args=(process.stdout, lines, limits), daemon=True)
        pump.start()
        try:
            if not _follow(lines, time.monotonic() + limits.seconds, on_reply, on_wait):
                raise _ending(process, complaints)
        finally:
            process.kill()
            process.wait()
            pump.join()
            process.stdout.close()


def _start(request: dict[str, Any], file: BinaryIO, limits: Limits, complaints: BinaryIO) -> subprocess.Popen[bytes]:
    # The request travels in the environment: unlike an argument, it does not show a password to other users.
    environment = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
    request = {key: value[:_LONGEST] if isinstance(value, str) else value for key, value in request.items()}
    environment |= {"PATH": "", "PYTHONUTF8": "1", REQUEST: json.dumps({**request, "limits": asdict(limits)})}
    # In the package's own root, -m finds dca_hub from a checkout too and no module that lies in the caller's folder.
    return subprocess.Popen(
        [sys.executable, "-m", "dca_hub.documents.worker"],
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=complaints,
        cwd=_ROOT,
        env=environment,
    )


def _pump(pipe: BinaryIO, lines: "queue.SimpleQueue[bytes]", limits: Limits) -> None:
    """Moves lines from the pipe to the queue; b"" ends them. A flood is cut off: the worker then counts as dead."""
    left = _OVERHEAD + 8 * limits.characters
    while left > 0 and (line := pipe.readline(left)):
        left -= len(line)
        lines.put(line)
    lines.put(b"")


def _follow(lines: "queue.SimpleQueue[bytes]", deadline: float, on_reply: Callable, on_wait: Callable) -> bool:
    """True once the worker is done, False if its replies ended before that."""
    while True:
        on_wait()
        if time.monotonic() > deadline:
            raise Overrun(Reason.TOO_SLOW)
        try:
            line = lines.get(timeout=_TICK)
        except queue.Empty:
            continue
        if not line.endswith(b"\n"):
            return False
        reply = json.loads(line)
        if reply["kind"] == "done":
            return True
        on_reply(reply)


def _ending(process: subprocess.Popen[bytes], complaints: BinaryIO) -> Exception:
    """What a worker died of that was not asked to."""
    try:
        status = process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        return Overrun(Reason.TOO_COMPLEX)  # it flooded the pipe and still runs
    if status == -getattr(signal, "SIGXCPU", 24):
        return Overrun(Reason.TOO_SLOW)
    if status == OUT_OF_MEMORY or status == -getattr(signal, "SIGKILL", 9):
        return Overrun(Reason.TOO_MUCH_MEMORY)
    if status < 0:
        return Crashed()
    complaints.seek(0)
    tail = complaints.read()[-2000:].decode("utf-8", "replace")
    return RuntimeError(f"the document worker ended with status {status}:\n{tail}")
