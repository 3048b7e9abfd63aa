"""Runs all checks of a package."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dca_hub import manifest
from dca_hub.errors import DcaHubError

from .borrow import with_weights_of
from .files import check_config, check_files
from .findings import Check, Finding, Outcome

_BY_STRANGER = tuple(check for check in Check if check not in (Check.FILES, Check.CONFIG))


def verify(folder: str | Path, *, tokens: int = 8192, device: str = "cpu", fetch: bool = False) -> Iterator[Finding]:
    """Checks a package; gives each finding as soon as it is there, one for every `Check`.

    The model is loaded in a fresh process that knows nothing of this package, without network, with `tokens` the most
    it may be given at a time. `fetch` gets the base model's weights for a package that has none.

    Raises:
        DcaHubError: the folder is no package, or the weights cannot be fetched.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DcaHubError(f"There is no folder {str(folder)!r}.")
    held = manifest.read(folder)
    findings = [check_files(folder, held), check_config(folder)]
    yield from findings
    if any(finding.outcome is Outcome.FAILED for finding in findings):
        yield from _skipped(_BY_STRANGER, "the files or the config failed")
    elif held.weights == "none" and fetch and held.base:
        with with_weights_of(held.base, held.revision, folder) as whole:
            yield from _by_stranger(whole, tokens, device)
    elif held.weights == "none" and held.base is None:
        yield from _skipped(_BY_STRANGER, "the package holds no weights and names no base model that has them")
    elif held.weights == "none":
        yield from _skipped(_BY_STRANGER, f"the weights are with the base model, {held.base}: --fetch gets them")
    else:
        yield from _by_stranger(folder, tokens, device)


def _skipped(checks, reason: str) -> Iterator[Finding]:
    return (Finding(check, Outcome.SKIPPED, reason) for check in checks)


def _by_stranger(folder: Path, tokens: int, device: str) -> Iterator[Finding]:
    script, told = Path(__file__).with_name("stranger.py"), set()
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": home, "TRANSFORMERS_VERBOSITY": "error"}
        process = subprocess.Popen(
            [sys.executable, str(script), str(folder.resolve()), str(tokens), device],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        try:
            for line in process.stdout:
                said = json.loads(line)
                told.add(said["check"])
                yield Finding(Check(said["check"]), Outcome(said["outcome"]), said["detail"])
            error = process.stderr.read().strip()
        finally:
            process.kill()
            process.wait()
    last = error.splitlines()[-1] if error else f"exit code {process.returncode}"
    for check in _BY_STRANGER:
        if check.value not in told:
            yield Finding(check, Outcome.FAILED, f"the process ended before it came to this: {last}")
