"""The sequences that flash attention gets in place of a step's requests, so that its result is Dual Chunk Attention.

Each request's tokens are cut at the borders of chunks. A piece's keys in its own chunk are seen causally, in one call;
all earlier ones in another. There, the first w queries of a chunk see the chunk before at one rotary position and what
lies before it at another: two sequences. All others stand at C to both relations, and are one sequence with all keys
before their chunk. Requests with many queries have their keys copied together first (`key_copy`), and a call of their
own. Shapes: N tokens of a step, R requests, P sequences of a call, W pages of the longest of them.
"""

from dataclasses import dataclass

import numpy as np
import torch

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.vllm_plugin.cuda.key_copy import CopiedKeys, KeyCopyPolicy
from dca_hub.vllm_plugin.cuda.ops import Rows, pages_of


@dataclass(frozen=True)
class FlashSequences:
    """One call of `queries` rows: where the queries of each sequence begin (`starts` [P + 1]), the pages of its keys
    (`pages` [P, W]) and how many keys there are (`lengths` [P]), all int32; and the longest, or no less.

    `schedule` is what the kernel makes of all that before it begins, where it is made once for all layers, and `splits`
    into how many pieces of its keys a sequence may be cut to keep a GPU busy, 0 where the kernel is to choose.
    `copied` are keys that are copied together first, and then `pages` is None.
    """

    queries: int
    starts: torch.Tensor
    pages: torch.Tensor | None
    lengths: torch.Tensor
    longest_query: int
    longest_key: int
    schedule: torch.Tensor | None = None
    splits: int = 0
    copied: CopiedKeys | None = None


@dataclass(frozen=True)
class Layout:
    """The calls of a step. `intra` are the intra relations of all rows in order, and `cross` the others, of
    `cross_rows` queries one call after another; where every request has one token, `cross` is empty and `intra` has all
    of both."""

    rows: Rows
    cross_rows: int
    intra: FlashSequences
    cross: tuple[FlashSequences, ...]


