"""Where a model looks while it answers: the share of its own attention that goes to each page.

As an answer is written, the queries of its tokens are noted in some layers. Afterwards they are set against the cached
keys, a piece of keys at a time, each piece in the one relation that Dual Chunk Attention has it in, under a running
softmax: the weights are the model's own, and Q x K of them never stand in memory at once.

Shapes: H query heads, G key/value heads, Q queries, K keys, D head size, P spans.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from transformers import PreTrainedModel

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry, Relation, key_ranges
from dca_hub.modeling.dual_chunk_rotation import RelationRotations

MOST_LAYERS, MOST_QUERIES = 8, 32
_PIECE = 4096  # keys whose weights are in memory at a time
_WORK = 1e11  # multiplications and additions that looking back may take: a second or two on a CPU of two cores
Span = tuple[int, int]  # tokens, from the first to before the last


@dataclass(frozen=True)
class Query:
    """The query of one token: [H, D], rotated at its position in the chunk, with its way to the other relations."""

    number: int  # of the token that it wrote, among those of the answer
    position: int
    vector: torch.Tensor
    rotations: RelationRotations


@dataclass
class Layer:
    """What is noted in one layer. keys: [G, K, D], those of the last call."""

    geometry: DualChunkGeometry
    scaling: float
    sinks: torch.Tensor | None
    softcap: float | None
    keys: torch.Tensor
    queries: list[Query] = field(default_factory=list)
    step: int = 1  # from one token that is noted to the next

    def note(self, query: Query, most: int) -> None:
        if query.number % self.step:
            return
        self.queries.append(query)
        if len(self.queries) > most:
            self.step *= 2
            self.queries = [query for query in self.queries if query.number % self.step == 0]


class AttentionWatch:
    """Notes, while it is entered, the queries of one answer; `shares` then says where its attention went.

    Args:
        model: a DCA model that answers one prompt at a time, with a cache.
        layers: of the changed ones, how many are noted, spread over the depth of the model.
        queries: how many of an answer's tokens are noted, spread over its length.
    """

    def __init__(self, model: PreTrainedModel, layers: int = MOST_LAYERS, queries: int = MOST_QUERIES):
        self._model, self._most = model, queries
        plan: Any = model.dual_chunk_plan
        names = [layer.name for layer in plan.changed]
        self._names = _spread([name for name in names if names.count(name) == 1], layers)  # none that is run twice
        self._layers: dict[str, Layer] = {}
        self._handles: list = []
        self._calls = dict.fromkeys(self._names, 0)

    def __enter__(self) -> "AttentionWatch":
        for name in self._names:
            module = self._model.base_model.get_submodule(name)
            self._handles.append(module.register_forward_pre_hook(self._hook(name), with_kwargs=True))
        return self

    def __exit__(self, *exc) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def shares(self, spans: Sequence[Span], first: int = 0) -> list[float] | None:
        """The share of the attention that each span of tokens got, averaged over the noted layers, heads and tokens;
        the rest went elsewhere. None where nothing was noted.

        first: the first token of the answer that counts; those before it are thoughts.
        """
        noted = {name: [q for q in layer.queries if q.number >= first] for name, layer in self._layers.items()}
        if not spans or not all(noted.values()):
            return None
        found = [
            attention_over(spans, _spread(noted[name], self._affordable(layer)), layer).mean(dim=(0, 1)).cpu()
            for name, layer in self._layers.items()
        ]
        return torch.stack(found).mean(dim=0).tolist() if found else None

    def _affordable(self, layer: Layer) -> int:
        """How many queries of a layer can be set against all its keys."""
        _, keys, size = layer.keys.shape
        return max(1, int(_WORK / (2 * keys * size * layer.queries[0].vector.shape[0] * len(self._layers))))

    def _hook(self, name: str):
        def enter(module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            call = kwargs.get("dual_chunk")
            return args, {**kwargs, "dual_chunk": call if call is None else _Watched(call, self, name)}

        return enter

    def note(
        self, name: str, call, query: torch.Tensor, key: torch.Tensor, scaling: float | None, extras: dict
    ) -> None:
        """The last query of a call [1, H, Q, D], over keys [1, G, K, D]."""
        number = self._calls[name]
        self._calls[name] += 1
        segments = getattr(call.layout, "segments", ())
        if len(segments) != 1 or query.shape[0] != 1 or segments[0].keys not in (slice(0, key.shape[2]), slice(None)):
            return  # padded, packed or in a static cache: no call of `PromptCache`
        if call.gain is not None:
            return  # the layer's weights are of other keys than those that it is given
        layer = self._layers.get(name)
        if layer is None:
            scale = query.shape[-1] ** -0.5 if scaling is None else scaling
            layer = Layer(call.geometry, scale, extras.get("s_aux"), extras.get("softcap"), key[0])
            self._layers[name] = layer
        layer.keys = key[0]
        last, rotations = query.shape[2] - 1, segments[0].rotations
        vector = query[0, :, last].detach().clone()
        layer.note(Query(number, key.shape[2] - 1, vector, rotations.rows(slice(last, last + 1))), self._most)


@dataclass(frozen=True)
class _Watched:
    """A layer's part of the call, which notes what it is asked before it serves."""

    call: Any
    watch: AttentionWatch
    name: str

    def serve(self, module, query, key, value, mask, scaling, dropout, **kwargs):
        if mask is None:  # a layer's own mask leaves keys out
            self.watch.note(self.name, self.call, query, key, scaling, kwargs)
        return self.call.serve(module, query, key, value, mask, scaling, dropout, **kwargs)


