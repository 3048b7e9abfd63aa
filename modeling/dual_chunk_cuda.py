"""Dual Chunk Attention on NVIDIA GPUs: flash calls, with one launch to rotate the queries and one to merge the results.

Two ways forward: squares of keys, for a kernel whose calls are dense, and two calls over ragged sequences, for
FlashAttention-3. One way back: the squares again, each given the output and log-sum-exp of the whole attention, and
one launch each to sum the shares of queries, keys and values.
"""

import os
from collections.abc import Callable
from functools import cache
from importlib import import_module

import torch

from .dual_chunk_geometry import DualChunkGeometry, Part, Relation, squares
from .dual_chunk_kernels import CudaFlash, CudnnFlash, FlashKernel, installed, on_hopper, refuse_cuda_half, rows_major
from .dual_chunk_rotation import RelationRotations

TRITON = installed("triton")  # asked here, since torch.compile would trace the question


def without_triton(device: torch.device, in_graph: bool = False) -> str | None:
    """Why Triton's kernels cannot serve a device, or None. Its interpreter, for tests, serves a CPU."""
    if not TRITON:
        return "Triton is not installed"
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return "the tensors are not on a CUDA device"
    # A table of addresses is not for a graph to trace.
    return "torch.compile is tracing" if torch.compiler.is_compiling() and not in_graph else None


class FusedAttention(torch.autograd.Function):
    """`forward` over `squares` or ragged sequences, and the backward of `kernel` over squares."""

    @staticmethod
    def forward(ctx, query, key, value, rotations, geometry, scaling, forward, kernel):
        out, lse = forward(query, key, value, rotations, geometry, scaling)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.rotations, ctx.geometry, ctx.scaling, ctx.kernel = rotations, geometry, scaling, kernel
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_out):
        query, key, value, out, lse = ctx.saved_tensors
        calls = _Squares(ctx.kernel, query, key, value, ctx.rotations, ctx.geometry.chunk_length, ctx.scaling)
        return (*calls.backward(grad_out, out, lse), None, None, None, None, None)


