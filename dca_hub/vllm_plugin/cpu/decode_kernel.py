"""Dual Chunk Attention of the last tokens of requests by vLLM's kernel for one query over tokens wherever they lie.

That kernel takes a query for each sequence and leaves each sequence's log-sum-exp beside its attention. So what a
request sees in one relation becomes sequences of its own, short enough to keep all threads busy, each with the query
rotated for its relation; a softmax over their log-sum-exps puts them together. `decode` is the same in PyTorch's
operations, for processors and dtypes that the kernel is not for.

Shapes: R requests, E sequences of each, some of them empty, K tokens of the longest, H query heads, G key/value heads,
P tokens of a page, D head size, X rotated part of D. A cache is that of `pages`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from dca_hub.modeling.dual_chunk_rotation import ORDER, RelationRotations
from dca_hub.vllm_plugin.cpu.pages import PageShape
from dca_hub.vllm_plugin.cpu.turn import Turn, turn
from dca_hub.vllm_plugin.spans import Span, pieces

_LEAST_TOKENS = 256  # that the kernel takes at a time
_SHARES = 16  # of a step's work for each thread
_FEW_ENTRIES = 2**20  # of a table, whatever requests need


def refuse_kernel(page: PageShape, lasts: Sequence[Span]) -> str | None:
    """Why vLLM's kernel cannot serve spans of one token each in pages, or None."""
    if page.dtype not in (torch.bfloat16, torch.float16):
        return f"it takes bfloat16 and float16, not {page.dtype}"
    # Its other builds do not have it, or only in plain loops.
    if not hasattr(torch.ops._C, "decode_attention_cpu") or not torch.cpu._is_avx512_bf16_supported():
        return "it is for processors with AVX512-BF16"
    lengths = [span.length for span in lasts]
    if len(lengths) * max(lengths) > max(_FEW_ENTRIES, 4 * sum(lengths)):
        return "its table has as many entries for each request as for the longest"
    return None


@dataclass(frozen=True)
class SequencePlan:
    """The sequences of a step, [R * E] of them in order of requests: `tokens` [R * E, K] are where their keys of the
    first head lie, in vectors of the cache, `lengths` how many there are, `numbers` their own; `turn` [R, E] takes the
    requests' queries to them."""

    tokens: torch.Tensor
    lengths: torch.Tensor
    numbers: torch.Tensor
    turn: Turn


def plan_sequences(
    lasts: Sequence[Span], table: torch.Tensor, page: PageShape, chunk_length: int, rotations: RelationRotations
) -> SequencePlan:
    """The sequences of spans of one token each, at least one span, by the pages `table` [requests, pages], with the
    rotations [3, R, X / 2] of their queries from where these arrive."""
    found = _cut(lasts, page, chunk_length)
    longest, count = max(span.length for span in lasts), max(map(len, found))
    begins, lengths, relations = (torch.tensor(x).view(len(lasts), count) for x in _columns(found, count))
    pages = table[[span.request for span in lasts], : -(-longest // page.tokens)].long()
    where = (pages.unsqueeze(-1) * (2 * page.heads * page.tokens) + torch.arange(page.tokens)).flatten(1)
    if int(where.max()) < 2**31:  # every layer reads them
        where = where.int()
    at = begins.unsqueeze(-1) + torch.arange(int(lengths.max()))
    tokens = where.gather(1, at.clamp_(max=where.shape[1] - 1).flatten(1)).view(len(lasts) * count, -1)
    rows = torch.arange(len(lasts)).unsqueeze(1)
    factor = None if rotations.factor is None else rotations.factor.unsqueeze(1)
    placed = (x[relations, rows] for x in (rotations.cos, rotations.sin))
    return SequencePlan(tokens, lengths.flatten(), torch.arange(len(tokens)), turn(*placed, page.size, factor))


def _cut(lasts: Sequence[Span], page: PageShape, chunk_length: int) -> list[list[tuple[int, int, int]]]:
    """For each request the first token, the length and the relation of each of its sequences."""
    most = sum(span.length for span in lasts) * page.heads // (_SHARES * torch.get_num_threads())
    most, found = max(most, _LEAST_TOKENS), {span.request: [] for span in lasts}
    for relation, these in pieces(lasts, chunk_length).items():
        for piece in these:
            count = -(-piece.k_length // most)
            borders = [piece.k_length * nth // count for nth in range(count + 1)]
            found[piece.request] += [
                (piece.k_start + begin, end - begin, ORDER.index(relation)) for begin, end in pairwise(borders)
            ]
    return list(found.values())


def _columns(found: list[list[tuple[int, int, int]]], count: int):
    """The three numbers of all sequences, with empty ones up to `count` for each request."""
    return zip(*(one for mine in found for one in mine + [(0, 0, 0)] * (count - len(mine))))


def attend_by_kernel(query: torch.Tensor, cache: torch.Tensor, plan: SequencePlan, scaling: float) -> torch.Tensor:
    """Dual Chunk Attention of the last token of each request over all of its tokens, float32 [R, H, D].

    query: [R, H, D], rotated at the absolute position.
    """
    requests, heads, size = query.shape
    each = plan.turn(query.unsqueeze(1)).view(-1, heads, size)
    unused, found = torch.empty_like(each), each.new_empty(*each.shape[:2], 1, size + 1, dtype=torch.float32)
    keys, values = _vectors(cache)
    torch.ops._C.decode_attention_cpu(
        each,
        keys,
        values,
        unused,
        None,  # keys and values to write
        None,
        plan.numbers,  # where to write them
        found,
        plan.tokens,
        plan.numbers,
        plan.lengths,
        scaling,
        0.0,  # no cap on logits
        False,  # no cross attention
        -1,  # no window
        None,
        None,
    )
    parts, lse = found.view(requests, -1, heads, size + 1).split((size, 1), dim=-1)
    return parts.mul_(torch.softmax(lse, dim=1)).sum(1)


def _vectors(cache: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A cache's keys and values as the kernel takes them, [tokens, G, D], with a token at every vector."""
    pages, heads, _, tokens, size = cache.shape
    count = (pages - 1) * 2 * heads * tokens + tokens
    shape, stride, start = (count, heads, size), (size, 2 * tokens * size, 1), cache.storage_offset()
    return cache.as_strided(shape, stride, start), cache.as_strided(shape, stride, start + tokens * size)
