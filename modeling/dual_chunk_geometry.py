"""The geometry of Dual Chunk Attention: rotary positions of queries and keys, and the relation each key is seen in.

Definition: An et al., "Training-Free Long-Context Scaling of Large Language Models", arXiv 2402.17463, section 3.
Symbols: C `chunk_size`, w `local_size`, L `original_max_position_embeddings`, s = C - w the chunk length.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

# One call over about this many query rows keeps a flash kernel busy; shorter chunks are grouped up to it.
ROWS_PER_CALL = 1024


class Relation(Enum):
    """How the chunk of a key lies to the chunk of the query that sees it."""

    INTRA = "intra"
    SUCCESSIVE = "successive"
    INTER = "inter"


@dataclass(frozen=True)
class DualChunkGeometry:
    """The scalars that define a model's Dual Chunk Attention.

    Args:
        chunk_size: C, the largest relative distance that a query may see, in tokens.
        local_size: w, the window kept exact across a chunk border, in tokens.
        pretraining_length: L, the length the model was trained at, in tokens; where the temperature starts.
        temperature: f of the attention temperature `1 + f ln((i + 1) / L)` for query positions i >= L; 0 is none.

    Raises:
        ValueError: sizes that describe no geometry.
    """

    chunk_size: int
    local_size: int
    pretraining_length: int
    temperature: float = 0.0

    def __post_init__(self):
        for name, least in (("chunk_size", 1), ("local_size", 0), ("pretraining_length", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of tokens, at least {least}, not {value!r}.")
        if self.local_size >= self.chunk_size:
            raise ValueError(
                f"local_size ({self.local_size}) must be smaller than chunk_size ({self.chunk_size}): "
                "the chunk length is their difference."
            )
        if self.chunk_size > self.pretraining_length:
            raise ValueError(
                f"chunk_size ({self.chunk_size}) must not exceed original_max_position_embeddings "
                f"({self.pretraining_length}): the model never saw a larger distance in training."
            )
        temperature = self.temperature
        if isinstance(temperature, bool) or not isinstance(temperature, (int, float)) or not 0 <= temperature < 10:
            raise ValueError(f"temperature must be a number from 0 (none) to below 10, not {temperature!r}.")

    @property
    def chunk_length(self) -> int:
        """s: keys are rotated at `position mod s`."""
        return self.chunk_size - self.local_size

    def relation(self, query: int, key: int) -> Relation:
        """The relation of the query at one absolute position to the key at another, `key <= query`."""
        apart = query // self.chunk_length - key // self.chunk_length
        return (Relation.INTRA, Relation.SUCCESSIVE)[apart] if apart < 2 else Relation.INTER

    def distance(self, query: int, key: int) -> int:
        """The relative distance, in tokens, at which the query sees the key."""
        return self.rotary_position(query, self.relation(query, key)) - key % self.chunk_length

    def rotary_position(self, query: int, relation: Relation) -> int:
        """The rotary position of a query in one relation."""
        in_chunk = query % self.chunk_length
        if relation is Relation.INTRA:
            return in_chunk
        return self.chunk_size if relation is Relation.INTER else min(in_chunk + self.chunk_length, self.chunk_size)

    def logit_factor(self, query: int) -> float:
        """The attention temperature's factor on the logits of a query at an absolute position."""
        if query < self.pretraining_length:
            return 1.0
        return 1.0 + self.temperature * math.log((query + 1) / self.pretraining_length)


def key_ranges(chunk: int, end: int, chunk_length: int) -> list[tuple[Relation, int, int]]:
    """The positions [begin, stop) of the keys before `end`, which lies in or behind a chunk, that its queries see in
    each relation: inter, successive, intra, without empty ones."""
    own, before = chunk * chunk_length, max(0, chunk - 1) * chunk_length
    found = [(Relation.INTER, 0, before), (Relation.SUCCESSIVE, before, own), (Relation.INTRA, own, end)]
    return [(relation, begin, stop) for relation, begin, stop in found if begin < stop]


@dataclass(frozen=True)
class Part:
    """One attention call: `count` equal blocks of queries against as many equal blocks of keys, in one relation.

    Block i holds the queries [q_start + i * q_step, + q_length) and the keys [k_start + i * k_step, + k_length), in
    rows of the given tensors. All pairs are seen, or, where `causal`, the lower triangle of equally long blocks.
    """

    relation: Relation
    q_start: int
    q_length: int
    k_start: int
    k_length: int
    causal: bool = False
    count: int = 1
    q_step: int = 0
    k_step: int = 0


