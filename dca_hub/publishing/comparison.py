"""Loads a published model back in a fresh process with an empty cache, and compares it with the package."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dca_hub import manifest
from dca_hub.errors import DcaHubError
from dca_hub.isolated import ScriptFailed, run_script
from dca_hub.publishing import failures
from dca_hub.publishing.weights import Base, own_weights
from dca_hub.verification.complete import with_weights_of

# Fetching and running more than this again, only to look, is left to the publisher.
LIMIT = 4_000_000_000  # bytes of weights
_TOKENS = 2048
_TOLERANCE = 1e-4  # of the spread of the logits: the same weights in the same arithmetic
_HOUR = 3600.0


def compare(folder: Path, repository: str, revision: str, base: Base | None, with_weights: bool, size: int) -> str:
    """What the model that comes from the Hub has in common with the package, in words.

    Args:
        folder: the package.
        revision: the commit to load.
        base: where the weights are fetched from, if not from the repository itself.
        with_weights: whether to fetch and run them, `size` bytes; LIMIT is the most that is fetched.

    Raises:
        DcaHubError: it does not load, or is another model.
    """
    with tempfile.TemporaryDirectory() as home:
        environment = _empty_home(Path(home), base)
        if not with_weights or size > LIMIT:
            said = _load(repository, revision, 0, Path(home), environment)
            return f"{said['model']} is built from it; its weights ({size / 1e9:,.1f} GB) were not fetched to look"
        said = _load(repository, revision, _TOKENS, Path(home) / "hub.safetensors", environment)
        with completed(folder, base) as whole:
            local = {**os.environ, "HF_MODULES_CACHE": str(Path(home) / "local"), "HF_HUB_OFFLINE": "1"}
            here = _load(str(whole), "-", _TOKENS, Path(home) / "local.safetensors", local)
        difference = _difference(Path(home) / "hub.safetensors", Path(home) / "local.safetensors")
    if not difference <= _TOLERANCE:
        raise DcaHubError(
            f"{repository} gives other logits than the package ({difference:.1e} of their spread apart): do not "
            "use it, and publish it again."
        )
    if said["tokenizer"] != here["tokenizer"]:
        raise DcaHubError(
            f"{repository} gives another tokenizer than the package: do not use it, and publish it again."
        )
    tokenizer = "the package's tokenizer" if said["tokenizer"] else "no tokenizer, as the package has none"
    return f"{said['model']}, {tokenizer}, logits within {difference:.0e} of the package's"


@contextmanager
def completed(folder: Path, base: Base | None) -> Iterator[Path]:
    """A folder with all of a package and its weights: the package itself, or one that borrows them from the base."""
    if base is None or own_weights(manifest.read(folder)):
        yield folder
        return
    with with_weights_of(base.repository, base.commit, folder) as whole:
        yield whole


def _empty_home(home: Path, base: Base | None) -> dict[str, str]:
    """An environment with a cache of its own, in which only the base model may be, if it is on this machine."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    hub, offline = home / "hub", ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    hub.mkdir()
    if base is not None:
        name = repo_folder_name(repo_id=base.repository, repo_type="model")
        there = Path(constants.HF_HUB_CACHE) / name
        if there.is_dir():
            (hub / name).symlink_to(there.resolve(), target_is_directory=True)
    kept = {key: value for key, value in os.environ.items() if key not in offline}
    return {**kept, "HF_HUB_CACHE": str(hub), "HF_MODULES_CACHE": str(home / "modules")}


def _load(name: str, revision: str, tokens: int, out: Path, environment: dict[str, str]) -> dict:
    script, arguments = Path(__file__).with_name("isolated_load.py"), (name, revision, str(tokens), str(out))
    said, started = {"error": "it printed nothing"}, time.monotonic()
    try:
        for line in run_script(script, *arguments, environment=environment, timeout=_HOUR):
            said = line
    except ScriptFailed as error:
        if time.monotonic() - started >= _HOUR:
            raise DcaHubError(
                f"{name} could not be loaded within an hour: load it yourself before you rely on it."
            ) from None
        said = {"error": str(error)}
    if "error" in said:
        raise DcaHubError(f"{name} does not load ({failures.scrub(said['error'])}): do not use it yet.")
    return said


def _difference(one: Path, other: Path) -> float:
    """The greatest distance of two sets of logits, in units of their spread."""
    from safetensors.torch import load_file

    a, b = load_file(one)["logits"], load_file(other)["logits"]
    return ((a - b).abs().max() / b.std()).item() if a.shape == b.shape else float("inf")
