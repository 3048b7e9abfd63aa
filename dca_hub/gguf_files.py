"""GGUF files as checkpoints: transformers dequantizes their weights, once, into a folder of the cache."""

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from dca_hub.errors import DcaHubError, one_line

_SPLIT = re.compile(r"-\d{5}-of-(\d{5})\.gguf", re.IGNORECASE)
DEQUANTIZED_FROM = "dequantized_from.txt"  # beside the weights: the name of the file they came from


def is_gguf(path: Path) -> bool:
    return path.suffix.lower() == ".gguf" and path.is_file()


def as_checkpoint(file: Path) -> Path:
    """The folder of an ordinary checkpoint with a GGUF file's weights in bfloat16; made on the first call.

    Raises:
        DcaHubError: the package gguf is missing, or the file is split, damaged or of an architecture that transformers
            does not read from GGUF.
    """
    _refuse_unreadable(file)
    folder = _place(file)
    if folder.is_dir():
        return folder
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise DcaHubError("A GGUF file needs the package gguf, which is not installed: pip install gguf.") from None
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".incomplete-", dir=folder.parent))
    try:
        _convert(file, partial)
        (partial / DEQUANTIZED_FROM).write_text(file.name + "\n", encoding="utf-8")
        partial.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # another process may have been quicker
            raise DcaHubError(f"{file.name!r} could not be converted: {one_line(error)}.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _refuse_unreadable(file: Path) -> None:
    split = _SPLIT.search(file.name)
    if split and int(split[1]) > 1:
        raise DcaHubError(f"{file.name!r} is one of {int(split[1])} parts: merge them with llama-gguf-split --merge.")
    with file.open("rb") as opened:
        if opened.read(4) != b"GGUF":
            raise DcaHubError(f"{file.name!r} is not a GGUF file: download it again.")


def _place(file: Path) -> Path:
    from huggingface_hub import constants

    file = file.resolve()
    state = file.stat()
    named = hashlib.sha256(f"{file}\0{state.st_size}\0{state.st_mtime_ns}".encode()).hexdigest()[:16]
    return Path(os.environ.get("DCA_HUB_CACHE", Path(constants.HF_HOME) / "dca_hub")) / "gguf" / named / file.stem


def _convert(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"gguf_file": file.name, "trust_remote_code": False}
    try:
        from transformers import GgufConfig

        # Versions that know this keep the weights packed without it, and refuse to save them.
        whole = {"quantization_config": GgufConfig(dequantize=True)}
    except ImportError:
        whole = {}
    try:
        model = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.bfloat16, **options, **whole)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **options)
    except Exception as error:  # the reader raises whatever a file leads it to
        raise DcaHubError(
            f"{file.name!r} could not be read ({one_line(error):.200}): it is damaged, or transformers cannot read "
            "its architecture from GGUF; use a safetensors checkpoint."
        ) from None
    vars(model.config).pop("quantization_config", None)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
