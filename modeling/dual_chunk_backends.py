"""How Dual Chunk Attention is computed: flash calls over disjoint key ranges, merged in float32, with exact gradients.

Each part of the attention gives its output and log-sum-exp; the parts are merged with weights
`exp(lse_part - logsumexp(lse))`. The backward of a part, handed the output and log-sum-exp of the whole, gives its
exact share of the gradients, because `P = exp(S - LSE)` and `delta = rowsum(dO * O)` need nothing else.

`attention_backend` is the one place that picks a backend. To add a fused kernel, add an entry to `BACKENDS`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.nn.functional import scaled_dot_product_attention

from .dual_chunk_cuda import attend_by_flash3, attend_by_squares, refuse_flash3, without_triton
from .dual_chunk_decode import attend_decode, refuse_decode
from .dual_chunk_geometry import Part, Relation, parts
from .dual_chunk_kernels import CpuFlash, CudaFlash, CudnnFlash, FlashAttnPackage, FlashKernel, Portable, merge_into
from .dual_chunk_one_query import (
    attend_one_query,
    attend_one_query_by_flash,
    refuse_one_query,
    refuse_one_query_by_flash,
)
from .dual_chunk_onednn import OneDnnFlash
from .dual_chunk_rotation import HALF_SPLIT, RelationRotations

_SPAN = 2048  # query rows that a CPU attends and merges together

Attend = Callable[..., torch.Tensor]  # (query, key, value, rotations, geometry, scaling), and sinks if there are any


@dataclass(frozen=True)
class Backend:
    """One way to compute the attention. `refusal` gives the reason why it cannot serve tensors, or None; one that
    `rounds` (see `FlashKernel`) is no choice within the first chunk, one that is `plain` only there; one that is
    `general` serves every rotary layout and takes attention sinks."""

    name: str
    refusal: Callable[[torch.Tensor, torch.Tensor], str | None]
    attend: Attend
    rounds: bool = False
    plain: bool = False
    general: bool = False


def attention_backend(
    query: torch.Tensor,
    key: torch.Tensor,
    name: str | None = None,
    chunk_length: int = 0,
    special: str | None = None,
) -> Attend:
    """The function that computes the attention of these tensors: the first of `BACKENDS` that can, or the named one.

    Raises:
        ValueError: the named backend does not exist, or cannot serve these tensors; the message says why.
    """
    return choose_backend(query, key, name, chunk_length, special)[0].attend


def choose_backend(
    query: torch.Tensor,
    key: torch.Tensor,
    name: str | None = None,
    chunk_length: int = 0,
    special: str | None = None,
) -> tuple[Backend, str]:
    """The backend for these tensors and, in a sentence, why it and none before it. Without a `chunk_length` nothing is
    the first chunk. `special` names what only backends that are `general` have."""
    if name is not None:
        backend = next((b for b in BACKENDS if b.name == name), None)
        if backend is None:
            raise ValueError(f"there is no backend {name!r}; the backends are {', '.join(b.name for b in BACKENDS)}.")
        refusal = _refusal(backend, query, key, chunk_length, special)
        if refusal:
            raise ValueError(f"backend {name!r} cannot serve these tensors: {refusal}.")
        return backend, f"{name}: asked for by name."
    passed = []
    for backend in BACKENDS:
        refusal = _refusal(backend, query, key, chunk_length, special)
        if refusal is None and backend.rounds and key.shape[2] <= chunk_length:
            refusal = "within the first chunk it would not be PyTorch's own attention, bit for bit"
        if refusal is None:
            return backend, f"{backend.name}: {'; '.join(passed) or 'the first choice'}."
        passed.append(f"not {backend.name}, {refusal}")
    raise AssertionError("the portable backend serves everything")


def _refusal(backend: Backend, query, key, chunk_length: int, special: str | None) -> str | None:
    if backend.plain and key.shape[2] > chunk_length:
        return "there are keys beyond the first chunk" if chunk_length else "nothing is the first chunk"
    if special is not None and not backend.general:
        return f"it does not take {special}"
    return backend.refusal(query, key)


def _by_parts(kernel: FlashKernel) -> Attend:
    def attend(query, key, value, rotations, geometry, scaling, sinks=None):
        return _PartsAttention.apply(query, key, value, rotations, geometry.chunk_length, scaling, kernel, sinks)

    return attend


def _on_cuda(kernel: FlashKernel) -> Attend:
    """By squares and Triton's launches; by PyTorch's operations where those cannot be had, or know no such model."""
    fused, portable = attend_by_squares(kernel), _by_parts(kernel)

    def attend(query, key, value, rotations, geometry, scaling, sinks=None):
        arguments = (query, key, value, rotations, geometry, scaling)
        if sinks is not None:
            return portable(*arguments, sinks)
        return (portable if rotations.layout != HALF_SPLIT or without_triton(query.device) else fused)(*arguments)

    return attend


def _refuse_plain(query: torch.Tensor, key: torch.Tensor) -> str | None:
    if query.device.type != "cuda":
        return "the tensors are not on a CUDA device"
    return None if query.shape[2] == key.shape[2] else "there are cached keys"


def attend_plain(query, key, value, rotations, geometry, scaling):
    """PyTorch's own causal attention, which Dual Chunk Attention is within the first chunk."""
    grouped = query.shape[1] != key.shape[1]
    return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped)


