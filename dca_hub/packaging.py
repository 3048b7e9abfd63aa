"""Makes a package: a Hub-ready folder in which a checkpoint is a DCA model.

The weights are copied or linked as files and never loaded. The folder appears under its name when it is complete.
"""

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub.errors import StrictDataclassError

from dca_hub import card, families, licenses, manifest, sources
from dca_hub.catalogue import Entry
from dca_hub.checkpoints import Weights, find_weights
from dca_hub.errors import DcaHubError, Fix, one_line
from dca_hub.families import Family
from dca_hub.modeling.dual_chunk_config import CONFIG_KEY, PUBLIC_ATTENTION, config_from_geometry
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_guards import refuse_unfit
from dca_hub.sizes import NOTHING_ASKED, Asked, geometry_of, may_change_length, reach_of
from dca_hub.sources import Source

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Plan:
    """What a package will be, decided before anything is written."""

    source: Source
    family: Family
    geometry: DualChunkGeometry
    sizes_from: str
    context: int
    weights: Weights | None
    mode: Literal["copy", "link", "none"]

    @property
    def entry(self) -> Entry | None:
        return self.source.entry


@dataclass(frozen=True)
class Package:
    """A finished package: its folder, what it was made from, and what a person should know, a sentence each."""

    folder: Path
    plan: Plan
    notes: tuple[str, ...]


