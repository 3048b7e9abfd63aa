"""Dual Chunk Attention with some of its relations only, to show what each is for (arXiv 2402.17463, section 4).

A hook of PyTorch's own on the DCA model of a run changes what each call has laid out, behind the hook that lays it out:
what is published knows nothing of it.
"""

import dataclasses

import torch
from transformers import PreTrainedModel

from dca_hub.modeling.dual_chunk_call import DualChunkCall
from dca_hub.modeling.dual_chunk_geometry import Relation
from dca_hub.modeling.dual_chunk_layout import Segment, SegmentedLayout
from dca_hub.modeling.dual_chunk_rotation import ORDER, RelationRotations

ABLATIONS = {"intra": "intra only", "intra+inter": "intra + inter"}


def ablate(model: PreTrainedModel, kept: str) -> PreTrainedModel:
    """The given DCA model, from now on with the relations of `ABLATIONS` alone.

    intra: a query sees its own chunk and nothing else. intra+inter: it sees the chunk before as it sees all earlier
    ones, at distance C minus the key's place in its chunk.

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