class _PartsAttention(torch.autograd.Function):
    """Parts, merge and exact backward, over any flash kernel."""

    @staticmethod
    def forward(ctx, query, key, value, rotations, chunk_length, scaling, kernel, sinks):
        wide = torch.promote_types(query.dtype, torch.float32)
        result = torch.empty_like(query)
        lse = torch.empty(query.shape[:3], dtype=wide, device=query.device)
        first = key.shape[2] - query.shape[2]
        for rows in _spans(query, first, chunk_length):
            seen, some = slice(0, first + rows.stop), query[:, :, rows]
            out = result[:, :, rows] if query.dtype == wide else torch.empty_like(some, dtype=wide)
            queries = _RotatedQueries(some, rotations.rows(rows), chunk_length, seen.stop)
            _attend_parts(queries, key[:, :, seen], value[:, :, seen], scaling, kernel, out, lse[:, :, rows])
            if sinks is not None:
                add_sinks(out, lse[:, :, rows], sinks)
            if query.dtype != wide:
                result[:, :, rows] = out
        ctx.save_for_backward(query, key, value, result, lse, sinks)
        ctx.rotations, ctx.chunk_length, ctx.scaling, ctx.kernel = rotations, chunk_length, scaling, kernel
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_out):
        query, key, value, out, lse, sinks = ctx.saved_tensors
        queries = _RotatedQueries(query, ctx.rotations, ctx.chunk_length, key.shape[2])
        wide = torch.promote_types(query.dtype, torch.float32)
        grad_query = {r: torch.zeros_like(query, dtype=wide) for r in Relation}
        grad_key, grad_value = torch.zeros_like(key, dtype=wide), torch.zeros_like(value, dtype=wide)
        for part in queries.parts():
            shares = ctx.kernel.backward(
                fold_queries(grad_out, part),
                queries.of(part),
                fold_keys(key, part),
                fold_keys(value, part),
                fold_queries(out, part),
                fold_queries(lse, part),
                part.causal,
                ctx.scaling,
            )
            add_queries(grad_query[part.relation], shares[0], part)
            add_keys(grad_key, shares[1], part)
            add_keys(grad_value, shares[2], part)
        first, *others = (ctx.rotations.transpose(share, relation) for relation, share in grad_query.items())
        total = sum(others, first)
        grad_sinks = None if sinks is None else _sinks_gradient(grad_out, out, lse, sinks)
        grads = (total.to(query.dtype), grad_key.to(key.dtype), grad_value.to(value.dtype))
        return *grads, None, None, None, None, grad_sinks


def add_sinks(out: torch.Tensor, lse: torch.Tensor, sinks: torch.Tensor) -> None:
    """Lets each head's sink [H] into the normalizer of a merged output and log-sum-exp, in place: their backward then
    needs to know no more of it."""
    total = torch.logaddexp(lse, sinks.to(lse).view(1, -1, 1))
    out.mul_((lse - total).exp_().unsqueeze(-1))
    lse.copy_(total)


def _sinks_gradient(grad_out, out, lse, sinks: torch.Tensor) -> torch.Tensor:
    """A sink has no value: its weight exp(sink - lse) gets the gradient `-delta`, as any other weight less its `dP`."""
    weights = (sinks.to(lse).view(1, -1, 1) - lse).exp()
    delta = (grad_out.to(lse.dtype) * out.to(lse.dtype)).sum(-1)
    return -(weights * delta).sum((0, 2)).to(sinks.dtype)


class _RotatedQueries:
    """The queries of each relation, rotated at first use. Rows of early chunks, which no part of a relation reads, are
    left out."""

    def __init__(self, query: torch.Tensor, rotations: RelationRotations, chunk_length: int, key_length: int):
        self.query, self.rotations, self.ready = query, rotations, {}
        self.first, self.key_length = key_length - query.shape[2], key_length
        self.chunk_length = chunk_length

    def of(self, part: Part) -> torch.Tensor:
        """The rotated query rows of a part, folded as `fold_queries` has them."""
        rotated, start = self._rotated(part.relation)
        return _folded(rotated, part.q_start - start, part.q_length, part.count, part.q_step)

    def parts(self) -> Iterator[Part]:
        return parts(self.query.shape[2], self.key_length, self.chunk_length)

    def _rotated(self, relation: Relation) -> tuple[torch.Tensor, int]:
        """The rows that have a use in a relation, and the first of them."""
        if relation not in self.ready:
            chunks = {Relation.INTRA: 0, Relation.SUCCESSIVE: 1, Relation.INTER: 2}[relation]
            start = max(0, chunks * self.chunk_length - self.first)
            rotated = self.rotations.forward(self.query[:, :, start:], relation, slice(start, None))
            self.ready[relation] = rotated, start
        return self.ready[relation]


