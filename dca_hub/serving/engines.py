"""What there is to serve a model with: vLLM with the plug-in, or the server that comes with transformers."""

import importlib.metadata
import importlib.util
import re
from dataclasses import dataclass
from typing import Literal

from dca_hub.errors import DcaHubError
from dca_hub.vllm_plugin import VLLM_VERSIONS

Engine = Literal["vllm", "transformers"]
PLUGIN_GROUP, PLUGIN = "vllm.general_plugins", "dca_hub"


@dataclass(frozen=True)
class Chosen:
    """An engine, and in a sentence why it."""

    engine: Engine
    why: str


def choose(asked: Engine | None = None) -> Chosen:
    """The engine that was asked for, or else vLLM where it can serve, or else transformers.

    Raises:
        DcaHubError: the engine that was asked for cannot serve here, or none can; the message says what to install.
    """
    refusals = {"vllm": vllm_refusal(), "transformers": transformers_refusal()}
    if asked is not None:
        if refusals[asked]:
            raise DcaHubError(f"This engine cannot serve here: {refusals[asked]}.")
        return Chosen(asked, "asked for")
    if refusals["vllm"] is None:
        return Chosen("vllm", f"vLLM {_version('vllm')} is installed, with the plug-in for Dual Chunk Attention")
    if refusals["transformers"] is None:
        return Chosen("transformers", refusals["vllm"])
    raise DcaHubError(f"Nothing can serve here: {refusals['vllm']}; and {refusals['transformers']}.")


def vllm_refusal() -> str | None:
    """Why vLLM cannot serve a DCA model here, or None."""
    version = _version("vllm")
    if version is None or importlib.util.find_spec("vllm") is None:
        return "vLLM is not installed (pip install '.[vllm]' in an environment of its own)"
    found = re.match(r"\d+\.\d+", version)
    if not found or found[0] not in VLLM_VERSIONS:
        return f"the plug-in serves vLLM {' and '.join(VLLM_VERSIONS)}, and {version} is installed"
    if PLUGIN not in importlib.metadata.entry_points(group=PLUGIN_GROUP).names:
        return "vLLM does not know the plug-in: install this package into its environment (pip install --no-deps .)"
    return None


def transformers_refusal() -> str | None:
    """Why transformers' own server cannot run here, or None."""
    missing = [name for name in ("openai", "fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        return f"transformers' server needs {', '.join(missing)} (pip install 'transformers[serving]')"
    return None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
