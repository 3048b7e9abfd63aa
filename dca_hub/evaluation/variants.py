"""What a run compares: the DCA model, the plain base beside it, and what else can be made of the same weights.

Ablations are DCA with some of its relations only (arXiv 2402.17463, section 4). A hook of PyTorch's own on the model
changes what each call has laid out, behind the hook that lays it out; what is published knows nothing of it.

RoPE scalings stand alone or beside DCA. linear: positional interpolation (Chen et al., arXiv 2306.15595). ntk: a larger
base, NTK-aware. yarn: Peng et al., arXiv 2309.00071.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from typing import Any

import torch
from transformers import PreTrainedModel

from dca_hub.errors import DcaHubError
from dca_hub.evaluation.names import ABLATIONS, COMPARED, SCALINGS, SPARSE, USUAL_FACTOR
from dca_hub.extending import extend, sharing
from dca_hub.loading import Loaded
from dca_hub.modeling.dual_chunk_call import DualChunkCall
from dca_hub.modeling.dual_chunk_config import CONFIG_KEY, SPARSE_KEY, config_from_geometry
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry, Relation
from dca_hub.modeling.dual_chunk_layout import Segment, SegmentedLayout
from dca_hub.modeling.dual_chunk_rotation import ORDER, RelationRotations
from dca_hub.modeling.dual_chunk_selection import SparseAttention


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


def ablate(model: PreTrainedModel, kept: str) -> PreTrainedModel:
    """The given DCA model, from now on with the relations of `ABLATIONS` alone.

    intra: a query sees its own chunk and nothing else. intra+inter: it sees the chunk before as it sees all earlier
    ones, at distance C minus the key's position in its chunk.

    Raises KeyError for a name that is none of them.
    """
    change = {"intra": _own_chunks, "intra+inter": _inter_for_successive}[kept]

    def hook(module, args, kwargs):
        call: DualChunkCall = kwargs["dual_chunk"]
        if not isinstance(call.layout, SegmentedLayout):
            raise ValueError("an ablation serves texts in order, without padding or masks.")
        segments = tuple(new for old in call.layout.segments for new in change(old, call.geometry.chunk_length))
        return args, {**kwargs, "dual_chunk": DualChunkCall(call.geometry, SegmentedLayout(segments))}

    model.base_model.register_forward_pre_hook(hook, with_kwargs=True)
    return model


def _inter_for_successive(segment: Segment, chunk_length: int) -> list[Segment]:
    taken = {Relation.INTRA: Relation.INTRA, Relation.SUCCESSIVE: Relation.INTER, Relation.INTER: Relation.INTER}
    order, of = torch.tensor([ORDER.index(taken[relation]) for relation in ORDER]), segment.rotations
    return [
        dataclasses.replace(segment, rotations=RelationRotations(of.cos[order], of.sin[order], of.factor, of.layout))
    ]


def _own_chunks(segment: Segment, chunk_length: int) -> list[Segment]:
    """The segment as one of its own for each chunk, which sees no other."""
    if not isinstance(segment.keys, slice) or not isinstance(segment.queries, slice):
        raise ValueError("an ablation serves texts in order, without padding or masks.")
    length = segment.keys.stop - segment.keys.start
    first = length - (segment.queries.stop - segment.queries.start)  # position of the first query
    found = []
    for chunk in range(first // chunk_length * chunk_length, length, chunk_length):
        begin, end = max(first, chunk), min(length, chunk + chunk_length)
        found.append(
            Segment(
                segment.rows,
                slice(segment.queries.start + begin - first, segment.queries.start + end - first),
                slice(segment.keys.start + chunk, segment.keys.start + end),
                _rows(segment.rotations, slice(begin - first, end - first)),
            )
        )
    return found


def _rows(rotations: RelationRotations, rows: slice) -> RelationRotations:
    factor = None if rotations.factor is None else rotations.factor[..., rows, :]
    return RelationRotations(rotations.cos[..., rows, :], rotations.sin[..., rows, :], factor, rotations.layout)


def rope_parameters(config, kind: str, factor: float, trained: int) -> dict[str, float | int | str]:
    """The `rope_parameters` of a config for one of `SCALINGS`, for texts `factor` times as long as the `trained` ones.

    Raises DcaHubError for an unknown kind, a factor below 1, or a model that is scaled already.
    """
    if kind not in SCALINGS:
        raise DcaHubError(f"There is no RoPE scaling {kind!r}: use {', '.join(SCALINGS)}.")
    if factor < 1:
        raise DcaHubError(f"The factor of a RoPE scaling must be at least 1, not {factor:g}.")
    held = getattr(config, "rope_parameters", None) or {}
    if held.get("rope_type", "default") != "default":
        raise DcaHubError(
            f"This model has a RoPE scaling of its own ({held['rope_type']}): compare scalings on a model without one."
        )
    theta = float(held.get("rope_theta") or 10000.0)
    if kind == "linear":
        return {"rope_type": "linear", "rope_theta": theta, "factor": float(factor)}
    if kind == "yarn":
        window = {"original_max_position_embeddings": trained}
        return {"rope_type": "yarn", "rope_theta": theta, "factor": float(factor), **window}
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return {"rope_type": "default", "rope_theta": theta * factor ** (size / (size - 2))}


def rescaled(model: PreTrainedModel, kind: str, factor: float, trained: int) -> PreTrainedModel:
    """The plain model with that scaling; it shares its weights with the given one, which stays as it is."""
    config = copy.deepcopy(model.config)
    config.rope_parameters = rope_parameters(config, kind, factor, trained)
    config.max_position_embeddings = max(config.max_position_embeddings, round(trained * factor))
    rotary = model.base_model.rotary_emb
    made = sharing(model, type(model), config)
    made.base_model.rotary_emb = type(rotary)(config).to(rotary.inv_freq.device)
    return made