@torch.inference_mode()
def attention_over(spans: Sequence[Span], queries: Sequence[Query], layer: Layer) -> torch.Tensor:
    """The share of the attention of each head and query that goes to each span: [H, Q, P] in float32."""
    owner = torch.zeros(layer.keys.shape[1], dtype=torch.long, device=layer.keys.device)  # 0: of no span
    for index, (start, stop) in enumerate(spans, 1):
        owner[start:stop] = index
    chunk_length = layer.geometry.chunk_length
    groups = groupby(queries, key=lambda query: query.position // chunk_length)
    shares = [_of_chunk(list(group), chunk, owner, len(spans), layer) for chunk, group in groups]
    return torch.cat(shares, dim=1)


def _of_chunk(queries: list[Query], chunk: int, owner: torch.Tensor, spans: int, layer: Layer) -> torch.Tensor:
    """[H, Q, P] for queries of one chunk: a running softmax over the keys, summed by owner."""
    vectors = torch.stack([query.vector for query in queries], dim=1) * layer.scaling
    rotations = _joined([query.rotations for query in queries]).to(owner.device)
    positions = torch.tensor([query.position for query in queries], device=owner.device).unsqueeze(-1)
    sums = torch.zeros(*vectors.shape[:2], spans + 1, device=owner.device)
    top = torch.full((*vectors.shape[:2], 1), float("-inf"), device=owner.device)
    if layer.sinks is not None:
        top = layer.sinks.to(sums).view(-1, 1, 1).expand_as(top)
        sums[..., 0] = 1.0  # exp(sink - sink)
    for start, stop, relation in _pieces(chunk, queries[-1].position + 1, layer.geometry.chunk_length):
        logits = _logits(rotations.forward(vectors, relation), layer, slice(start, stop))
        logits.masked_fill_(torch.arange(start, stop, device=owner.device) > positions, float("-inf"))
        highest = torch.maximum(top, logits.amax(dim=-1, keepdim=True))
        sums = sums * torch.exp(top - highest)
        sums.index_add_(-1, owner[start:stop], torch.exp(logits - highest))
        top = highest
    return (sums / sums.sum(dim=-1, keepdim=True))[..., 1:]


def _logits(queries: torch.Tensor, layer: Layer, keys: slice) -> torch.Tensor:
    """[H, Q, keys] in float32, of queries [H, Q, D] that are rotated and scaled."""
    grouped = queries.unflatten(0, (layer.keys.shape[0], -1))
    logits = torch.einsum("ghqd,gkd->ghqk", grouped, layer.keys[:, keys]).flatten(0, 1).float()
    return logits if layer.softcap is None else layer.softcap * torch.tanh(logits / layer.softcap)


def _joined(rotations: Sequence[RelationRotations]) -> RelationRotations:
    first = rotations[0]
    factor = (
        None if first.factor is None else torch.cat([one.factor for one in rotations if one.factor is not None], dim=-2)
    )
    cos, sin = (torch.cat([getattr(one, name) for one in rotations], dim=-2) for name in ("cos", "sin"))
    return RelationRotations(cos, sin, factor, first.layout)


def _pieces(chunk: int, end: int, chunk_length: int) -> Iterator[tuple[int, int, Relation]]:
    """The keys before `end` that queries of a chunk see, in pieces of one relation each. The first piece has a key that
    every query sees."""
    for relation, begin, stop in key_ranges(chunk, end, chunk_length):
        for start in range(begin, stop, _PIECE):
            yield start, min(start + _PIECE, stop), relation


def _spread(items: Sequence, most: int) -> list:
    """At most so many of some items, evenly spread; the last one is among them."""
    if len(items) <= most:
        return list(items)
    return [items[round((number + 1) * len(items) / most) - 1] for number in range(most)]