def _spans(query: torch.Tensor, first: int, chunk_length: int) -> Iterator[slice]:
    """The rows of queries that are attended and merged together: on a CPU as many whole chunks as stay in its cache,
    where memory that is read again and again costs as much as a tenth of the attention; elsewhere all of them."""
    rows = query.shape[2]
    if query.device.type != "cpu":
        yield slice(0, rows)
        return
    size, start = max(1, _SPAN // chunk_length) * chunk_length, 0
    while start < rows:
        stop = min(rows, (first + start) // size * size + size - first)
        yield slice(start, stop)
        start = stop


def _attend_parts(queries: _RotatedQueries, key, value, scaling: float, kernel: FlashKernel, out, lse) -> None:
    """Writes the attention of queries that are the last rows of `key` into `out` and `lse`."""
    for part in queries.parts():
        folded = queries.of(part), fold_keys(key, part), fold_keys(value, part)
        _merge(out, lse, *kernel.forward(*folded, part.causal, scaling), part)


def _blocks(x: torch.Tensor, start: int, length: int, count: int, step: int) -> torch.Tensor:
    """A view [count, B, heads, length, ...] of rows of [B, heads, rows, ...]; blocks may overlap."""
    size = (count, *x.shape[:2], length, *x.shape[3:])
    stride = (step * x.stride(2), *x.stride())
    return x.as_strided(size, stride, x.storage_offset() + start * x.stride(2))


def _folded(x: torch.Tensor, start: int, length: int, count: int, step: int) -> torch.Tensor:
    if count == 1:
        return x[:, :, start : start + length]
    return _blocks(x, start, length, count, step).flatten(0, 1)


def fold_queries(x: torch.Tensor, part: Part) -> torch.Tensor:
    """The query rows of a part, of [B, H, Q, ...], as [count * B, H, q_length, ...]."""
    return _folded(x, part.q_start, part.q_length, part.count, part.q_step)


def fold_keys(x: torch.Tensor, part: Part) -> torch.Tensor:
    """The key rows of a part, of [B, G, K, D], as [count * B, G, k_length, D]."""
    return _folded(x, part.k_start, part.k_length, part.count, part.k_step)


def add_queries(total: torch.Tensor, share: torch.Tensor, part: Part) -> None:
    """Adds a part's share back to the query rows it came from; blocks of queries never overlap."""
    rows = _blocks(total, part.q_start, part.q_length, part.count, part.q_step)
    rows.add_(share.unflatten(0, (part.count, -1)))


def add_keys(total: torch.Tensor, share: torch.Tensor, part: Part) -> None:
    """Adds a part's share back to the key rows it came from."""
    shares = share.unflatten(0, (part.count, -1))
    for i in range(part.count):  # one by one where blocks of keys may overlap
        start = part.k_start + i * part.k_step
        total[:, :, start : start + part.k_length].add_(shares[i])


def _merge(out: torch.Tensor, lse: torch.Tensor, part_out: torch.Tensor, part_lse: torch.Tensor, part: Part) -> None:
    """Merges a part into the running output and log-sum-exp, in their own (at least float32) precision."""
    rows = _blocks(out, part.q_start, part.q_length, part.count, part.q_step)
    row_lse = _blocks(lse, part.q_start, part.q_length, part.count, part.q_step)
    part_out, part_lse = part_out.unflatten(0, (part.count, -1)), part_lse.unflatten(0, (part.count, -1))
    if part.causal:  # the first part of its rows
        rows.copy_(part_out)
        row_lse.copy_(part_lse)
    else:
        merge_into(rows, row_lse, part_out, part_lse)


BACKENDS = (
    Backend("plain", _refuse_plain, attend_plain, plain=True),
    Backend("decode", refuse_decode, attend_decode),
    Backend("one_query_flash", refuse_one_query_by_flash, attend_one_query_by_flash, general=True),
    Backend("one_query", refuse_one_query, attend_one_query, general=True),
    Backend("flash3", refuse_flash3, attend_by_flash3),
    *(Backend(k.name, k.refusal, _on_cuda(k), general=True) for k in (CudnnFlash(), FlashAttnPackage(), CudaFlash())),
    *(
        Backend(k.name, k.refusal, _by_parts(k), k.rounds, general=True)
        for k in (OneDnnFlash(), CpuFlash(), Portable())
    ),
)