def lay_out(
    starts: np.ndarray,
    lengths: np.ndarray,
    block_table: torch.Tensor,
    geometry: DualChunkGeometry,
    page_size: int,
    key_copy: KeyCopyPolicy | None = None,
) -> Layout | None:
    """The layout of a step, on the device of `block_table` [R, pages], or None if all its tokens are in first chunks.

    starts: int64 [R + 1], the first row of each request, and the end. lengths: int64 [R], tokens of each, this step
    included. key_copy: which keys are to be copied together, None for none. All that is sent to the device goes in one
    copy, which is not waited for.
    """
    # A request of a rehearsal may be said to have fewer tokens than are in the step.
    lengths = np.maximum(lengths, np.diff(starts))
    intra, cross = _cut(starts, lengths, geometry)
    if not len(cross.start):
        return None
    # [R], the keys of each request that some query sees from another chunk: all before its last chunk.
    before = (lengths - 1) // geometry.chunk_length * geometry.chunk_length
    chosen = _chosen(cross, before, key_copy)
    paged, copied = cross.where(~chosen[cross.request]), cross.where(chosen[cross.request])
    cross = paged.then(copied)  # the order of the cross queries, which `Rows` counts them in
    in_pages = intra.then(paged)
    copied_end = np.where(chosen, before, 0).cumsum()  # [R], where the copy of each request's keys ends
    sent = _send(
        block_table.device,
        **_rows(intra, cross, int(starts[-1])),
        **{f"{name} starts": cut.starts() for name, cut in (("intra", intra), ("paged", paged), ("copied", copied))},
        **{f"{name} lengths": cut.k_length for name, cut in (("intra", intra), ("paged", paged), ("copied", copied))},
        in_copy=np.append((copied_end - before)[copied.request] + copied.k_start, copied_end[-1]),
        request=in_pages.request,
        first_page=in_pages.k_start // page_size,
    )

    def call(name: str, cut: _Pieces, pages: torch.Tensor | None, keys: CopiedKeys | None = None) -> FlashSequences:
        queries, *longest = int(cut.count.sum()), int(cut.count.max()), int(cut.k_length.max())
        return FlashSequences(queries, sent[f"{name} starts"], pages, sent[f"{name} lengths"], *longest, copied=keys)

    pages = pages_of(block_table, sent["request"], sent["first_page"], -(-int(in_pages.k_length.max()) // page_size))
    intra_call, cross_calls = call("intra", intra, pages[: len(intra.start)]), []
    if len(paged.start):
        cross_calls.append(call("paged", paged, pages[len(intra.start) :]))
    if len(copied.start):
        sources = torch.cat([block_table[r, : before[r] // page_size] for r in chosen.nonzero()[0]])
        cross_calls.append(call("copied", copied, None, CopiedKeys(sources, sent["in_copy"])))
    rows = Rows(sent["positions"], sent["successive"], sent["inter"])
    return Layout(rows, int(cross.count.sum()), intra_call, tuple(cross_calls))


def _chosen(cross: "_Pieces", before: np.ndarray, key_copy: KeyCopyPolicy | None) -> np.ndarray:
    """Of which requests keys are copied, bool [R]; `before` [R] are how many there are of each."""
    if key_copy is None:
        return np.zeros(len(before), dtype=bool)
    worth_it = np.bincount(cross.request, cross.count, minlength=len(before)) >= key_copy.least_queries
    worth_it &= before <= key_copy.most_tokens
    return worth_it & (np.where(worth_it, before, 0).cumsum() <= key_copy.most_tokens)


class DecodeMemory:
    """Where the layout of a step of one token a request is written, for at most `requests` of them. It stays in place,
    and its shapes depend on the number of requests alone, as a CUDA graph needs it."""

    def __init__(self, requests: int, pages: int, device: torch.device):
        self.rows = torch.zeros(3, requests, dtype=torch.int32, device=device)
        self.lengths = torch.zeros(3 * requests, dtype=torch.int32, device=device)
        self.starts = torch.zeros(3 * requests + 1, dtype=torch.int32, device=device)
        self.pages = torch.zeros(3 * requests, pages, dtype=torch.int32, device=device)

    def layout(self, requests: int, longest: int) -> Layout:
        """Its first `requests`, of at most `longest` tokens; what they hold is to be written."""
        rows = 3 * requests
        intra = FlashSequences(rows, self.starts[: rows + 1], self.pages[:rows], self.lengths[:rows], 1, longest)
        return Layout(Rows(*self.rows[:, :requests]), 2 * requests, intra, ())


@dataclass(frozen=True)
class _Pieces:
    """Sequences as int64 arrays [P]: rows [start, start + count) of a request, which begin at `position`, against its
    keys [k_start, k_start + k_length)."""

    request: np.ndarray
    start: np.ndarray
    count: np.ndarray
    position: np.ndarray
    k_start: np.ndarray
    k_length: np.ndarray
    successive: np.ndarray

    def starts(self) -> np.ndarray:
        return np.concatenate([[0], self.count.cumsum()])

    def where(self, kept: np.ndarray) -> "_Pieces":
        return _Pieces(*(column[kept] for column in vars(self).values()))

    def then(self, others: "_Pieces") -> "_Pieces":
        return _Pieces(*(np.concatenate(pair) for pair in zip(vars(self).values(), vars(others).values())))

    def offsets(self) -> np.ndarray:
        """Of each query within its sequence."""
        return np.arange(self.count.sum()) - np.repeat(self.count.cumsum() - self.count, self.count)


def _cut(starts: np.ndarray, lengths: np.ndarray, geometry: DualChunkGeometry) -> tuple[_Pieces, _Pieces]:
    """A step's sequences: the intra ones in order of rows; and the others, those with the most keys first, since the
    kernel takes them in order and should not end with the longest."""
    s, window = geometry.chunk_length, geometry.local_size
    queries = np.diff(starts)  # [R]
    first = lengths - queries  # [R], position of the first query
    chunks = np.where(queries > 0, (lengths - 1) // s - first // s + 1, 0)  # [R], that its queries lie in
    # From here on [E]: an entry for each chunk of each request that has queries of the step.
    request = np.repeat(np.arange(len(lengths)), chunks)
    nth = np.arange(len(request)) - np.repeat(chunks.cumsum() - chunks, chunks)  # among the chunks of its request
    first, end, shift = first[request], lengths[request], (starts[:-1] - first)[request]
    chunk = (first // s + nth) * s  # position at which the chunk begins
    begin, end = np.maximum(first, chunk), np.minimum(end, chunk + s)  # positions of its queries
    edge = np.clip(chunk + window, begin, end)  # up to here the successive relation is exact, then it is at C

    def pieces(a, b, k_start, k_end, successive=False) -> _Pieces:
        """Queries [a, b) against keys [k_start, k_end), where there are both."""
        columns = (request, a + shift, b - a, a, k_start, k_end - k_start, np.full(len(a), successive))
        return _Pieces(*columns).where((a < b) & (k_start < k_end))

    none = np.zeros_like(chunk)
    intra = pieces(begin, end, chunk, end)
    # The first chunk has none before it: an empty run of keys.
    cross = pieces(begin, edge, chunk - s, np.where(chunk > 0, chunk, chunk - s), successive=True)
    cross = cross.then(pieces(begin, edge, none, chunk - s)).then(pieces(edge, end, none, chunk))
    return intra, cross.where(np.argsort(-cross.k_length, kind="stable"))


def _rows(intra: _Pieces, cross: _Pieces, tokens: int) -> dict[str, np.ndarray]:
    """The arrays of `Rows`."""
    positions = np.repeat(intra.position, intra.count) + intra.offsets()
    row = np.repeat(cross.start, cross.count) + cross.offsets()
    successive = np.repeat(cross.successive, cross.count)
    found = np.full((2, tokens), -1)
    found[np.where(successive, 0, 1), row] = np.arange(len(row))
    return {"positions": positions, "successive": found[0], "inter": found[1]}


def _send(device: torch.device, **arrays: np.ndarray) -> dict[str, torch.Tensor]:
    """The arrays on the device, int32, as views of one tensor: one copy, which is not waited for."""
    sizes = [len(array) for array in arrays.values()]
    held = torch.empty(sum(sizes), dtype=torch.int32, pin_memory=device.type == "cuda")
    np.concatenate(list(arrays.values()), out=held.numpy(), casting="unsafe")
    return dict(zip(arrays, held.to(device, non_blocking=True).split(sizes)))