class _Squares:
    """The calls of a kernel over the parts of an attention, one batch row at a time: a view of a row's blocks is one
    strided tensor, which a view of several rows' blocks is not."""

    def __init__(self, kernel: FlashKernel, query, key, value, rotations, chunk_length: int, scaling: float):
        from .dual_chunk_triton_rotation import rotate_queries

        self.kernel, self.query, self.key, self.value = kernel, query, key, value
        self.rotations, self.chunk_length, self.scaling = rotations, chunk_length, scaling
        self.batch, self.heads, self.rows, self.size = query.shape
        self.parts = list(squares(query.shape[2], key.shape[2], chunk_length))
        # A kernel that is planned for each shape has rows rounded up, and leaves odd squares to another.
        self.unit = max(64, chunk_length // 8) if kernel.planned else 1
        spare = self.unit if kernel.planned else 0
        first = key.shape[2] - query.shape[2]
        self.queries = rotate_queries(query, rotations, first, chunk_length, spare)

    def _call(self, part: Part) -> tuple[FlashKernel, int]:
        """The kernel for a part, and the rows that it is to be given."""
        if part.q_length % self.chunk_length == 0 or not self.kernel.planned:
            return self.kernel, part.q_length
        if part.relation is Relation.INTRA:
            return CudaFlash(), part.q_length
        return self.kernel, -(-part.q_length // self.unit) * self.unit

    def _inputs(self, part: Part, row: int, rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        queries = self.queries[part.relation]
        assert queries is not None  # there is a part in this relation
        query = _blocks(queries[row], part.q_start, rows, part.count, part.q_step)
        key, value = (
            _blocks(x[row], part.k_start, part.k_length, part.count, part.k_step) for x in (self.key, self.value)
        )
        return query, key, value

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        from .dual_chunk_triton_merge import Share, merge_parts

        shares = []
        for row in range(self.batch):
            shares.append([])
            for part in self.parts:
                kernel, rows = self._call(part)
                found = kernel.forward(*self._inputs(part, row, rows), part.causal, self.scaling)
                shares[-1].append(Share.of_queries(part, *found))
        return merge_parts(shares, self.heads, self.rows, self.size)

    def backward(self, grad_out, out, lse) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        from .dual_chunk_triton_merge import Share, sum_shares

        found, grad_out = [[], [], []], rows_major(grad_out)
        for row in range(self.batch):
            for shares in found:
                shares.append([])
            for part in self.parts:
                kernel, rows = self._call(part)
                grad, result = (_padded(x[row], part, rows, 0.0) for x in (grad_out, out))
                sums = _padded(lse[row], part, rows, float("inf"))
                inputs = self._inputs(part, row, rows)
                grads = kernel.backward(grad, *inputs, result, sums, part.causal, self.scaling)
                found[0][-1].append(Share.of_queries(part, grads[0]))
                for shares, share in zip(found[1:], grads[1:]):
                    shares[-1].append(Share.of_keys(part, share))
        groups, keys = self.key.shape[1:3]
        grad_query = sum_shares(found[0], self.heads, self.rows, self.size, self.rotations)
        grad_key, grad_value = (sum_shares(shares, groups, keys, self.size) for shares in found[1:])
        return grad_query, grad_key, grad_value


def _blocks(x: torch.Tensor, start: int, length: int, count: int, step: int) -> torch.Tensor:
    """A view [count, heads, length, ...] of rows of [heads, rows, ...]."""
    size, stride = (count, x.shape[0], length, *x.shape[2:]), ((step or length) * x.stride(1), *x.stride())
    return x.as_strided(size, stride, x.storage_offset() + start * x.stride(1))


def _padded(x: torch.Tensor, part: Part, rows: int, fill: float) -> torch.Tensor:
    """The rows of a part of [heads, rows, ...], with rows that hold `fill` where a call takes more: with a log-sum-exp
    of infinity and a gradient of zero they add nothing. What has a head size comes with the strides of [count, rows,
    heads, D], so that a single block, which is held so already, is not copied; a log-sum-exp comes contiguous."""
    found = _blocks(x, part.q_start, part.q_length, part.count, part.q_step)
    if rows > part.q_length:
        padded = x.new_full((part.count, rows, x.shape[0], *x.shape[2:]), fill).transpose(1, 2)
        padded[:, :, : part.q_length] = found
        found = padded
    return rows_major(found) if x.dim() == 3 else found.contiguous()


def attend_by_squares(kernel: FlashKernel):
    def forward(query, key, value, rotations, geometry: DualChunkGeometry, scaling):
        return _Squares(kernel, query, key, value, rotations, geometry.chunk_length, scaling).forward()

    def attend(query, key, value, rotations, geometry, scaling):
        return FusedAttention.apply(query, key, value, rotations, geometry, scaling, forward, kernel)

    return attend


def refuse_flash3(query: torch.Tensor, key: torch.Tensor) -> str | None:
    refusal = refuse_cuda_half(query) or without_triton(query.device)
    if refusal is None and not on_hopper(query.device):
        return "FlashAttention-3 is for Hopper GPUs"
    name = _flash3_module()
    if refusal is None and name is None:
        return "fa3-fwd is not installed"
    if refusal is None and name == "fa3_fwd_interface" and query.dtype != torch.bfloat16:
        return f"fa3-fwd takes bfloat16, not {query.dtype}"
    return refusal


@cache
def _flash3_module() -> str | None:
    """The module of FlashAttention-3: of the package fa3-fwd, or of flash-attn's own build."""
    return next((name for name in ("fa3_fwd_interface", "flash_attn_interface") if installed(name)), None)


def attend_by_flash3(query, key, value, rotations, geometry, scaling):
    """FlashAttention-3 forward; it comes without a backward, so that of another kernel over squares."""
    kernel = next(kernel for kernel in (CudnnFlash(), CudaFlash()) if kernel.refusal(query, key) is None)
    return FusedAttention.apply(query, key, value, rotations, geometry, scaling, flash3_forward, kernel)


def flash3_forward(query, key, value, rotations: RelationRotations, geometry: DualChunkGeometry, scaling: float):
    """Two ragged calls a batch row: each chunk's queries over their own chunk, and over all keys before it."""
    from .dual_chunk_triton_merge import Share, merge_parts
    from .dual_chunk_triton_rotation import rotate_with_edge

    count, length, s = query.shape[2], key.shape[2], geometry.chunk_length
    sequences = _Sequences.shared(rotations, count, length, s, min(geometry.local_size, s), query.device)
    intra, cross = rotate_with_edge(query, rotations, sequences.first, s, sequences.window)
    shares = []
    for row in range(query.shape[0]):
        keys, values = key[row].transpose(0, 1), value[row].transpose(0, 1)
        out, lse = _ragged(intra[row], keys, values, sequences.intra, min(s, length), s, True, scaling)
        shares.append([Share(0, count, count, 1, Relation.INTRA, out, lse)])
        if sequences.cross is not None:
            out, lse = _ragged(cross[row], keys, values, sequences.cross, s, length, False, scaling)
            for start, rows, step, blocks, at, relation in sequences.rows:
                found = (_blocks(x[0], at, rows, blocks, sequences.window) for x in (out, lse))
                shares[-1].append(Share(start, rows, step, blocks, relation, *found))
    return merge_parts(shares, *query.shape[1:])


def _ragged(query, keys, values, sequences, most_queries: int, most_keys: int, causal: bool, scaling: float):
    """FlashAttention-3 over sequences that may share keys: out [1, H, rows, D] and log-sum-exp [1, H, rows]."""
    first_query, first_key, queries, seen = sequences
    name = _flash3_module()
    assert name is not None  # asked before: see refuse_flash3
    out, lse = import_module(name).flash_attn_varlen_func(
        query.transpose(0, 1),
        keys,
        values,
        first_query,
        first_key,
        most_queries,
        most_keys,
        seqused_q=queries,
        seqused_k=seen,
        softmax_scale=scaling,
        causal=causal,
        return_attn_probs=True,
    )
    return out.transpose(0, 1).unsqueeze(0), lse.unsqueeze(0)


class _Sequences:
    """The sequences of a ragged call: of each, its first query row, its first key, and how many it has of either.

    `intra` and `cross` are int32 tensors for the two calls; `cross` is None within the first chunk. `rows` says where
    the results of the second belong: first query row, rows, step, blocks, first row of the result, relation. Long
    sequences come first, so that the last to end are short.
    """

    def __init__(self, count: int, length: int, s: int, window: int, device: torch.device):
        from .dual_chunk_triton_rotation import window_rows

        self.first, self.window = length - count, window
        first = self.first
        base = max(window_rows(first, s, window), window)
        row = lambda position: count + window_rows(position, s, window) - base  # among the rows of the edge cut
        intra, cross = [], []
        for chunk in range((length - 1) // s, first // s - 1, -1):
            a, b = max(first, chunk * s), min(length, (chunk + 1) * s)
            intra.append((a - first, chunk * s, b - a, b - chunk * s))
            edge = max(a, min(b, chunk * s + window))
            if chunk and b > edge:
                cross.append((edge - first, 0, b - edge, chunk * s))
            if chunk > 1 and edge > a:
                cross.append((a - first, 0, edge - a, (chunk - 1) * s))
            if chunk and edge > a:
                cross.append((row(a), (chunk - 1) * s, edge - a, s))
        self.rows = self._rows(count, length, s, row)
        self.intra, self.cross = _on_device([intra, cross], device)

    def _rows(self, count: int, length: int, s: int, row: Callable[[int], int]) -> list[tuple]:
        first, window, found = self.first, self.window, []
        for begin, end in ((s + window, min(2 * s, length)), (2 * s, length)):
            start = max(first, begin) - first
            if start < end - first:
                found.append((start, end - first - start, end - first - start, 1, start, Relation.INTER))
        chunk = max(1, -(-first // s))
        if first > s and first % s and first % s < window:  # the rest of a window that earlier calls began
            rows = min(window - first % s, count)
            found.append((0, rows, rows, 1, row(first), Relation.SUCCESSIVE))
        blocks = -(-length // s) - chunk
        if window and blocks > 0:
            found.append((chunk * s - first, window, s, blocks, row(chunk * s), Relation.SUCCESSIVE))
        return found

    @classmethod
    def shared(cls, rotations: RelationRotations, *arguments) -> "_Sequences":
        """Those that the first layer of a call made."""
        key = (cls, *arguments)
        if key not in rotations.shared:
            rotations.shared[key] = cls(*arguments)
        return rotations.shared[key]


def _on_device(lists: list[list[tuple]], device: torch.device) -> list[tuple[torch.Tensor, ...] | None]:
    """Sequences as int32 tensors, copied in one go; offsets have one more entry, which nothing reads."""
    numbers, sizes = [], []
    for sequences in lists:
        columns = [list(column) for column in zip(*sequences)]
        for column in columns[:2]:
            column.append(column[-1])
        numbers += [number for column in columns for number in column]
        sizes.append([len(column) for column in columns])
    whole = torch.tensor(numbers, dtype=torch.int32).to(device, non_blocking=True)
    split = iter(whole.split([size for four in sizes for size in four]))
    return [tuple(next(split) for _ in four) if four else None for four in sizes]
