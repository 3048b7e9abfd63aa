"""Queries rotated for all relations in one launch of a Triton kernel."""

try:  # transformers refuses a file from the Hub over an import that is missing, unless it stands in a try
    import triton
    import triton.language as tl
except ImportError:
    raise

import torch

from .dual_chunk_geometry import Relation
from .dual_chunk_rotation import ORDER, RelationRotations
from .dual_chunk_triton import angles, halves, heads_per_program, load_halves, on_device, store_halves


@triton.jit(do_not_specialize=["N", "FIRST", "BASE"])
def _rotate(
    query, intra, successive, inter, cos, sin, factor, N, FIRST, BASE, S, W, H,
    query_batch, query_head, query_row, out_head, out_row, intra_batch, successive_batch, inter_batch,
    HALF: tl.constexpr, WIDE: tl.constexpr, REST: tl.constexpr, REST_WIDE: tl.constexpr, HEADS: tl.constexpr,
    TEMPERED: tl.constexpr, EDGE: tl.constexpr,
):  # fmt: skip
    row, batch = tl.program_id(0).to(tl.int64), tl.program_id(2).to(tl.int64)
    heads = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    position = FIRST + row
    chunk, in_chunk = position // S, position % S
    wanted = chunk > 0
    if TEMPERED:
        wanted = row >= 0
    if wanted:
        at = query + batch * query_batch + row * query_row
        a, b, rest = load_halves(at, heads, query_head, H, HALF, WIDE, REST, REST_WIDE)
        by = 1.0
        if TEMPERED:
            by = tl.load(factor + row)
            to = intra + batch * intra_batch + row * out_row
            store_halves(to, heads, out_head, H, a * by, b * by, rest * by, HALF, WIDE, REST, REST_WIDE)
        in_window = in_chunk < W
        if (chunk > 0) & (in_window | (not EDGE)):
            c, s = angles(cos, sin, N + row, HALF, WIDE)
            to_row = row
            if EDGE:  # only the first W rows of a chunk, one chunk after the other
                to_row = chunk * W + in_chunk - BASE
            to = successive + batch * successive_batch + to_row * out_row
            store_halves(to, heads, out_head, H, a * c - b * s, b * c + a * s, rest * by, HALF, WIDE, REST, REST_WIDE)
        beyond = chunk > 1
        if EDGE:
            beyond = beyond | ((chunk == 1) & (in_chunk >= W))
        if beyond:
            c, s = angles(cos, sin, 2 * N + row, HALF, WIDE)
            to = inter + batch * inter_batch + row * out_row
            store_halves(to, heads, out_head, H, a * c - b * s, b * c + a * s, rest * by, HALF, WIDE, REST, REST_WIDE)


def rotate_queries(
    query: torch.Tensor, rotations: RelationRotations, first: int, chunk_length: int, spare: int = 0
) -> dict[Relation, torch.Tensor | None]:
    """The queries [B, H, Q, D] at positions from `first` on, as each relation has them: [B, H, Q, D], and for the other
    relations than intra `spare` rows of zeros after them.

    Rows that see no keys in a relation are not written; a relation in which none does holds None. Strides of what is
    made are those of [B, Q, H, D].
    """
    batch, heads, count, size = query.shape
    chunks = (first + count - 1) // chunk_length
    empty = lambda rows: query.new_empty(batch, rows, heads, size)
    intra = None if rotations.factor is None else empty(count)
    successive, inter = (empty(count + spare) if chunks >= least else None for least in (1, 2))
    _launch_rotate(query, rotations, first, chunk_length, None, intra, successive, inter)
    for x in (successive, inter):
        if spare and x is not None:
            x[:, count:].zero_()
    other = [None if x is None else x.transpose(1, 2) for x in (successive, inter)]
    return dict(zip(ORDER, [query if intra is None else intra.transpose(1, 2), *other]))


def rotate_with_edge(
    query: torch.Tensor, rotations: RelationRotations, first: int, chunk_length: int, window: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The queries [B, H, Q, D] for the intra relation, and for the other two in one tensor [B, H, Q + F, D].

    A query with at least `window` queries before it in its chunk is rotated to the same position in both, the edge of
    what the model knows, and stands once, among the first Q rows, those of the inter relation. The F rows after them
    are the first `window` queries of each chunk but the first, in the successive relation, as `window_rows` counts
    them; at least `window` rows are to spare. Rows that see no keys are not written.
    """
    batch, heads, count, size = query.shape
    width = min(window, chunk_length)
    rows = window_rows(first + count, chunk_length, width) - max(window_rows(first, chunk_length, width), width)
    intra = None if rotations.factor is None else query.new_empty(batch, count, heads, size)
    far = query.new_empty(batch, count + max(0, rows) + width, heads, size)
    _launch_rotate(query, rotations, first, chunk_length, width, intra, far[:, count:], far[:, :count])
    return query if intra is None else intra.transpose(1, 2), far.transpose(1, 2)


def _launch_rotate(query, rotations, first, chunk_length, window, intra, successive, inter) -> None:
    batch, heads, count, size = query.shape
    query = query if query.stride(3) == 1 else query.contiguous()
    made = [x for x in (intra, successive, inter) if x is not None]
    if not made:
        return
    targets = [made[0] if x is None else x for x in (intra, successive, inter)]
    width = chunk_length if window is None else window
    base = max(window_rows(first, chunk_length, width), width)  # the first chunk has no successive rows
    per, tempered = heads_per_program(heads), rotations.factor is not None
    with on_device(query.device):
        _rotate[(count, triton.cdiv(heads, per), batch)](
            query, *targets, rotations.cos, rotations.sin, rotations.factor if tempered else rotations.cos, count,
            first, base, chunk_length, width, heads, *query.stride()[:3], size, heads * size,
            *(x.stride(0) for x in targets),
            HEADS=per, TEMPERED=tempered, EDGE=window is not None, **halves(size, rotations.cos.shape[-1]),
        )  # fmt: skip


def window_rows(position: int, chunk_length: int, window: int) -> int:
    """How many positions before this one are among the first `window` of their chunk."""
    return position // chunk_length * window + min(position % chunk_length, window)
