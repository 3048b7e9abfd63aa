"""What a run compares: the DCA model, the plain base beside it, and what else can be made of the same weights."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from typing import Any

from transformers import PreTrainedModel

from dca_hub.errors import DcaHubError
from dca_hub.evaluation.ablation import ABLATIONS, ablate
from dca_hub.evaluation.scaling import SCALINGS, rescaled, rope_parameters
from dca_hub.extending import extend
from dca_hub.loading import Loaded
from dca_hub.modeling.dual_chunk_config import CONFIG_KEY, SPARSE_KEY, config_from_geometry
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_selection import SparseAttention

SPARSE = {f"sparse-{share}": share for share in (0.8, 0.9, 0.95)}
# What `--compare` takes, and how each is called in tables and pictures.
COMPARED = {
    "plain": "plain",
    "no-temperature": "DCA, no temperature",
    **{name: f"DCA, {title}" for name, title in ABLATIONS.items()},
    **{name: f"DCA, sparse {share}" for name, share in SPARSE.items()},
    **SCALINGS,
    **{f"dca+{name}": f"DCA + {title}" for name, title in SCALINGS.items()},
}
USUAL_FACTOR = 2.0  # of a scaling beside DCA


@dataclass(frozen=True)
class Variant:
    """One of the models that are compared.

    `describes` goes into the header of a run; `model_for` gives the model for texts of a length in tokens, which
    matters to scalings that stretch as far as the text is long.
    """

    name: str
    dca: bool
    model_for: Callable[[int], PreTrainedModel] = field(repr=False)
    describes: dict[str, Any] = field(default_factory=dict)


def build(loaded: Loaded, compare: Iterable[str] = (), factor: float | None = None, dca_factor: float = USUAL_FACTOR):
    """The DCA model and what is to be compared with it, in that order; all share their weights.

    Args:
        loaded: the model, as `load` gives it with DCA.
        compare: names of `COMPARED`.
        factor: how far the scalings alone stretch; by default as far as each text is longer than the trained length.
        dca_factor: how far the scalings beside DCA stretch. The DCA sizes grow with it: what a scaling makes of a
            model is one of a longer window.

    Raises DcaHubError for an unknown name, or what cannot be made of this model.
    """
    geometry = loaded.geometry
    if geometry is None:
        raise DcaHubError("The model was loaded without DCA: load it with DCA to compare.")
    sizes = {"dca": True, CONFIG_KEY: dict(getattr(loaded.model.config, CONFIG_KEY))}
    found = [Variant("DCA", True, lambda length: loaded.model, sizes)]
    for name in dict.fromkeys(compare):
        if name not in COMPARED:
            raise DcaHubError(f"There is no {name!r} to compare with: use {', '.join(COMPARED)}.")
        found.append(_make(name, loaded, geometry, factor, dca_factor))
    return found


def _make(name: str, loaded: Loaded, geometry: DualChunkGeometry, factor: float | None, dca_factor: float) -> Variant:
    title, base, trained = COMPARED[name], loaded.base, geometry.pretraining_length
    if name == "plain":
        return Variant(title, False, lambda length: base, {"dca": False})
    if name == "no-temperature":
        cold = DualChunkGeometry(geometry.chunk_size, geometry.local_size, trained)
        return _fixed(title, partial(extend, base, **asdict(cold)), _sizes(cold))
    if name in SPARSE:
        asked = SparseAttention(share=SPARSE[name])
        settings = {**config_from_geometry(geometry), SPARSE_KEY: asked.as_config()}
        make = partial(extend, base, **asdict(geometry), sparse=asked)
        return _fixed(title, make, {"dca": True, CONFIG_KEY: settings})
    if name in ABLATIONS:
        make = lambda: ablate(extend(base, **asdict(geometry)), name)
        return _fixed(title, make, {**_sizes(geometry), "relations": name})
    kind = name.removeprefix("dca+")
    if name in SCALINGS:

        @lru_cache(maxsize=1)
        def stretched(by: float) -> PreTrainedModel:
            return rescaled(base, kind, by, trained) if by > 1 else base

        rope = "by length" if factor is None else rope_parameters(base.config, kind, factor, trained)
        rope_parameters(base.config, kind, factor or 1.0, trained)  # refuses now what it cannot scale
        make = lambda length: stretched(factor or max(1.0, length / trained))
        return Variant(title, False, make, {"dca": False, "rope_parameters": rope, "rope_scaling": kind})
    window = DualChunkGeometry(
        round(geometry.chunk_size * dca_factor),
        round(geometry.local_size * dca_factor),
        round(trained * dca_factor),
        geometry.temperature,
    )
    rope = rope_parameters(base.config, kind, dca_factor, trained)
    made = lambda: extend(rescaled(base, kind, dca_factor, trained), **asdict(window))
    return _fixed(title, made, {**_sizes(window), "rope_parameters": rope, "rope_scaling": kind})


def _fixed(title: str, make: Callable[[], PreTrainedModel], describes: dict) -> Variant:
    once = lru_cache(maxsize=1)(make)
    return Variant(title, True, lambda length: once(), describes)


def _sizes(geometry: DualChunkGeometry) -> dict[str, Any]:
    return {"dca": True, CONFIG_KEY: config_from_geometry(geometry)}
