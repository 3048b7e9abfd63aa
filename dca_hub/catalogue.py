"""The catalogue: every model that the project knows by name, one YAML file of `configs/` each.

A file states facts and where they come from; parameters, memory and reach are worked out from them here. Nothing in
this module needs torch.
"""

import difflib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from dca_hub.errors import DcaHubError
from dca_hub.families import FamilyName
from dca_hub.licenses import LICENSES
from dca_hub.memory import Architecture
from dca_hub.modeling.dual_chunk_config import config_from_geometry
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.schema import read_yaml
from dca_hub.tables import Table

_NAME = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Sizes:
    """C, w and the optional temperature f of Dual Chunk Attention, and who chose them."""

    chunk_size: int
    local_size: int
    source: str
    temperature: float = 0.0


@dataclass(frozen=True)
class Reach:
    """A context that the model is known to work at with DCA.

    `stated` is how its source writes it; `tokens` is that in numbers: 32k, 96k and 128k of the authors are multiples
    of 1,024, their rounder 200k is taken at its lower reading, 200,000. `by` says who measured.
    """

    tokens: int
    stated: str
    by: str
    evidence: str

    def __post_init__(self):
        if self.tokens < 1:
            raise ValueError("tokens must be positive")


@dataclass(frozen=True)
class Entry:
    """One model.

    `base` is a Hub id, or for a model that comes with this package the path of its folder. `trained` is L, in tokens:
    the window that the weights were trained at, which for some models is not their `max_position_embeddings`. `dtype`
    is that of the published weights. `facts` says where the numbers come from, `notes` what there is to know.
    """

    name: str
    base: str
    family: FamilyName
    kind: Literal["base", "chat"]
    license: str
    gated: bool
    dtype: Literal["float32", "float16", "bfloat16"]
    trained: int
    dca: Sizes
    architecture: Architecture
    notes: str
    facts: str = ""
    reach: tuple[Reach, ...] = ()
    languages: tuple[str, ...] = ("en",)

    def __post_init__(self):
        if not _NAME.fullmatch(self.name):
            raise ValueError("name must be lower-case letters and digits, separated by single hyphens and full stops")
        if not self.is_local and not _HUB_ID.fullmatch(self.base):
            raise ValueError("base must be a Hub id, owner/name, or a folder under dca_hub/")
        if self.license not in LICENSES:
            raise ValueError(f"license must be one of {', '.join(LICENSES)}, not {self.license!r}")
        try:
            _ = self.geometry
        except ValueError as error:
            raise ValueError(f"dca: {error}") from None

    @property
    def is_local(self) -> bool:
        """Whether the weights come with this package."""
        return self.base.startswith("dca_hub/")

    @property
    def source(self) -> str:
        """What `from_pretrained` takes: a Hub id, or the absolute path of the folder."""
        if not self.is_local:
            return self.base
        return str(Path(__file__).resolve().parent.joinpath(*self.base.split("/")[1:]))

    @property
    def longest_reach(self) -> Reach | None:
        """The longest measured context with DCA, or None where nobody has measured one."""
        return max(self.reach, key=lambda reach: reach.tokens, default=None)

    @property
    def geometry(self) -> DualChunkGeometry:
        """The sizes that the catalogue states."""
        return DualChunkGeometry(self.dca.chunk_size, self.dca.local_size, self.trained, self.dca.temperature)

    @property
    def parameters(self) -> int:
        """How many numbers the checkpoint holds."""
        return self.architecture.parameters

    def weights_bytes(self, dtype: object, quantization: Literal["8bit", "4bit"] | None = None) -> int:
        """Bytes of the weights; see `Architecture.weights_bytes`."""
        return self.architecture.weights_bytes(dtype, quantization)

    def cache_bytes_per_token(self, dtype: object) -> int:
        """Bytes of KV cache for each token of context."""
        return self.architecture.cache_bytes_per_token(dtype)


def read_file(path: Path) -> Entry:
    """One file of the catalogue.

    Raises DcaHubError naming the file and the key for anything unknown, missing, of a wrong type or out of range, and
    when the file is not called after the entry.
    """
    entry = read_yaml(path, Entry)
    if path.stem != entry.name:
        raise DcaHubError(
            f"{path.name}: the key name must match the name of the file, {path.stem}, not {entry.name!r}."
        )
    return entry


