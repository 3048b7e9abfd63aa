"""Texts to measure perplexity on and to hide needles in: files, folders, or PG19 from the Hub."""

import hashlib
from pathlib import Path

from dca_hub.demo.text import read_books
from dca_hub.errors import DcaHubError

PG19 = "emozilla/pg19"  # PG19 (Rae et al., arXiv 1911.05507) as Parquet files, which need no script


def read(source: str) -> tuple[list[str], str]:
    """The documents of a file, of a folder, or of `pg19`, and what to call them: the name of the file and the
    beginning of the text's hash, so that two texts of one name are told apart.

    Raises DcaHubError when there is no text, or PG19 cannot be had.
    """
    if source == "pg19":
        return _pg19(), "PG19 validation"
    books = read_books(source)
    digest = hashlib.sha256("\f".join(books).encode()).hexdigest()[:8]
    return books, f"{Path(source).resolve().name} {digest}"


def _pg19() -> list[str]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise DcaHubError('PG19 comes through the datasets package: pip install "dca-hub[evaluate]".') from None
    try:
        return [row["text"] for row in load_dataset(PG19, split="validation", streaming=True)]
    except Exception as error:  # the client raises what its transport does
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DcaHubError(
            f"PG19 could not be had from the Hub ({reason}): connect to the network, or give --text a file of books."
        ) from None
