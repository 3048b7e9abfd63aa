"""The weights of a checkpoint as files: which ones the library would load, and whether they are whole.

Only headers are read; nothing is loaded into memory and nothing is unpickled.
"""

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from dca_hub.errors import DcaHubError
from dca_hub.sources import read_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_HEADER_LIMIT = 100_000_000  # bytes, the format's own


@dataclass(frozen=True)
class Weights:
    """The files that hold a checkpoint's weights: one, or an index and its shards. Names, relative to the folder."""

    folder: Path
    shards: tuple[str, ...]
    index: str | None

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.shards, *([self.index] if self.index else ()))

    @property
    def bytes(self) -> int:
        return sum((self.folder / name).stat().st_size for name in self.names)


def find_weights(folder: Path) -> Weights:
    """The safetensors files that transformers would load from a folder, each checked to be whole.

    Raises:
        DcaHubError: there are none, a shard is missing, or a file is damaged or cut short.
    """
    if (folder / SINGLE).is_file():
        weights = Weights(folder, (SINGLE,), None)
        check_safetensors(folder / SINGLE)
        return weights
    if not (folder / INDEX).is_file():
        raise DcaHubError(_nothing(folder))
    weight_map = read_json(folder / INDEX, "").get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise DcaHubError(f"{INDEX} of {folder.name!r} has no weight_map: download it again.")
    shards = tuple(sorted(set(weight_map.values())))
    for shard in shards:
        if not isinstance(shard, str) or Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise DcaHubError(f"{INDEX} of {folder.name!r} names {shard!r}, which is not a safetensors file beside it.")
        if not (folder / shard).is_file():
            raise DcaHubError(f"{folder.name!r} lacks {shard}, which {INDEX} names: download the checkpoint again.")
        held = check_safetensors(folder / shard)
        lost = [name for name, where in weight_map.items() if where == shard and name not in held]
        if lost:
            raise DcaHubError(
                f"{shard} of {folder.name!r} lacks {lost[0]}, which {INDEX} places in it: download the "
                "checkpoint again."
            )
    return Weights(folder, shards, INDEX)


def check_safetensors(path: Path) -> set[str]:
    """The names of the tensors in a safetensors file, by its header; DcaHubError when it is damaged or cut short."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, _HEADER_LIMIT):
                raise ValueError("the header is longer than the file")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        if 8 + length + end != size:
            raise ValueError(f"expected {8 + length + end:,} bytes, got {size:,}")
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DcaHubError(f"{path.name} is not a valid safetensors file ({error}): download it again.") from None
    return set(header)


def _nothing(folder: Path) -> str:
    others = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.gguf") for p in folder.glob(pattern))
    if others:
        return (
            f"The weights of {folder.name!r} are in {others[0]}, which is not a format that is read here: convert "
            "them with "
            "`AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)`, which writes safetensors."
        )
    return f"{folder.name!r} has no weights: {SINGLE} or {INDEX} is missing."
