"""Folders that belong to one running program: deleted when it ends, and by the next one if it could not.

A program holds a lock in each of its folders. A folder whose lock can be taken was left by a program that was killed.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import TextIO

try:
    import fcntl
except ImportError:  # Windows: folders of a program that was killed stay
    fcntl = None

PREFIXES = ("dca-space-", "dca-uploads-")
LOCK = ".lock"
_held: dict[Path, TextIO] = {}


def make(prefix: str, parent: str | os.PathLike | None = None) -> Path:
    """A new folder of this program; `remove` it."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    # Locked under another name first: an unlocked lock would be taken for a dead program's.
    taken = folder / f"{LOCK}-new"
    file = taken.open("w")
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX)
    taken.rename(folder / LOCK)
    _held[folder] = file
    return folder


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    file = _held.pop(folder, None)
    if file is not None:
        file.close()


def remove_dead(parent: str | os.PathLike | None = None) -> list[Path]:
    """Deletes what programs left that were killed; gives the folders."""
    if fcntl is None:
        return []
    found = [path for prefix in PREFIXES for path in Path(parent or tempfile.gettempdir()).glob(f"{prefix}*")]
    dead = [path for path in found if path not in _held and _is_dead(path)]
    for path in dead:
        shutil.rmtree(path, ignore_errors=True)
    return dead


def _is_dead(folder: Path) -> bool:
    try:
        with (folder / LOCK).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:  # it is held, somebody else's, or not ours at all
        return False
