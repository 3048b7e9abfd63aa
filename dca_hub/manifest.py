"""The manifest of a package: what it was made from, and the hash of every file in it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from dca_hub.schema import build
from dca_hub.sources import read_json

NAME = "dca_package.json"
_BLOCK = 1 << 20  # bytes


@dataclass(frozen=True)
class Manifest:
    """`base` and `revision` as in `Source`; `weights` says whether the weights are in the folder ("copy"), are links to
    files elsewhere ("link"), or are not there at all ("none"). `files` maps each name to its sha256 and size, `context`
    is how many tokens the model may be given, and `tokenizer` maps strings to the ids that the source's tokenizer gave
    (earlier packages have neither, and a package without a tokenizer not the latter)."""

    base: str | None
    revision: str | None
    weights: Literal["copy", "link", "none"]
    files: dict[str, dict[str, str | int]] = field(default_factory=dict)
    version: int = 1
    context: int | None = None
    tokenizer: dict[str, list[int]] | None = None

    def __post_init__(self):
        if self.version != 1:
            raise ValueError(f"version must be 1, not {self.version!r}")

    def write(self, folder: Path) -> None:
        (folder / NAME).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def read(folder: Path) -> Manifest:
    """The manifest in a folder; DcaHubError where there is none or it is not one."""
    value = read_json(folder / NAME, "a folder that `dca_hub package` made has one")
    return build(Manifest, value, f"{NAME} in {folder.name!r}", fix="package the model again")


def names(folder: Path) -> list[str]:
    """The files in a folder but the manifest itself, relative to it and with forward slashes, sorted."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(name for name in found if name != NAME)


def digest(path: Path, advance: Callable[[int], None] | None = None) -> str:
    """The sha256 of a file, in hexadecimal; `advance` is told the bytes read as they are."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            total.update(block)
            if advance:
                advance(len(block))
    return total.hexdigest()


def copy(source: Path, target: Path, advance: Callable[[int], None] | None = None) -> str:
    """Copies a file block by block and gives its sha256."""
    total = hashlib.sha256()
    with source.open("rb") as file, target.open("xb") as out:
        while block := file.read(_BLOCK):
            out.write(block)
            total.update(block)
            if advance:
                advance(len(block))
    return total.hexdigest()
