"""The sizes of a model's Dual Chunk Attention, and how many tokens it may be given: the only place that decides them.

L is the length that a model was trained at, C (`chunk_size`) the largest relative distance that a query may see, and
w (`local_size`) the window that stays exact across a chunk border. A chunk holds s = C - w tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from dca_hub import manifest
from dca_hub.catalogue import Entry
from dca_hub.errors import DcaHubError
from dca_hub.modeling.dual_chunk_config import CONFIG_KEY, geometry_from_config
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.sources import Source

SMALLEST_TRAINED_LENGTH = 16
USUAL_REACH = 8  # times the trained length, what DCA is known to reach without training (arXiv 2402.17463)

# The divisor d of w = L / d, as the authors' released code has it (arXiv 2402.17463): one patch serves Llama, Mistral
# and Mixtral, another the Qwen1.5 line, which is `qwen2` to transformers.
_LOCAL_DIVISOR = {"llama": 8, "mistral": 8, "mixtral": 8, "qwen2": 16}
_OTHER_FAMILIES = 8
# Rotary scalings whose frequencies do not depend on max_position_embeddings.
_LENGTH_FREE_ROPE = ("default", "linear", "llama3")


@dataclass(frozen=True)
class Asked:
    """Sizes that a person asks for, in tokens (L, C, w), and the factor f of the attention temperature."""

    pretraining_length: int | None = None
    chunk_size: int | None = None
    local_size: int | None = None
    temperature: float | None = None


NOTHING_ASKED = Asked()


@dataclass(frozen=True)
class Sized:
    """A geometry, and where its sizes come from, for a model card."""

    geometry: DualChunkGeometry
    origin: str


def geometry_of(source: Source, asked: Asked = NOTHING_ASKED) -> Sized:
    """The sizes of a checkpoint: those asked for, its config's own, the catalogue's, or the rule of its family.

    Raises DcaHubError when the sizes describe no geometry, or nothing says how long the model was trained at.
    """
    try:
        return sized(source.config, source.entry, asked)
    except ValueError as error:
        raise DcaHubError(f"config.json of {source.folder.name!r}: {error}") from None


def sized(config: Mapping[str, Any], entry: Entry | None = None, asked: Asked = NOTHING_ASKED) -> Sized:
    """`geometry_of` for the contents of a config.json, of which it reads the sizes, the length and the model_type.

    Raises:
        DcaHubError: no trained length is known, or it is not a valid one.
        ValueError: the sizes describe no geometry.
    """
    family, known, origin = config["model_type"], None, sizes_source(config["model_type"])
    if config.get(CONFIG_KEY) is not None:
        known = geometry_from_config(SimpleNamespace(**{CONFIG_KEY: config[CONFIG_KEY]}))
        origin = "the checkpoint's own config"
    elif entry is not None:
        known, origin = entry.geometry, entry.dca.source
    geometry = _choose(known, config.get("max_position_embeddings"), family, asked)
    if asked.chunk_size is not None or asked.local_size is not None:
        return Sized(geometry, "chosen at packaging")
    same = known is not None and known.pretraining_length == geometry.pretraining_length
    return Sized(geometry, origin if same else sizes_source(family))


def _choose(known: DualChunkGeometry | None, longest: int | None, family: str, asked: Asked) -> DualChunkGeometry:
    temperature = asked.temperature
    if temperature is None:
        temperature = known.temperature if known else 0.0
    trained = asked.pretraining_length
    if known and trained in (None, known.pretraining_length) and asked.chunk_size is None and asked.local_size is None:
        return replace(known, temperature=temperature)
    if trained is None:
        trained = known.pretraining_length if known else longest
    if trained is None:
        raise DcaHubError("config.json gives no max_position_embeddings: give the pretraining_length.")
    by_rule = default_sizes(trained, family)
    chunk_size = by_rule[0] if asked.chunk_size is None else asked.chunk_size
    local_size = min(by_rule[1], chunk_size - 1) if asked.local_size is None else asked.local_size
    return DualChunkGeometry(chunk_size, local_size, trained, temperature)


def default_sizes(trained: int, family: str) -> tuple[int, int]:
    """C and w, in tokens, for a model of `family` (a transformers model_type) that was trained at `trained` tokens.

    C = 3L/4; w = L/16 for `qwen2` and L/8 for every other family, those that the authors had no code for included.
    Both are rounded down. The numbers are the authors' own for any L, so nothing is moved to make s a multiple of 128
    (what GPU tiles and cache pages like): it is one whenever L is a multiple of 1,024, or of 2,048 for `qwen2`.

    Give the true window. The authors' README has 32384 for Mistral, Mixtral and Qwen1.5, a slip for their 32768: from
    it C would be 24288 and s 20240, which no tile divides; the catalogue says 32768.

    Raises DcaHubError when `trained` is not a whole number of at least 16 tokens.
    """
    if isinstance(trained, bool) or not isinstance(trained, int) or trained < SMALLEST_TRAINED_LENGTH:
        raise DcaHubError(
            f"The trained length must be a whole number of at least {SMALLEST_TRAINED_LENGTH} tokens, not {trained!r}."
        )
    return trained * 3 // 4, trained // _LOCAL_DIVISOR.get(family, _OTHER_FAMILIES)


def sizes_source(family: str) -> str:
    """Where `default_sizes` has its numbers from, for a model card."""
    if family not in _LOCAL_DIVISOR:
        return f"authors' patch for Llama, taken over for {family}: C = 3/4 L, w = L/{_OTHER_FAMILIES}"
    return f"authors' patch: C = 3/4 L, w = L/{_LOCAL_DIVISOR[family]}"


def reach_of(source: Source, geometry: DualChunkGeometry) -> int:
    """How many tokens a model may be given: measured where somebody has, else what a DCA checkpoint itself names, else
    the usual reach, and never less than a plain checkpoint's `max_position_embeddings`."""
    if source.entry is not None:
        return reach_of_entry(source.entry)
    if (source.folder / manifest.NAME).is_file():
        held = manifest.read(source.folder)
        if held.context:
            return held.context
    return reach_of_config(source.config, geometry)


def reach_of_config(config: Mapping[str, Any], geometry: DualChunkGeometry) -> int:
    """`reach_of` for a model of which nothing is known but its config.json."""
    named = config.get("max_position_embeddings") or 0
    if named and config.get(CONFIG_KEY) is not None:
        return named
    return max(named, USUAL_REACH * geometry.pretraining_length)


def reach_of_entry(entry: Entry) -> int:
    """`reach_of` for a model of the catalogue, of which no file is here."""
    if entry.longest_reach:
        return entry.longest_reach.tokens
    return max(entry.architecture.max_position_embeddings, USUAL_REACH * entry.trained)


def may_change_length(config: Mapping[str, Any]) -> bool:
    """Whether max_position_embeddings of a config.json may be changed: its rotary frequencies do not depend on it."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return rope.get("rope_type", rope.get("type", "default")) in _LENGTH_FREE_ROPE
