"""The folder where Gradio puts uploads: a program's own one, swept while it runs and gone with it.

Gradio deletes uploads too, but keeps the empty files that it makes for each, and what came inline through MCP.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dca_hub.space import folders

KEPT = 600  # seconds: an upload is copied by its session when its turn in the queue comes, and must live until then
_MOST_BYTES = 4_000_000_000
_EVERY = 10  # seconds


@contextmanager
def upload_folder(every: float = _EVERY) -> Iterator[Path]:
    """Makes the folder and sweeps it until the end. Gradio reads its name when it is imported: enter this before."""
    folders.remove_dead(os.environ.get("GRADIO_TEMP_DIR"))
    folder = folders.make("dca-uploads-", os.environ.get("GRADIO_TEMP_DIR"))
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    over = threading.Event()

    def work() -> None:
        while not over.wait(every):
            sweep(folder)

    sweeping = threading.Thread(target=work, name="leftovers", daemon=True)
    sweeping.start()
    try:
        yield folder
    finally:
        over.set()
        sweeping.join()
        folders.remove(folder)


def sweep(folder: Path, kept: float = KEPT, most: int = _MOST_BYTES) -> None:
    """Deletes files older than `kept` seconds, the oldest ones above `most` bytes, and folders that are then empty."""
    now, held, files = time.time(), 0, []
    for path in folder.rglob("*"):
        try:
            status = path.lstat()
        except FileNotFoundError:  # Gradio sweeps too
            continue
        if not path.is_dir() and path != folder / folders.LOCK:
            files.append((status.st_ctime, status.st_size, path))
    for changed, size, path in sorted(files, reverse=True):  # the newest first
        held += size
        if now - changed > kept or held > most:
            path.unlink(missing_ok=True)
    for path in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True):  # the innermost first
        try:
            if now - path.stat().st_ctime > kept:
                path.rmdir()
        except OSError:  # it is not empty, or gone
            continue