def parts(query_length: int, key_length: int, chunk_length: int, rows_per_call: int = ROWS_PER_CALL) -> Iterator[Part]:
    """The calls that together cover causal attention of the last `query_length` of `key_length` positions.

    Every pair (query, key <= query) lies in exactly one part, and every part in one relation. The first parts cover
    each query row with its own key, so a running merge may start from them.
    """
    s, first = chunk_length, key_length - query_length
    begin, end = -(-first // s), key_length // s  # the chunks that the queries fill from end to end
    pieces = [(first, key_length)] if begin > end else [(first, begin * s), (end * s, key_length)]
    pieces = [(a, b) for a, b in pieces if a < b]  # at most one at the head and one at the tail
    full = range(begin, max(begin, end))

    for a, b in pieces:
        yield Part(Relation.INTRA, a - first, b - a, a, b - a, causal=True)
    if full:
        start = begin * s
        yield Part(Relation.INTRA, start - first, s, start, s, True, len(full), s, s)
    for a, b in pieces:
        chunk = a // s * s
        if chunk < a:
            yield Part(Relation.INTRA, a - first, b - a, chunk, a - chunk)
        if chunk >= s:
            yield Part(Relation.SUCCESSIVE, a - first, b - a, chunk - s, s)
        if chunk >= 2 * s:
            yield Part(Relation.INTER, a - first, b - a, 0, chunk - s)
    later = range(max(full.start, 1), full.stop)
    if later:
        start = later.start * s
        yield Part(Relation.SUCCESSIVE, start - first, s, start - s, s, False, len(later), s, s)
    yield from _inter_parts(range(max(full.start, 2), full.stop), first, s, max(1, rows_per_call // s))


def _inter_parts(chunks: range, first: int, s: int, size: int) -> Iterator[Part]:
    """Inter parts of full chunks, in groups of `size` chunks.

    A group of chunks sees everything before its first chunk's predecessor in one call. What a later chunk of the
    group sees beyond that is a staircase of d chunks for the d-th one: a call per d, folded over all groups.
    """
    for chunk in chunks[::size]:
        rows = min(size, chunks.stop - chunk) * s
        yield Part(Relation.INTER, chunk * s - first, rows, 0, (chunk - 1) * s)
    for d in range(1, size):
        count = len(chunks[d::size])
        if count:
            start = (chunks.start + d) * s
            k_start = (chunks.start - 1) * s
            yield Part(Relation.INTER, start - first, s, k_start, d * s, False, count, size * s, size * s)


def squares(query_length: int, key_length: int, chunk_length: int) -> Iterator[Part]:
    """The calls of `parts`, with inter keys cut in squares: few calls, whose shapes come from a short list.

    A query of chunk a sees the c = a - 1 first chunks in the inter relation. For each bit j that is set in c, 2^j of
    them are one block, which starts at (c >> (j + 1)) << (j + 1) chunks and which 2^j chunks of queries in a row share:
    a square. Squares of a bit lie equally spaced, so a batch of them is one call. Batches, and squares of which the
    given queries fill only some chunks, are split by powers of two: whatever the lengths, a call over full chunks has
    one of some log2(chunks)^2 shapes. A kernel that is planned anew for each shape needs that.
    """
    s, first = chunk_length, key_length - query_length
    begin, end = -(-first // s), key_length // s
    pieces = [(first, key_length)] if begin > end else [(first, begin * s), (end * s, key_length)]
    for a, b in pieces:
        if a < b:
            yield from _piece(a, b, first, s)
    if begin < end:
        for start, count in _by_powers(begin, end - begin):
            yield Part(Relation.INTRA, start * s - first, s, start * s, s, True, count, s, s)
        later = max(begin, 1)
        for start, count in _by_powers(later, end - later):
            yield Part(Relation.SUCCESSIVE, start * s - first, s, (start - 1) * s, s, False, count, s, s)
        width = 1
        while width <= end - 2:
            yield from _squares_of_width(width, max(begin, 2), end, first, s)
            width *= 2


def _piece(a: int, b: int, first: int, s: int) -> Iterator[Part]:
    """The queries [a, b) of one chunk, which they do not fill."""
    chunk = a // s
    yield Part(Relation.INTRA, a - first, b - a, a, b - a, causal=True)
    if chunk * s < a:
        yield Part(Relation.INTRA, a - first, b - a, chunk * s, a - chunk * s)
    if chunk >= 1:
        yield Part(Relation.SUCCESSIVE, a - first, b - a, (chunk - 1) * s, s)
    c = chunk - 1
    for bit in range(max(c, 0).bit_length()):
        if c >> bit & 1:
            yield Part(Relation.INTER, a - first, b - a, (c >> (bit + 1) << (bit + 1)) * s, (1 << bit) * s)


def _squares_of_width(width: int, begin: int, end: int, first: int, s: int) -> Iterator[Part]:
    """The squares of `width` chunks of inter keys for the queries of the full chunks [begin, end)."""
    whole = []
    for base in range(0, end, 2 * width):
        rows = range(max(begin, base + width + 1), min(end, base + 2 * width + 1))
        if len(rows) == width:
            whole.append(base)
        elif rows:
            for start, count in _by_powers(rows.start, len(rows)):
                yield Part(Relation.INTER, start * s - first, count * s, base * s, width * s)
    step = 2 * width * s
    for index, count in _by_powers(0, len(whole)):
        base = whole[index]
        q_start = (base + width + 1) * s - first
        yield Part(Relation.INTER, q_start, width * s, base * s, width * s, False, count, step, step)


def _by_powers(start: int, count: int) -> Iterator[tuple[int, int]]:
    """The range of `count` numbers from `start` on, in ranges (start, length) whose lengths are powers of two."""
    while count > 0:
        length = 1 << (count.bit_length() - 1)
        yield start, length
        start, count = start + length, count - length
