"""How the weights of a package get to its repository: uploaded, copied by the Hub, or left where they are."""

import re
from dataclasses import dataclass
from typing import Literal

from dca_hub import catalogue, licenses
from dca_hub.checkpoints import INDEX, SINGLE
from dca_hub.errors import DcaHubError
from dca_hub.manifest import Manifest
from dca_hub.publishing import hub
from dca_hub.publishing.contents import Held
from dca_hub.publishing.hub import Hub

Mode = Literal["copy", "server-copy", "reference"]
MODES: tuple[Mode, ...] = ("copy", "server-copy", "reference")
# Above this a second copy of the weights helps nobody: they are fetched from the base as quickly.
LARGE = 20_000_000_000  # bytes
_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors|" + re.escape(INDEX))


@dataclass(frozen=True)
class Base:
    """The base model's repository at the pinned commit, and its weights there, by name."""

    repository: str
    commit: str
    gated: bool
    weights: dict[str, Held]

    @property
    def bytes(self) -> int:
        return sum(held.size for held in self.weights.values())


@dataclass(frozen=True)
class Choice:
    """How the weights get there, and why, as the end of a sentence."""

    mode: Mode
    why: str
    base: Base | None


def find_base(held: Manifest) -> Base | None:
    """The base model of a package on the Hub, or None where it has none, or none that can be seen."""
    if held.base is None:
        return None
    state = Hub(held.base).state(held.revision)
    if state is None:
        return None
    weights = {name: file for name, file in state.files.items() if _WEIGHTS.fullmatch(name)}
    if SINGLE in weights:  # what the library loads where there are both
        weights = {SINGLE: weights[SINGLE]}
    elif INDEX not in weights:
        weights = {}
    entry = catalogue.get(held.base)
    return Base(held.base, state.commit, state.gated or bool(entry and entry.gated), weights)


def own_weights(held: Manifest) -> dict[str, dict[str, str | int]]:
    """The files of a package that hold its weights."""
    return {name: known for name, known in held.files.items() if _WEIGHTS.fullmatch(name)}


def choose(asked: Mode | None, held: Manifest, base: Base | None, license: str | None, private: bool) -> Choice:
    """The way to go: the one asked for, or the one that suits the license, the size and what is where.

    Raises:
        DcaHubError: the way that was asked for does not exist here, or there is none.
    """
    obstacles = {mode: obstacle(mode, held, base, license, private) for mode in MODES}
    if asked is not None:
        if obstacles[asked]:
            raise DcaHubError(f"The weights cannot be published by {asked!r} here: {obstacles[asked]}.")
        return Choice(asked, "as you asked", base)
    if base is not None and obstacles["reference"] is None:
        reason = _why_reference(base, license) or obstacles["server-copy"]
        if reason:
            return Choice("reference", reason, base)
    if base is not None and obstacles["server-copy"] is None:
        return Choice(
            "server-copy", f"{base.repository} may be redistributed, and the Hub copies it without this machine", base
        )
    if obstacles["copy"] is None:
        return Choice("copy", str(obstacles["server-copy"]), base)
    raise DcaHubError(f"There is no way to publish this package: {obstacles['copy']}.")


def obstacle(mode: Mode, held: Manifest, base: Base | None, license: str | None, private: bool) -> str | None:
    """Why the weights cannot go that way, as the end of a sentence; None where they can."""
    own = own_weights(held)
    if mode == "copy":
        if not own:
            return "the package holds no weights, package it again with a copy of them or links to them"
        return _may_not_pass_on(held, base, license, private)
    if base is None:
        return "the base model is not on the Hub" if held.base is None else f"{held.base} is not on the Hub any more"
    if not base.weights:
        return f"{base.repository} has no safetensors weights"
    if own and not _equal(own, base):
        return f"the weights differ from those of {base.repository}"
    if mode == "reference":
        return None
    if not hub.copies_across_repositories():
        return "this version of huggingface_hub cannot copy between repositories, update it"
    return _may_not_pass_on(held, base, license, private)


def _may_not_pass_on(held: Manifest, base: Base | None, license: str | None, private: bool) -> str | None:
    if base is not None and base.gated and not private:
        return f"{base.repository} is gated, and a public copy would bypass its gate"
    return None


def _why_reference(base: Base, license: str | None) -> str | None:
    """Why it is better to leave the weights with the base, or None where a copy is as good."""
    if base.gated:
        return f"{base.repository} is gated, and whoever loads this model accepts its license there"
    if license not in licenses.LICENSES:
        return f"the terms of the license of {base.repository} are not known here, so its weights stay there"
    if base.bytes > LARGE:
        return f"{base.bytes / 1e9:,.0f} GB of weights are at {base.repository} already"
    return None


def _equal(own: dict[str, dict[str, str | int]], base: Base) -> bool:
    """Whether the package's weights are the base's, file by file; an index is compared by its size."""
    if set(own) != set(base.weights):
        return False
    pairs = [(known, base.weights[name]) for name, known in own.items()]
    return all(
        known["size"] == held.size and (held.sha256 is None or held.sha256 == known["sha256"]) for known, held in pairs
    )
