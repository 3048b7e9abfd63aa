"""Flash attention calls that give the log-sum-exp and take it back: one interface over torch's own and flash-attn.

A kernel's forward maps query [N, H, Q, D], key and value [N, G, K, D] to the output [N, H, Q, D] and the natural
log-sum-exp [N, H, Q]; its backward takes the output and log-sum-exp *of the whole attention* and gives this call's
share of the gradients. Causal calls are square. Nothing here imports flash-attn before a call needs it.
"""

import time
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

import torch

Forward = tuple[torch.Tensor, torch.Tensor]
Backward = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class FlashKernel(Protocol):
    """`rounds` says that within the first chunk, where Dual Chunk Attention is the plain model, the last bits would not
    be those of PyTorch's own attention on a CPU. `planned` says that each new shape costs a plan, tens of milliseconds
    or more, so that shapes must be few."""

    name: str
    rounds: bool
    planned: bool

    def refusal(self, query: torch.Tensor, key: torch.Tensor) -> str | None:
        """Why the kernel cannot serve these tensors, or None."""

    def forward(self, q, k, v, causal: bool, scaling: float) -> Forward: ...

    def backward(self, grad_out, q, k, v, out, lse, causal: bool, scaling: float) -> Backward: ...


def merge_into(out: torch.Tensor, lse: torch.Tensor, part: torch.Tensor, part_lse: torch.Tensor) -> None:
    """Merges the output [..., D] and log-sum-exp [...] over other keys into `out` and `lse`, in their precision."""
    both = torch.logaddexp(lse, part_lse)
    weight, part_weight = ((x - both).exp_().unsqueeze(-1) for x in (lse, part_lse))
    out.mul_(weight).addcmul_(part.to(out.dtype), part_weight)
    lse.copy_(both)


GAIN = 1.1  # times as fast as the usual way on a CPU, below which that serves


@torch.no_grad()
def times_as_fast(way: Callable[[], object], usual: Callable[[], object]) -> float:
    """How many times as fast as the usual way another is here, by the least of calls in turns: of four or, within a
    second, as many as it takes until the two least of each agree. They do not while something else takes the processor.
    """
    taken: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + 1
    while len(taken[1]) < 4 or (time.perf_counter() < end and not all(map(_agree, taken))):
        for function, times in zip((usual, way), taken):
            begun = time.perf_counter()
            function()
            times.append(time.perf_counter() - begun)
    return min(taken[0]) / min(taken[1])


def _agree(times: list[float]) -> bool:
    least, next_to_it = sorted(times)[:2]
    return next_to_it < 1.1 * least


class CpuFlash:
    """PyTorch's flash attention for CPU."""

    name = "cpu_flash"
    rounds = False
    planned = False

    def refusal(self, query, key):
        if query.device.type != "cpu":
            return "the tensors are not on a CPU"
        if query.dtype not in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
            return f"it does not take {query.dtype}"
        return None

    def forward(self, q, k, v, causal, scaling):
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, scale=scaling)

    def backward(self, grad_out, q, k, v, out, lse, causal, scaling):
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad_out, q, k, v, out, lse, 0.0, causal, scale=scaling
        )


def refuse_cuda_half(query: torch.Tensor) -> str | None:
    if query.device.type != "cuda":
        return "the tensors are not on a CUDA device"
    if query.dtype not in (torch.bfloat16, torch.float16):
        return f"it takes bfloat16 and float16, not {query.dtype}"
    if query.shape[-1] > 256 or query.shape[-1] % 8:
        return f"it takes head sizes up to 256 in steps of 8, not {query.shape[-1]}"
    return None


