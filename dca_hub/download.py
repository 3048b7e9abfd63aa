"""Fetching a model from the Hub in a process of its own, which can be watched and, unlike a thread, ended at once.

What was fetched is in the Hub client's cache; an unfinished file goes on where it was the next time.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from dca_hub.progress import LoadProgress, OnLoadProgress

_TICK = 0.1  # seconds
_ROOT = Path(__file__).resolve().parents[1]


def fetch(repository: str, revision: str | None, patterns: Sequence[str], progress: OnLoadProgress) -> None:
    """Fetches the files that match, calling `progress` ten times a second; whatever it raises ends the download.

    The total is 0 until the Hub has said what there is. Failures are not raised here: the same call in this process,
    which must follow, finds the files or says why not.
    """
    request = json.dumps({"repo_id": repository, "revision": revision, "allow_patterns": list(patterns)})
    path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-m", "dca_hub.download", request],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
    )
    said: list[bytes] = []
    assert process.stdout is not None  # it is a pipe
    answers = process.stdout
    listening = threading.Thread(target=lambda: said.append(answers.readline()), daemon=True)
    listening.start()
    complete = _held(repository, unfinished=False)
    try:
        while process.poll() is None:
            total = int(said[0] or 0) if said else 0
            done = _held(repository) - complete if total else 0
            progress(LoadProgress("downloading", min(done, total), total))
            _sleep(process)
    finally:
        process.kill()
        process.wait()
        listening.join()
        answers.close()


def _sleep(process: subprocess.Popen) -> None:
    try:
        process.wait(_TICK)
    except subprocess.TimeoutExpired:
        return


def _held(repository: str, unfinished: bool = True) -> int:
    """Bytes of that repository in the cache."""
    from huggingface_hub.constants import HF_HUB_CACHE

    blobs = Path(HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "blobs"
    total = 0
    for file in blobs.iterdir() if blobs.is_dir() else ():
        if unfinished or file.suffix != ".incomplete":
            try:
                total += file.stat().st_size
            except FileNotFoundError:  # it has just been finished, and so renamed
                continue
    return total


def _main(request: str) -> None:
    from huggingface_hub import snapshot_download

    wanted = json.loads(request)
    files = snapshot_download(**wanted, dry_run=True)
    print(sum(file.file_size or 0 for file in files if file.will_download), flush=True)
    snapshot_download(**wanted)


if __name__ == "__main__":
    _main(sys.argv[1])
