"""Plain text from files, as books."""

import gzip
from pathlib import Path

from dca_hub.errors import DcaHubError

_DROPPED = {ord("\ufeff"): None, ord("\u200b"): None, ord("\xa0"): " ", ord("\r"): None}


def read_books(source: str | Path) -> list[str]:
    """The books in one .txt or .txt.gz file, or in all such files of a folder (sorted by name).

    Form feeds part books within a file. Raises DcaHubError when there is no text.
    """
    path = Path(source)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.name.endswith((".txt", ".txt.gz")))
    elif path.is_file():
        files = [path]
    else:
        raise DcaHubError(f"There is no file or folder {path}; give --text a .txt or .txt.gz file or a folder of them.")
    books = [book for file in files for book in _read(file).split("\f") if book.strip()]
    if not books:
        raise DcaHubError(f"No text was found in {path}; give --text a .txt or .txt.gz file or a folder of them.")
    return books


def _read(file: Path) -> str:
    try:
        data = file.read_bytes()
        text = gzip.decompress(data) if file.name.endswith(".gz") else data
        return text.decode("utf-8", errors="replace").translate(_DROPPED)
    except (OSError, EOFError) as error:
        raise DcaHubError(f"{file} cannot be read ({error}); give another file.") from error
