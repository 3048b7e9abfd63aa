"""The worker process: one request from the environment, one PDF on standard input, one line of JSON a reply.

Replies: {"kind": "open", "pages": N, "chosen": M}, {"kind": "page", "number": n, "text": ..., "problem": ...},
{"kind": "image", "png": base64, "marked": bool}, {"kind": "failed", "reason": ..., ...} and {"kind": "done"}.
"""

import io
import json
import logging
import math
import os
import signal
import sys
from typing import Any

from dca_hub.documents.failures import Reason
from dca_hub.documents.limits import Limits
from dca_hub.documents.ranges import BadRange

REQUEST = "DCA_HUB_DOCUMENT_REQUEST"
OUT_OF_MEMORY = 77  # the exit status of a worker that has no memory left to say so


def send(kind: str, **facts: Any) -> None:
    sys.stdout.write(json.dumps({"kind": kind, **facts}, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def confine(limits: Limits) -> None:
    """Bounds on this process, from here on and for good."""
    try:
        import resource
    except ImportError:  # Windows: the parent's clock is the only bound
        return
    cpu = math.ceil(limits.seconds)
    wanted = {
        "RLIMIT_AS": (limits.memory_bytes, limits.memory_bytes),
        "RLIMIT_CPU": (cpu, cpu + 1),
        "RLIMIT_FSIZE": (1 << 16, 1 << 16),  # a traceback, and nothing else
        "RLIMIT_CORE": (0, 0),
    }
    for name, bounds in wanted.items():
        try:
            resource.setrlimit(getattr(resource, name), bounds)
        except (AttributeError, ValueError, OSError):  # a limit that this system lacks, or a stricter one in force
            continue


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent too, which then ends this process
    request = json.loads(os.environ.pop(REQUEST))
    limits = Limits(**request.pop("limits"))
    logging.disable()  # pypdf warns about every oddity of a file; the pages tell enough
    # Imported before the limits are set: Python may then still write its bytecode cache.
    if request.pop("task") == "render":
        from dca_hub.documents.draw import answer
    else:
        from dca_hub.documents.extract import answer
    confine(limits)
    try:
        answer(io.BytesIO(sys.stdin.buffer.read(limits.file_bytes)), request, limits, send)
    except MemoryError:
        send("failed", reason=Reason.TOO_MUCH_MEMORY)
    except BadRange as error:
        send("failed", reason=Reason.BAD_PAGE_RANGE, asked=error.asked)
    send("done")


if __name__ == "__main__":
    try:
        main()
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