def package(
    source: str,
    out: str | Path,
    *,
    pretraining_length: int | None = None,
    chunk_size: int | None = None,
    local_size: int | None = None,
    temperature: float | None = None,
    weights: Literal["copy", "link", "none"] = "copy",
    revision: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Package:
    """Packages a checkpoint as a DCA model.

    Args:
        source: a catalogue name, a Hub id or a local folder.
        out: the folder to make. With `force` an earlier package there is replaced.
        pretraining_length: L, in tokens; by default the catalogue's, the config's own DCA sizes', or
            `max_position_embeddings`.
        chunk_size, local_size: C and w, in tokens; by default the catalogue's, the config's own, or the rule of
            `dca_hub.sizes`.
        temperature: f of the attention temperature; by default the catalogue's or the config's own, else none.
        weights: "copy" them, "link" to them (hard links, or symbolic ones across disks), or "none".
        progress: told (bytes done, bytes in all).

    Raises:
        DcaHubError: the source or the sizes will not do, or the folder cannot be written. Nothing is left behind.
    """
    found = sources.resolve(source, weights=weights != "none", revision=revision)
    plan = make_plan(found, Asked(pretraining_length, chunk_size, local_size, temperature), weights)
    target = _free_target(Path(out).expanduser(), found.folder, force)
    notes: list[str] = []
    with _assembled(target) as folder:
        _write(plan, folder, notes, progress)
    return Package(target, plan, tuple(notes))


def make_plan(source: Source, asked: Asked = NOTHING_ASKED, mode: Literal["copy", "link", "none"] = "copy") -> Plan:
    """Decides what a package of a source will be; DcaHubError where it cannot be one."""
    family = families.find(source.model_type)
    try:
        native = family.config_class(**{k: v for k, v in source.config.items() if k not in ("auto_map",)})
        refuse_unfit(native)
        sized = geometry_of(source, asked)
    except (ValueError, TypeError, KeyError, StrictDataclassError) as error:
        raise DcaHubError(f"{source.folder.name!r} cannot be a DCA model: {one_line(error)}") from None
    weights = find_weights(source.folder) if mode != "none" else None
    context = reach_of(source, sized.geometry)
    return Plan(source, family, sized.geometry, sized.origin, context, weights, mode)


def package_config(plan: Plan) -> dict[str, Any]:
    """config.json of the package: the base's, native names kept, with the DCA keys beside them."""
    config = {k: v for k, v in plan.source.config.items() if k not in ("_name_or_path", "auto_map")}
    config["auto_map"] = plan.family.auto_map
    config["attn_implementation"] = PUBLIC_ATTENTION
    config[CONFIG_KEY] = config_from_geometry(plan.geometry)
    if may_change_length(config):
        config["max_position_embeddings"] = plan.context
    return config


def _free_target(target: Path, source: Path, force: bool) -> Path:
    """The folder to make, checked: never the source, never something that is not a package."""
    target = target.absolute()
    if target.resolve() == source or source in target.resolve().parents:
        raise DcaHubError(f"{target.name!r} lies in the folder of the source", Fix("choose another {}", "out"))
    if target.is_dir() and not any(target.iterdir()):
        return target
    if target.exists() or target.is_symlink():
        if not force:
            raise DcaHubError(
                f"{target.name!r} exists already",
                Fix("choose another {}", "out"),
                Fix("replace it with {}", "force", True),
            )
        if target.is_symlink() or not (target / manifest.NAME).is_file():
            raise DcaHubError(
                f"{target.name!r} is not a package, so it is not replaced", Fix("choose another {}", "out")
            )
    return target


@contextlib.contextmanager
def _assembled(target: Path) -> Iterator[Path]:
    """A folder beside the target that takes its place when the block ends well, and vanishes when it does not."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.incomplete-", dir=target.parent))
    except OSError as error:
        raise DcaHubError(f"Nothing can be written beside {target.name!r}: {error.strerror}.") from None
    try:
        yield partial
        partial.chmod(0o755)
        earlier = None
        if target.exists():
            earlier = Path(tempfile.mkdtemp(prefix=f".{target.name}.replaced-", dir=target.parent)) / target.name
            target.rename(earlier)
        partial.rename(target)
        if earlier:
            shutil.rmtree(earlier.parent)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fixes = ("free some space", Fix("give {}", "weights", "link")) if full else ("check the folder",)
        raise DcaHubError(f"{target.name!r} could not be written ({error.strerror or error})", *fixes) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(plan: Plan, folder: Path, notes: list[str], progress: Progress | None) -> None:
    hashes: dict[str, str] = {}
    source = plan.source.folder
    _write_json(folder / "config.json", package_config(plan))
    for file in plan.family.files():
        shutil.copyfile(file, folder / file.name)
    _copy_tokenizer(source, folder, plan, notes)
    if (source / "generation_config.json").is_file():
        shutil.copyfile(source / "generation_config.json", folder / "generation_config.json")
    _write_licenses(plan, folder, notes)
    (folder / "README.md").write_text(card.model_card(plan), encoding="utf-8")
    if plan.weights is not None:
        _put_weights(plan, folder, hashes, progress)
    elif plan.source.base is None:
        notes.append("The source is no repository of the Hub, so nobody can get the weights that this package lacks.")
    files = {
        path.name: {"sha256": hashes.get(path.name) or manifest.digest(path), "size": path.stat().st_size}
        for path in sorted(folder.iterdir())
    }
    manifest.Manifest(plan.source.base, plan.source.revision, plan.mode, files, context=plan.context).write(folder)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _copy_tokenizer(source: Path, folder: Path, plan: Plan, notes: list[str]) -> None:
    names = [name for name in sources.TOKENIZER_FILES if (source / name).is_file()]
    if not {"tokenizer.json", "tokenizer.model", "vocab.json"} & set(names):
        notes.append("The source has no tokenizer, so the package has none: users must bring the base model's.")
    for name in names:
        shutil.copyfile(source / name, folder / name)
    if "tokenizer_config.json" in names:
        values = sources.read_json(source / "tokenizer_config.json", "")
        limit = values.get("model_max_length")
        if isinstance(limit, int) and limit < plan.context:
            _write_json(folder / "tokenizer_config.json", {**values, "model_max_length": plan.context})


def _write_licenses(plan: Plan, folder: Path, notes: list[str]) -> None:
    """License, notice and use policy, as `licenses.license_files` lays down."""
    found = licenses.license_files(plan.source.folder)
    for path in found:
        shutil.copyfile(path, folder / path.name)
    key = card.license_key(plan)
    if key is None or key not in licenses.LICENSES:
        notes.append("The license of the base model is not known here: see to what it asks before you publish.")
        return
    license = licenses.find(key)
    if license.copy_needed and not any("licen" in path.name.lower() for path in found):
        notes.append(f"The source holds no copy of its license: add the text of {license.title} ({license.link}).")
    held = "".join((folder / path.name).read_text(encoding="utf-8", errors="replace") for path in found)
    if license.notice and license.notice not in held:
        (folder / license.notice_file).write_text(license.notice + "\n", encoding="utf-8")


def _put_weights(plan: Plan, folder: Path, hashes: dict[str, str], progress: Progress | None) -> None:
    total, done = plan.weights.bytes, 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress(done, total)

    if plan.mode == "copy" and shutil.disk_usage(folder).free < total:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for name in plan.weights.names:
        origin = (plan.weights.folder / name).resolve()
        if plan.mode == "copy":
            hashes[name] = manifest.copy(origin, folder / name, advance)
            continue
        try:
            os.link(origin, folder / name)
        except OSError:
            (folder / name).symlink_to(origin)
        hashes[name] = manifest.digest(origin, advance)
