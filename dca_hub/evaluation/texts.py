"""Texts for perplexity and haystacks: files, folders, token files of the authors, or PG19 from the Hub."""

import difflib
import gzip
import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

from dca_hub.control_tokens import encode
from dca_hub.errors import DcaHubError, Fix

PG19 = "emozilla/pg19"  # PG19 (Rae et al., arXiv 1911.05507) as Parquet files, which need no script
TokenType = Literal["uint16", "uint32"]
TOKENS = ".bin"  # the extension of the authors' files of tokens
_DROPPED = {ord("\ufeff"): None, ord("\u200b"): None, ord("\xa0"): " ", ord("\r"): None}
_ODD = 0.01  # the share of characters that were not UTF-8 above which a file is not text
_SAMPLE, _ALIKE = 2_000, 0.97  # tokens that are looked at, and the share that the tokenizer must write the same again


def read(source: str) -> tuple[list[str], str]:
    """The documents of a file, of a folder, or of `pg19`, and what to call them: the name of the file and the
    beginning of the text's hash, so that two texts of one name are told apart.

    Raises DcaHubError when there is no text, or PG19 cannot be had.
    """
    if source == "pg19":
        return _pg19(), "PG19 validation"
    books = read_books(source)
    return books, _named(Path(source), "\f".join(books).encode())


def read_books(source: str | Path) -> list[str]:
    """The books in one .txt or .txt.gz file, or in all such files of a folder (sorted by name).

    Form feeds part books within a file. Raises DcaHubError when there is no text, or a file is not text.
    """
    path = Path(source)
    fix = Fix("give {} as a .txt or .txt.gz file or a folder of them", "text")
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.name.endswith((".txt", ".txt.gz")))
    elif path.is_file():
        files = [path]
    else:
        raise DcaHubError(f"There is no file or folder {path}", fix)
    books = [book for file in files for book in _text(file).split("\f") if book.strip()]
    if not books:
        raise DcaHubError(f"No text was found in {path}", fix)
    return books


def read_tokens(source: str, tokenizer: PreTrainedTokenizerBase, kind: TokenType | None) -> tuple[list[int], str]:
    """A stream of token ids, as the authors keep PG19 (`pg19_llama2.validation.bin`), and what to call it.

    kind: how an id is stored; by default uint16, or uint32 for a vocabulary that is larger than that.

    Raises DcaHubError for a file that cannot be read, or whose ids are not those of this tokenizer.
    """
    path = Path(source)
    kind = kind or ("uint32" if len(tokenizer) > 2**16 else "uint16")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DcaHubError(f"{path.name} cannot be read ({error.strerror}): give another file.") from None
    stored = np.dtype(kind).newbyteorder("<")
    if not content or len(content) % stored.itemsize:
        raise DcaHubError(f"{path.name} is not a file of {kind} tokens: its {len(content):,} bytes are not whole ids.")
    ids = np.frombuffer(content, stored)
    if int(ids.max()) >= len(tokenizer) or not _fits(ids, tokenizer):
        raise DcaHubError(
            f"{path.name} does not hold {kind} tokens of this model's tokenizer",
            "give the file for this model",
            Fix("give {}", "tokens", "uint16" if kind == "uint32" else "uint32"),
        )
    return ids.tolist(), _named(path, content)


def _fits(ids: np.ndarray, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer makes the same tokens of the text that it makes of these: of another's it does not."""
    middle = max(0, len(ids) // 2 - _SAMPLE // 2)
    sample = ids[middle : middle + _SAMPLE].tolist()
    again = encode(tokenizer, tokenizer.decode(sample, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    return difflib.SequenceMatcher(None, sample, again, autojunk=False).ratio() >= _ALIKE


def _named(path: Path, content: bytes) -> str:
    return f"{path.resolve().name} {hashlib.sha256(content).hexdigest()[:8]}"


def _text(file: Path) -> str:
    try:
        data = file.read_bytes()
        content = gzip.decompress(data) if file.name.endswith(".gz") else data
    except (OSError, EOFError) as error:
        raise DcaHubError(f"{file} cannot be read ({error}): give another file.") from error
    text = content.decode("utf-8", errors="replace")
    if "\0" in text or text.count("\ufffd") > _ODD * len(text):
        raise DcaHubError(
            f"{file.name} is not UTF-8 text",
            "save it as UTF-8",
            Fix(f"give tokens as a {TOKENS} file or with {{}}", "tokens"),
        )
    return text.translate(_DROPPED)


def _pg19() -> list[str]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise DcaHubError(
            "PG19 comes through the datasets package: pip install -r requirements-evaluate.txt."
        ) from None
    try:
        return [row["text"] for row in load_dataset(PG19, split="validation", streaming=True)]
    except Exception as error:  # the client raises what its transport does
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DcaHubError(
            f"PG19 could not be downloaded from the Hub ({reason})",
            "connect to the network",
            Fix("give {} as a file of books", "text"),
        ) from None
