"""What a verification can find, and the checks that need no model: files, hashes, configuration."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from huggingface_hub.errors import StrictDataclassError

from dca_hub import families, manifest, sources
from dca_hub.checkpoints import find_weights
from dca_hub.errors import DcaHubError, one_line
from dca_hub.manifest import Manifest
from dca_hub.modeling.dual_chunk_config import CLASS_PREFIX, PUBLIC_ATTENTION, geometry_from_config
from dca_hub.modeling.dual_chunk_guards import refuse_unfit

# What a download from the Hub has beside the files of the package.
_OF_THE_HUB = {".gitattributes", ".git", ".cache"}


class Check(Enum):
    """What is looked at, in this order."""

    FILES = "files"
    CONFIG = "config"
    LOADS = "loads with remote code"
    REFUSES = "refuses without remote code"
    TOKENIZER = "tokenizer is the source's"
    EQUALS_BASE = "equals the base up to the chunk length"
    DEFINITION = "matches the reference implementation beyond it"
    DECODES = "prefill and decode equal one forward"
    PADS = "padding changes nothing"
    LONG_CONTEXT = "loss stays low beyond the trained length"


class Outcome(Enum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; `detail` is what was measured, or why it failed or was skipped."""

    check: Enum  # a `Check`, or an `EndpointCheck`
    outcome: Outcome
    detail: str

    def __str__(self) -> str:
        return f"{self.outcome.value:<8} {self.check.value}: {self.detail}"


def check_files(folder: Path, held: Manifest) -> Finding:
    """Every file of the manifest is there and unchanged, nothing else is, and the weights are whole."""
    there = {name for name in manifest.names(folder) if name.partition("/")[0] not in _OF_THE_HUB}
    wrong = [f"{name} is missing" for name in sorted(set(held.files) - there)]
    wrong += [f"{name} is not part of the package" for name in sorted(there - set(held.files))]
    for name in sorted(there & set(held.files)):
        path, known = folder / name, held.files[name]
        if path.stat().st_size != known.get("size") or manifest.digest(path) != known.get("sha256"):
            wrong.append(f"{name} has changed")
    try:
        if held.weights != "none":
            find_weights(folder)
    except DcaHubError as error:
        wrong.append(str(error))
    if wrong:
        return Finding(Check.FILES, Outcome.FAILED, "; ".join(wrong))
    size = sum(int(known["size"]) for known in held.files.values())
    return Finding(Check.FILES, Outcome.PASSED, f"{len(held.files)} files, {size / 1e6:,.1f} MB, all hashes match")


def check_config(folder: Path) -> Finding:
    """config.json holds a geometry, and what makes transformers ask for trust and other engines refuse."""
    try:
        config = sources.read_config(folder)
        family = families.find(config["model_type"])
        settings = family.config_class(**{k: v for k, v in config.items() if k != "auto_map"})
        geometry = geometry_from_config(settings)
        refuse_unfit(settings)
    except (DcaHubError, ValueError, TypeError, KeyError, StrictDataclassError) as error:
        return Finding(Check.CONFIG, Outcome.FAILED, one_line(error))
    if config.get("attn_implementation") != PUBLIC_ATTENTION:
        return Finding(Check.CONFIG, Outcome.FAILED, f'attn_implementation is not "{PUBLIC_ATTENTION}"')
    if config.get("auto_map") != family.auto_map:
        return Finding(
            Check.CONFIG, Outcome.FAILED, f"auto_map does not name the modeling files of {family.model_type}"
        )
    if not all(name.startswith(CLASS_PREFIX) for name in config.get("architectures") or [""]):
        return Finding(
            Check.CONFIG,
            Outcome.FAILED,
            "architectures names the plain model, which vLLM without the plug-in would run silently: package the "
            "model again",
        )
    sizes = f"C = {geometry.chunk_size:,}, w = {geometry.local_size:,}, L = {geometry.pretraining_length:,}"
    return Finding(Check.CONFIG, Outcome.PASSED, f"{family.model_type}, {sizes}")
