"""Flash attention over oneDNN's matrix products, for processors where it is faster than PyTorch's own.

PyTorch's flash attention for CPU takes its float32 products from MKL, which uses AVX-512 on processors of Intel alone;
oneDNN, which PyTorch carries too, uses it wherever it is. Products of 16 bits would round the scores; widened, they are
still faster than PyTorch's attention in 16 bits.
"""

import platform
from dataclasses import dataclass
from functools import cache

import torch

from .dual_chunk_kernels import GAIN, CpuFlash, merge_into, times_as_fast


@dataclass(frozen=True)
class OneDnnFlash(CpuFlash):
    """Forward in blocks over oneDNN's products in float32; backward, and calls too small to gain by it, as PyTorch has
    them.

    `rows` for each thread and `keys` bound the scores that are held at a time: enough to be worth the calls, few enough
    to stay near the processor. A call is small if a key head has fewer than `few` rows of scores, or fewer than `least`
    scores for each thread.
    """

    rows: int = 256
    keys: int = 1024
    few: int = 64
    least: int = 1 << 17

    name = "onednn"
    rounds = True

    def refusal(self, query, key):
        if query.device.type != "cpu":
            return "the tensors are not on a CPU"
        if query.dtype not in (torch.float32, torch.bfloat16, torch.float16):
            return f"it takes float32, bfloat16 and float16, not {query.dtype}"
        if self._is_small(query, key):
            return "there are few queries and keys"
        return _no_gain()

    def forward(self, q, k, v, causal, scaling):
        if self._is_small(q, k):
            return super().forward(q, k, v, causal, scaling)
        out, lse = (q.new_empty(shape, dtype=torch.float32) for shape in (q.shape, q.shape[:3]))
        q, to, to_lse = (x.unflatten(1, (k.shape[1], -1)).flatten(0, 1) for x in (q, out, lse))
        rows = self._rows(q, causal)
        for head, (key, value) in enumerate(zip(k.flatten(0, 1), v.flatten(0, 1))):
            for start in range(0, q.shape[2], rows):
                block = slice(start, start + rows)
                query = q[head, :, block].float() * scaling
                square = query.shape[1] if causal else 0
                seen = start + square if causal else len(key)
                found = self._attend(query.flatten(0, 1).contiguous(), key[:seen], value[:seen], square)
                to[head, :, block], to_lse[head, :, block] = (x.unflatten(0, query.shape[:2]) for x in found)
        return out, lse

    def _is_small(self, query: torch.Tensor, key: torch.Tensor) -> bool:
        rows = query.shape[1] // key.shape[1] * query.shape[2]
        return rows < self.few or rows * key.shape[2] < self.least * torch.get_num_threads()

    def _rows(self, query: torch.Tensor, causal: bool) -> int:
        """How many queries of each head [*, H / G, Q, D] to take at a time: in a causal call half of their square is
        scored in vain, and a square lies within one block of keys."""
        rows = max(1, self.rows * torch.get_num_threads() // query.shape[1])
        return max(1, min(rows, self.keys, max(128, query.shape[2] // 8))) if causal else rows

    def _attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, square: int):
        """The output [M, D] and log-sum-exp [M] of queries [M, D] over keys [K, D]. The last `square` keys stand where
        the queries of each head do, and are causal."""
        out = lse = None
        for stop in range(len(key), 0, -self.keys):  # oneDNN plans each new shape: keep odd-sized blocks rare
            keys, values = (x[max(0, stop - self.keys) : stop].float().contiguous() for x in (key, value))
            score = _product(query, keys)
            if square and out is None:
                later = torch.ones(square, square, dtype=torch.bool).triu_(1)
                score.view(-1, square, len(keys))[:, :, -square:].masked_fill_(later, float("-inf"))
            top = score.amax(-1)
            # In place: of two such tensors the allocator would give memory back and fault it in again, block by block.
            weights = torch.softmax(score, dim=-1, out=score)
            # The greatest weight is 1 over the sum of exp(score - greatest score).
            part, part_lse = _product(weights, values.T), top - weights.amax(-1).log_()
            if out is None or lse is None:
                out, lse = part, part_lse
            else:
                merge_into(out, lse, part, part_lse)
        assert out is not None and lse is not None  # there is a key at least
        return out, lse


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a [M, D] times the transpose of b [K, D]. For strides other than those of a contiguous b or its transpose, oneDNN
    has a reference implementation alone, hundreds of times as slow."""
    return torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")


@cache
def _no_gain() -> str | None:
    """Why this process has nothing to gain from oneDNN's products, or None."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return "PyTorch was built without oneDNN"
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or "AuthenticAMD" not in _processor():
        return "it is for AMD's processors with AVX-512"
    gain = _measured_gain()
    if gain < GAIN:
        return f"it was only {gain:.2f} times as fast as PyTorch's attention when it was timed"
    return None


def _measured_gain() -> float:
    """How many times as fast as PyTorch's attention it is here, on a call of some hundredths of a second."""
    query, key = torch.ones(1, 2, 512, 128), torch.ones(1, 1, 4096, 128)  # no draw from a stream that a user has seeded
    call = lambda kernel: kernel.forward(query, key, key, False, 0.1)
    return times_as_fast(lambda: call(OneDnnFlash(few=0, least=0)), lambda: call(CpuFlash()))


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            return info.read(4096)
    except OSError:
        return platform.processor()