def read_folder(folder: Path) -> list[Entry]:
    """Every *.yaml of a folder: the models that need no download first, then by name, numbers in order of size.

    Raises DcaHubError as `read_file` does, and when two files describe the same base.
    """
    entries = [read_file(path) for path in sorted(folder.glob("*.yaml"))]
    seen: dict[str, str] = {}
    for entry in entries:
        other = seen.setdefault(entry.base.lower(), entry.name)
        if other != entry.name:
            raise DcaHubError(f"{entry.name}.yaml: the key base repeats {entry.base}, which {other}.yaml describes.")
    return sorted(entries, key=_order)


@cache
def _shipped() -> tuple[Entry, ...]:
    with resources.as_file(resources.files("dca_hub.configs")) as folder:
        return tuple(read_folder(folder))


def entries() -> list[Entry]:
    """The whole catalogue."""
    return list(_shipped())


def get(name: str) -> Entry | None:
    """The entry of that catalogue name or base repository, in upper or lower case; None when there is none."""
    wanted = name.strip().lower()
    return next((entry for entry in _shipped() if wanted in (entry.name, entry.base.lower())), None)


def names_of(base: str | None) -> set[str]:
    """What a base is called: its Hub id, and its catalogue name where it has one; nothing for None."""
    entry = get(base) if base else None
    return {name for name in (base, entry and entry.name) if name}


def find(name: str) -> Entry:
    """Like `get`, but raises DcaHubError with the closest names when there is no such entry."""
    entry = get(name)
    if entry is not None:
        return entry
    names = {entry.name: entry.name for entry in _shipped()}
    names |= {entry.base.lower(): entry.name for entry in _shipped() if not entry.is_local}
    names |= {entry.base.lower().rpartition("/")[2]: entry.name for entry in _shipped() if not entry.is_local}
    close = difflib.get_close_matches(name.strip().lower(), names, n=5, cutoff=0.6)
    matches = list(dict.fromkeys(names[match] for match in close))[:3]
    hint = f"did you mean {' or '.join(matches)}?" if matches else "`python -m dca_hub models` lists its names."
    raise DcaHubError(f"There is no {name!r} in the catalogue: {hint}")


def rows(entries: list[Entry]) -> list[dict[str, Any]]:
    """What `models --json` prints, one mapping a model: tokens and bytes as plain numbers, memory in bfloat16.

    `reach` and `measured_by` are None where nobody has measured DCA on the model.
    """
    return [_row(entry) for entry in entries]


def table(entries: list[Entry]) -> str:
    """The catalogue as aligned text, one model a line, with a line of headings."""
    headings = ("name", "base", "trained", "with DCA", "measured by", "license", "gated", "weights", "cache/1k")
    numbers = [headings.index(name) for name in ("trained", "with DCA", "weights", "cache/1k")]
    return Table(headings, [_cells(row) for row in rows(entries)], numbers).text()


def _row(entry: Entry) -> dict[str, Any]:
    reach = entry.longest_reach
    return {
        "name": entry.name,
        "base": entry.base,
        "family": entry.family,
        "kind": entry.kind,
        "trained": entry.trained,
        "reach": reach.tokens if reach else None,
        "reach_stated": reach.stated if reach else None,
        "measured_by": reach.by if reach else None,
        "evidence": reach.evidence if reach else None,
        "license": entry.license,
        "gated": entry.gated,
        "dtype": entry.dtype,
        "languages": list(entry.languages),
        "parameters": entry.parameters,
        "weights_bytes": entry.weights_bytes("bfloat16"),
        "cache_bytes_per_token": entry.cache_bytes_per_token("bfloat16"),
        **config_from_geometry(entry.geometry),
        "sizes_source": entry.dca.source,
        "facts": entry.facts,
        "notes": entry.notes,
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["name"],
        row["base"],
        f"{row['trained']:,}",
        row["reach_stated"] or "-",
        row["measured_by"] or "not measured",
        row["license"],
        "yes" if row["gated"] else "no",
        _amount(row["weights_bytes"] / 1e9, "GB"),
        _amount(row["cache_bytes_per_token"] * 1000 / 1e6, "MB"),
    )


def _amount(number: float, unit: str) -> str:
    return f"{number:,.1f} {unit}" if number >= 0.95 else f"{number:.2g} {unit}"


def _order(entry: Entry) -> tuple:
    parts = re.split(r"(\d+)", entry.name)
    return not entry.is_local, [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