def rows_major(x: torch.Tensor) -> torch.Tensor:
    """[N, H, Q, D] with the strides of a contiguous [N, Q, H, D]."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


@cache
def installed(name: str) -> bool:
    return find_spec(name) is not None


def on_hopper(device: torch.device) -> bool:
    return _capability(device.index) == (9, 0)


@cache
def _capability(index: int | None) -> tuple[int, int]:
    return torch.cuda.get_device_capability(index)


def _flash_attn():
    # An import statement, even within a function, would make transformers refuse the file where flash-attn is absent:
    # it reads the imports of files from the Hub before it runs them.
    return import_module("flash_attn.flash_attn_interface")


class FlashAttnPackage:
    """The flash-attn package, where it is installed."""

    name = "flash_attn"
    rounds = False
    planned = False

    def refusal(self, query, key):
        refusal = refuse_cuda_half(query)
        if refusal is None and not installed("flash_attn"):
            return "flash-attn is not installed"
        return refusal

    def forward(self, q, k, v, causal, scaling):
        out, lse, *_ = _flash_attn()._flash_attn_forward(
            *(x.transpose(1, 2) for x in (q, k, v)),
            dropout_p=0.0,
            softmax_scale=scaling,
            causal=causal,
            window_size_left=-1,
            window_size_right=-1,
            softcap=0.0,
            alibi_slopes=None,
            return_softmax=False,
        )
        return out.transpose(1, 2), lse

    def backward(self, grad_out, q, k, v, out, lse, causal, scaling):
        inputs = [x.transpose(1, 2).contiguous() for x in (grad_out, q, k, v, out)]
        shares = [torch.empty_like(x) for x in inputs[1:4]]
        _flash_attn()._flash_attn_backward(
            *inputs,
            lse.contiguous(),
            *shares,
            dropout_p=0.0,
            softmax_scale=scaling,
            causal=causal,
            window_size_left=-1,
            window_size_right=-1,
            softcap=0.0,
            alibi_slopes=None,
            deterministic=False,
        )
        grad_q, grad_k, grad_v = (x.transpose(1, 2) for x in shares)
        return grad_q, grad_k, grad_v


class CudaFlash:
    """The flash attention that PyTorch carries for CUDA."""

    name = "cuda_flash"
    rounds = False
    planned = False

    def refusal(self, query, key):
        return refuse_cuda_half(query)

    def forward(self, q, k, v, causal, scaling):
        out, lse, *_ = torch.ops.aten._flash_attention_forward(
            *(x.transpose(1, 2) for x in (q, k, v)),
            None,
            None,
            q.shape[2],
            k.shape[2],
            0.0,
            causal,
            False,
            scale=scaling,
        )
        return out.transpose(1, 2), lse

    def backward(self, grad_out, q, k, v, out, lse, causal, scaling):
        unused = torch.zeros(2, dtype=torch.uint64, device=q.device)  # the state of a dropout that is off
        shares = torch.ops.aten._flash_attention_backward(
            grad_out.transpose(1, 2).contiguous(),
            *(x.transpose(1, 2) for x in (q, k, v)),
            out.transpose(1, 2).contiguous(),
            lse.contiguous(),
            None,
            None,
            q.shape[2],
            k.shape[2],
            0.0,
            causal,
            unused,
            torch.empty(0, device=q.device),
            scale=scaling,
        )
        return tuple(x.transpose(1, 2) for x in shares)


class CudnnFlash:
    """cuDNN's attention, which PyTorch carries; on Hopper it is about twice as fast as PyTorch's flash attention."""

    name = "cudnn"
    rounds = False
    planned = True

    def refusal(self, query, key):
        refusal = refuse_cuda_half(query)
        if refusal is not None:
            return refusal
        if query.shape[-1] > 128:
            return f"it takes head sizes up to 128, not {query.shape[-1]}"
        if not on_hopper(query.device):
            return "it is measured on Hopper GPUs alone"
        if not hasattr(torch.ops.aten, "_scaled_dot_product_cudnn_attention_backward") or _cudnn_version() < 91500:
            return "it needs cuDNN 9.15, as PyTorch 2.11 has it"
        if torch.are_deterministic_algorithms_enabled():
            return "its backward is not deterministic, which PyTorch is asked to be"
        return None

    def forward(self, q, k, v, causal, scaling):
        out, lse, *_ = torch.ops.aten._scaled_dot_product_cudnn_attention(
            q, k, v, None, True, 0.0, causal, False, scale=scaling
        )
        return out, lse.squeeze(-1) if lse.dim() == 4 else lse

    def backward(self, grad_out, q, k, v, out, lse, causal, scaling):
        unused = torch.zeros((), dtype=torch.int64, device=q.device)  # the state of a dropout that is off
        # PyTorch's cache of plans does not look at the strides of these three (pytorch PR 191576): they are always
        # those that plain attention has for projections' outputs.
        return torch.ops.aten._scaled_dot_product_cudnn_attention_backward(
            rows_major(grad_out),
            q,
            k,
            v,
            rows_major(out),
            lse.contiguous().unsqueeze(-1),
            unused,
            unused,
            None,
            None,
            None,
            q.shape[2],
            k.shape[2],
            0.0,
            causal,
            scale=scaling,
        )


def _cudnn_version() -> int:
    return torch.backends.cudnn.version() or 0


class Portable:
    """Plain products over blocks of query rows: any device, dtype and head size, and no Q x K tensor."""

    name = "portable"
    rounds = False
    planned = False
    rows = 128

    def refusal(self, query, key):
        return None

    def forward(self, q, k, v, causal, scaling):
        outs, lses = [], []
        for q_block, start in self._row_blocks(q):
            score = self._scores(q_block, k, causal, scaling, start)
            lses.append(torch.logsumexp(score, dim=-1))
            outs.append(torch.einsum("nghqk,ngkd->nghqd", torch.softmax(score, dim=-1).to(v.dtype), v))
        return torch.cat(outs, dim=3).flatten(1, 2), torch.cat(lses, dim=3).flatten(1, 2)

    def backward(self, grad_out, q, k, v, out, lse, causal, scaling):
        groups = (k.shape[1], -1)
        grad_q, grad_k, grad_v = [], torch.zeros_like(k), torch.zeros_like(v)
        for q_block, start in self._row_blocks(q):
            rows = slice(start, start + q_block.shape[2])
            grad, result = (x[:, :, rows].unflatten(1, groups) for x in (grad_out, out))
            probability = self._scores(q_block, k, causal, scaling, start)
            probability = probability.sub_(lse[:, :, rows].unflatten(1, groups).unsqueeze(-1)).exp_()
            delta = (grad.to(lse.dtype) * result).sum(-1, keepdim=True)
            grad_p = torch.einsum("nghqd,ngkd->nghqk", grad, v)
            grad_s = (probability * (grad_p - delta) * scaling).to(k.dtype)
            grad_q.append(torch.einsum("nghqk,ngkd->nghqd", grad_s, k))
            grad_k += torch.einsum("nghqk,nghqd->ngkd", grad_s, q_block.unflatten(1, groups))
            grad_v += torch.einsum("nghqk,nghqd->ngkd", probability.to(v.dtype), grad)
        return torch.cat(grad_q, dim=3).flatten(1, 2), grad_k, grad_v

    def _row_blocks(self, q):
        return ((q[:, :, start : start + self.rows], start) for start in range(0, q.shape[2], self.rows))

    @staticmethod
    def _scores(q_block, k, causal, scaling, start):
        """[N, G, H / G, rows, K], in at least float32, -inf where a causal call does not see."""
        scaled = (q_block * scaling).unflatten(1, (k.shape[1], -1))  # before float16 could overflow
        score = torch.einsum("nghqd,ngkd->nghqk", scaled, k)
        score = score.to(torch.promote_types(score.dtype, torch.float32))
        if not causal:
            return score
        unseen = torch.ones(score.shape[-2:], dtype=torch.bool, device=score.device).triu_(1 + start)
        return score.masked_fill_(unseen, float("-inf"))
