"""Dual Chunk Attention of the last tokens of requests, as decoding needs it: keys and values are read where they lie.

All requests of a step share the calls: each visit to a page gives that page's share of one request's attention, and the
shares of a request are summed.

Shapes: R requests, E visits, T of them partial, H query heads, G key/value heads, P tokens of a page, D head size,
X rotated part of D. A cache is that of `paged`.
"""

from collections.abc import Iterator

import torch

from dca_hub.modeling.dual_chunk_rotation import RelationRotations, rotate
from dca_hub.vllm_plugin.cpu.decode_plan import DecodePlan

SUM, MAX = 0, 2  # modes of embedding_bag


def decode_attention(
    query: torch.Tensor, cache: torch.Tensor, plan: DecodePlan, rotations: RelationRotations, scaling: float
) -> torch.Tensor:
    """Dual Chunk Attention of the last token of each request over all of its tokens, [R, H, D].

    query: [R, H, D], rotated at the absolute position. rotations: from there to each of the relations, cos and sin
    [3, R, X / 2].
    """
    groups, size = cache.shape[1], query.shape[-1]
    each = _rotated(query, rotations, scaling).view(-1, query[0].numel()).index_select(0, plan.queries)
    scores = _scores(each.view(len(plan.requests) * groups, -1, size), cache, plan)
    scores = scores.view(len(plan.requests), query.shape[1], -1).float()
    cut = plan.partial
    if len(cut.visits):
        some = scores.index_select(0, cut.visits).masked_fill_(cut.unseen.unsqueeze(1), float("-inf"))
        scores.index_copy_(0, cut.visits, some)
    top = _by_request(scores.amax(-1), plan, MAX).index_select(0, plan.requests)
    weights = scores.sub_(top.unsqueeze(-1)).exp_()
    total = _by_request(weights.sum(-1), plan, SUM)
    shares = _shares(weights.to(query.dtype), cache, plan).float()
    out = _by_request(shares.flatten(1), plan, SUM).view(query.shape)
    return (out / total.unsqueeze(-1)).to(query.dtype)


def _rotated(query: torch.Tensor, rotations: RelationRotations, scaling: float) -> torch.Tensor:
    """[3, R, H, D]."""
    factor = None if rotations.factor is None else rotations.factor.unsqueeze(1)
    return rotate(query.float() * scaling, rotations.cos.unsqueeze(2), rotations.sin.unsqueeze(2), factor).to(
        query.dtype
    )


def _scores(each: torch.Tensor, cache: torch.Tensor, plan: DecodePlan) -> torch.Tensor:
    """[E * G, H / G, P] of the visits' queries [E * G, H / G, D] with all keys of their pages."""
    scores = each.new_empty(*each.shape[:2], cache.shape[3])
    for query, keys, out, copied in _by_page_run(each, cache, 0, scores, plan):
        if copied and query.shape[1] > 1:
            torch.bmm(query, keys.transpose(1, 2), out=out)
        else:
            # A single row, or keys that have yet to come from memory: quicker in this order, and transposed afterwards.
            out.copy_(torch.bmm(keys, query.transpose(1, 2)).transpose(1, 2))
    return scores


def _shares(weights: torch.Tensor, cache: torch.Tensor, plan: DecodePlan) -> torch.Tensor:
    """[E, H, D] of values by weights [E, H, P]."""
    groups, size, cut = cache.shape[1], cache.shape[3], plan.partial
    shares = weights.new_empty(*weights.shape[:2], cache.shape[4])
    grouped, out = (x.view(len(weights) * groups, -1, x.shape[2]) for x in (weights, shares))
    for weight, values, share, _ in _by_page_run(grouped, cache, 1, out, plan):
        torch.bmm(weight, values, out=share)
    if len(cut.visits):  # a weight of zero does not keep out a NaN
        values = cache[:, :, 1].index_select(0, cut.pages).masked_fill_(cut.unseen[:, None, :, None], 0).flatten(0, 1)
        weight = weights.index_select(0, cut.visits).view(len(values), -1, size)
        shares.index_copy_(0, cut.visits, torch.bmm(weight, values).view(len(cut.visits), *shares.shape[1:]))
    return shares


def _by_page_run(
    left: torch.Tensor, cache: torch.Tensor, kind: int, out: torch.Tensor, plan: DecodePlan
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, bool]]:
    """The rows of `left` and `out`, [E * G, ...] both, and of the cache's keys or values [E * G, P, D] by `kind`,
    run by run; and whether those have just been copied."""
    groups, _, *block = cache.shape[1:]
    counts = [run.count * groups for run in plan.page_runs]
    copied = [count for run, count in zip(plan.page_runs, counts) if run.first is None]
    copies = cache.new_empty(max(copied, default=0), *block)
    lying, blocks = cache[:, :, kind].flatten(0, 1), cache.view(-1, *block)
    rows = (x.split(counts) for x in (left, out, plan.blocks + kind))
    for run, count, mine, to, where in zip(plan.page_runs, counts, *rows):
        if run.first is None:
            yield mine, torch.index_select(blocks, 0, where, out=copies[:count]), to, True
        else:
            yield mine, lying.narrow(0, run.first * groups, count), to, False


def _by_request(rows: torch.Tensor, plan: DecodePlan, mode: int) -> torch.Tensor:
    """Sums or maxima [R, ...] of rows [E, ...] of visits."""
    return torch.embedding_bag(rows, plan.by_request, plan.starts, False, mode, False)[0]
