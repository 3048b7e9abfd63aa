"""Makes a package: a Hub-ready folder in which a checkpoint is a DCA model.

The weights are copied or linked as files and never loaded. The folder appears under its name when it is complete.
"""

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dca_hub import card, gguf_files, licenses, manifest, sources, tokenization
from dca_hub.checkpoints import Weights
from dca_hub.errors import DcaHubError, Fix
from dca_hub.plan import Plan, WeightsMode, make_plan, package_config
from dca_hub.progress import OnProgress
from dca_hub.sizes import Asked


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
    weights: WeightsMode = "copy",
    revision: str | None = None,
    gguf_file: str | None = None,
    force: bool = False,
    progress: OnProgress | None = None,
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
        weights: "copy" them, "link" to them (hard links, or symbolic ones across disks), or "reference": leave them
            with the base model.
        gguf_file: the name of a GGUF file in the source, whose weights to package.
        progress: told (bytes done, bytes in all).

    Raises:
        DcaHubError: the source or the sizes will not do, or the folder cannot be written. Nothing is left behind.
    """
    if gguf_file:
        source, revision = sources.gguf_path(source, gguf_file, revision=revision), None
    found = sources.resolve(source, weights=weights != "reference", revision=revision)
    plan = make_plan(found, Asked(pretraining_length, chunk_size, local_size, temperature), weights)
    target = _free_target(Path(out).expanduser(), found.folder, force)
    notes: list[str] = []
    with _assembled(target) as folder:
        _write(plan, folder, notes, progress)
    return Package(target, plan, tuple(notes))


def _free_target(target: Path, source: Path, force: bool) -> Path:
    """The folder to make, checked: never the source, never something that is not a package."""
    target = target.absolute()
    if target.resolve() == source or source in target.resolve().parents:
        raise DcaHubError(f"{target.name!r} is inside the source folder", Fix("choose another {}", "out"))
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


def _write(plan: Plan, folder: Path, notes: list[str], progress: OnProgress | None) -> None:
    hashes: dict[str, str] = {}
    source = plan.source.folder
    _write_json(folder / "config.json", package_config(plan))
    for file in plan.family.files():
        shutil.copyfile(file, folder / file.name)
    tokens = _copy_tokenizer(source, folder, plan, notes)
    if (source / "generation_config.json").is_file():
        shutil.copyfile(source / "generation_config.json", folder / "generation_config.json")
    if (source / gguf_files.DEQUANTIZED_FROM).is_file():
        notes.append("The weights were dequantized from a GGUF file and keep its rounding errors.")
    _write_licenses(plan, folder, notes)
    (folder / "README.md").write_text(card.model_card(plan), encoding="utf-8")
    if plan.weights is not None:
        _put_weights(plan.weights, plan.mode, folder, hashes, progress)
    elif plan.source.base is None:
        notes.append(
            "The source is not a Hub repository, so nobody can download the weights that this package leaves out."
        )
    files = {
        name: {"sha256": hashes.get(name) or manifest.digest(folder / name), "size": (folder / name).stat().st_size}
        for name in manifest.names(folder)
    }
    mode = "none" if plan.mode == "reference" else plan.mode
    held = manifest.Manifest(plan.source.base, plan.source.revision, mode, files, context=plan.context)
    replace(held, tokenizer=tokens).write(folder)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _copy_tokenizer(source: Path, folder: Path, plan: Plan, notes: list[str]) -> dict[str, list[int]] | None:
    """Copies the tokenizer with all its chat templates, and gives what it makes of some hard strings."""
    names = sources.tokenizer_files(source)
    if not any(sources.is_vocabulary(name) for name in names):
        notes.append("The source has no tokenizer, so the package has none: users must bring the base model's.")
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / name, folder / name)
    if "tokenizer_config.json" in names:
        values = sources.read_json(source / "tokenizer_config.json", "")
        changed, limit = dict(values), values.get("model_max_length")
        if isinstance(limit, int) and limit < plan.context:
            changed["model_max_length"] = plan.context
        if changed.pop("auto_map", None):
            notes.append("The tokenizer's own code is left out: transformers reads its files with a built-in class.")
        if changed != values:
            _write_json(folder / "tokenizer_config.json", changed)
    if not any(sources.is_vocabulary(name) for name in names):
        return None
    return tokenization.hard_tokens(tokenization.load_tokenizer(source))


def _write_licenses(plan: Plan, folder: Path, notes: list[str]) -> None:
    """License, notice and use policy of the source: the license's own text is the publisher's to give, so that none is
    kept here. Where a copy is needed and not there, a note says so; a notice that is lacking is written."""
    found = licenses.license_files(plan.source.folder)
    for path in found:
        shutil.copyfile(path, folder / path.name)
    key = card.license_key(plan)
    if key is None or key not in licenses.LICENSES:
        notes.append("The license of the base model is not known here: check its terms before you publish.")
        return
    license = licenses.find(key)
    if license.copy_needed and not any("licen" in path.name.lower() for path in found):
        notes.append(f"The source holds no copy of its license: add the text of {license.title} ({license.link}).")
    held = "".join((folder / path.name).read_text(encoding="utf-8", errors="replace") for path in found)
    if license.notice and license.notice_file and license.notice not in held:
        (folder / license.notice_file).write_text(license.notice + "\n", encoding="utf-8")


def _put_weights(
    weights: Weights, mode: WeightsMode, folder: Path, hashes: dict[str, str], progress: OnProgress | None
) -> None:
    total, done = weights.bytes, 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress(done, total)

    if mode == "copy" and shutil.disk_usage(folder).free < total:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for name in weights.names:
        origin = (weights.folder / name).resolve()
        if mode == "copy":
            hashes[name] = manifest.copy(origin, folder / name, advance)
            continue
        try:
            os.link(origin, folder / name)
        except OSError:
            (folder / name).symlink_to(origin)
        hashes[name] = manifest.digest(origin, advance)
