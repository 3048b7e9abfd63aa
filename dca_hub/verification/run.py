"""Runs all checks of a package."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from dca_hub import gguf_files, manifest
from dca_hub.errors import DcaHubError
from dca_hub.isolated import ScriptFailed, run_script
from dca_hub.packaging import package

from .checks import Check, Finding, Outcome, check_config, check_files
from .complete import with_weights_of

Precision = Literal["auto", "float32", "own"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_ISOLATED = tuple(check for check in Check if check not in (Check.FILES, Check.CONFIG))


def verify(
    folder: str | Path,
    *,
    tokens: int = 8192,
    device: str = "cpu",
    fetch: bool = False,
    precision: Precision = "auto",
    gguf_file: str | None = None,
) -> Iterator[Finding]:
    """Checks a package; gives each finding as soon as it is there, one for every `Check`. Of a GGUF file what `package`
    makes of it is checked.

    The model is loaded in a fresh process that knows nothing of this project, without network.

    Args:
        tokens: the longest text that the model is given.
        fetch: get the base model's weights for a package that has none.
        precision: "float32", "own" (the checkpoint's), or "auto": float32 for weights below 2 GB. In its own precision
            a package may differ from its base by twice as much as the base differs from itself.
        gguf_file: the name of a GGUF file in that folder, or in that repository of the Hub.

    Raises:
        DcaHubError: the folder is not a package, the weights cannot be fetched, or the GGUF file cannot be packaged.
    """
    if gguf_file or gguf_files.is_gguf(Path(folder).expanduser()):
        with tempfile.TemporaryDirectory() as temporary:
            made = package(str(folder), Path(temporary) / "package", weights="link", gguf_file=gguf_file)
            yield from verify(made.folder, tokens=tokens, device=device, precision=precision)
        return
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DcaHubError(f"There is no folder {str(folder)!r}: give one that `dca-hub package` made.")
    held = manifest.read(folder)
    findings = [check_files(folder, held), check_config(folder)]
    yield from findings
    options = (str(tokens), device, precision)
    if any(finding.outcome is Outcome.FAILED for finding in findings):
        yield from _skipped("the files or the config failed")
    elif held.weights == "none" and fetch and held.base:
        with with_weights_of(held.base, held.revision, folder) as complete:
            yield from _isolated(complete, *options)
    elif held.weights == "none" and held.base is None:
        yield from _skipped("the package holds no weights and names no base model that has them")
    elif held.weights == "none":
        yield from _skipped(f"the weights are with the base model, {held.base}: `fetch` gets them")
    else:
        yield from _isolated(folder, *options)


def _skipped(reason: str) -> Iterator[Finding]:
    return (Finding(check, Outcome.SKIPPED, reason) for check in _ISOLATED)


def _isolated(folder: Path, *options: str) -> Iterator[Finding]:
    script, done, reason = Path(__file__).with_name("isolated_check.py"), set(), "it ended early"
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": home, "TRANSFORMERS_VERBOSITY": "error"}
        try:
            for said in run_script(script, str(folder.resolve()), *options, environment=environment):
                done.add(said["check"])
                yield Finding(Check(said["check"]), Outcome(said["outcome"]), said["detail"])
        except ScriptFailed as error:
            reason = str(error)
    for check in _ISOLATED:
        if check.value not in done:
            yield Finding(check, Outcome.FAILED, f"the process ended before this check: {reason}")
