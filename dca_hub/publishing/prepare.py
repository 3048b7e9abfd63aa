"""From a package on this machine to what its repository will hold."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dca_hub import card, catalogue, manifest, results, sources
from dca_hub.card import Destination
from dca_hub.checkpoints import INDEX
from dca_hub.errors import DcaHubError, Fix
from dca_hub.evaluation import summary
from dca_hub.manifest import Manifest
from dca_hub.modeling.dual_chunk_config import CONFIG_KEY
from dca_hub.modeling.dual_chunk_weights import WEIGHTS_KEY
from dca_hub.publishing import allowed, weights
from dca_hub.publishing.contents import Contents, File, Source
from dca_hub.publishing.weights import Choice
from dca_hub.results import Measurement

_README, _CONFIG = "README.md", "config.json"


@dataclass(frozen=True)
class Prepared:
    """What will be published. `tag` is the name that its card pins; `destination` what the card says of it."""

    contents: Contents
    destination: Destination
    tag: str | None


def prepare(
    folder: Path,
    held: Manifest,
    choice: Choice,
    repository: str,
    *,
    tag: str | None = None,
    tagged: bool = True,
    measured: list[Path] | None = None,
) -> Prepared:
    """The files of the revision.

    Args:
        tag: what the card pins; by default a name that is made of the contents' hash, so that the same contents
            always have the same tag. `tagged` False leaves the card without one.
        measured: the evaluation's result files; their lines go into the card, and as `results.jsonl` beside it.

    Raises:
        DcaHubError: a file may not leave this machine, or the results are not of this package.
    """
    files = [*_small_files(folder, held), *_weights(folder, held, choice)]
    found = _results(folder, held, measured or [])
    files = _referring(files, choice) if choice.mode == "reference" else _holding(files)
    if found:
        lines = File.of(results.FILE, results.to_lines(found).encode("utf-8"))
        files = [*(file for file in files if file.name != results.FILE), lines]
    base = choice.base if choice.mode == "reference" else None
    pointed = (base.repository, base.commit) if base else None
    destination = Destination(repository, None, pointed, bool(base and base.gated))
    if tagged:
        untagged = _complete(files, held, choice, destination, found)
        destination = replace(destination, revision=tag or f"dca-{untagged.fingerprint()}")
    return Prepared(_complete(files, held, choice, destination, found), destination, destination.revision)


def _small_files(folder: Path, held: Manifest) -> list[File]:
    heavy = weights.own_weights(held)
    names = [name for name in held.files if name not in heavy]
    for name in names:
        if not allowed.in_package(name):
            raise DcaHubError(
                f"{name!r} does not belong in a model repository and is never uploaded: remove it from the package."
            )
        if (folder / name).is_symlink():
            raise DcaHubError(f"{name!r} is a link: only the weights of a package may be links.")
    return [File.of(name, (folder / name).read_bytes()) for name in names]


def _weights(folder: Path, held: Manifest, choice: Choice) -> list[File]:
    if choice.mode == "reference":
        return []
    if choice.mode == "copy":
        own = weights.own_weights(held)
        return [File.of(name, (folder / name).resolve(), str(known["sha256"])) for name, known in own.items()]
    base, files = choice.base, []
    assert base is not None  # whose weights the Hub copies
    for name, there in base.weights.items():
        sha256 = there.sha256 or str(held.files.get(name, {}).get("sha256") or _fetched_digest(base, name))
        files.append(File(name, Source(base.repository, base.commit, name), sha256, there.size, there.git_oid))
    return files


def _fetched_digest(base: weights.Base, name: str) -> str:
    """The hash of a file that is too small for the Hub to list its hash: the index of the shards."""
    folder = sources.resolve(base.repository, weights=False, revision=base.commit).folder
    if name != INDEX or not (folder / name).is_file():
        raise DcaHubError(
            f"{name} of {base.repository} is kept in a way that cannot be copied", Fix("use {}", "weights", "reference")
        )
    return manifest.digest(folder / name)


def _referring(files: list[File], choice: Choice) -> list[File]:
    """The files with the pointer to the base's weights in the config, which the modeling files follow."""
    return [_with_weights_of(choice.base, file) if file.name == _CONFIG else file for file in files]


def _holding(files: list[File]) -> list[File]:
    """The files without a pointer, for a package that was one of a reference."""
    return [_with_weights_of(None, file) if file.name == _CONFIG else file for file in files]


def _with_weights_of(base: weights.Base | None, file: File) -> File:
    """config.json with the pointer to the weights of a base model's repository, or with none."""
    config = json.loads(file.text)
    if base is None and WEIGHTS_KEY not in config:
        return file
    config.pop(WEIGHTS_KEY, None)
    if base is not None:
        config[WEIGHTS_KEY] = {"repository": base.repository, "revision": base.commit}
    return File.of(_CONFIG, (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode("utf-8"))


def _results(folder: Path, held: Manifest, measured: list[Path]) -> list[Measurement]:
    found = [result for path in measured for result in summary.read(path)]
    if found:
        sizes = sources.read_config(folder)[CONFIG_KEY]
        results.refuse_foreign(found, catalogue.names_of(held.base), sizes)
    return found


def _complete(
    files: list[File], held: Manifest, choice: Choice, destination: Destination, found: list[Measurement]
) -> Contents:
    """All files with the card for that destination and a manifest of them all."""
    by_name = {file.name: file for file in files}
    text = by_name[_README].text
    source = f"https://huggingface.co/{destination.repository}/blob/main/{results.FILE}" if found else None
    by_name[_README] = File.of(_README, card.published(text, destination, found, source).encode("utf-8"))
    listed = {name: {"sha256": file.sha256, "size": file.size} for name, file in sorted(by_name.items())}
    mode = "none" if choice.mode == "reference" else "copy"
    revision = choice.base.commit if choice.base else held.revision
    new = replace(held, revision=revision, weights=mode, files=listed)
    by_name[manifest.NAME] = File.of(manifest.NAME, (json.dumps(asdict(new), indent=2) + "\n").encode("utf-8"))
    return Contents.of(list(by_name.values()), allowed.in_package)
