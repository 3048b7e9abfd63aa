"""Speed of Dual Chunk Attention against plain causal attention, on the same tensors, in one run.

Both sides start from queries and keys before rotation and end with the output: plain rotates at the position and calls
PyTorch's scaled_dot_product_attention; DCA rotates at the position within the chunk, rotates the queries for the other
two relations and runs its parts. Tables of cosines and sines, which a model makes once for all its layers, are ready on
both sides. Every case is first compared with the naive twin, and no speed is told for a case that
does not match. Ends with a line of JSON for each case.

    python benchmarks/attention.py                        prefill at 8k and 16k, one decode step, on the CPU
    python benchmarks/attention.py --backend cpu_flash    prefill by PyTorch's own flash attention
    python benchmarks/attention.py --device cuda --dtype bfloat16 --lengths 16384 65536
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.nn.functional import scaled_dot_product_attention

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dca_hub.modeling.dual_chunk_attention import dual_chunk_attention, naive_dual_chunk_attention
from dca_hub.modeling.dual_chunk_backends import choose_backend
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_rotation import relation_rotations, rotate

THETA = 10_000.0


@dataclass(frozen=True)
class Shape:
    """Attention of one layer: heads, key/value heads, head size, and the chunk sizes."""

    name: str
    heads: int
    groups: int
    head_dim: int
    geometry: DualChunkGeometry


# 8 heads stand for the 32 of a 7B model: time is proportional to heads, and so is the ratio's every term.
SHAPES = (
    Shape("4k model (Llama 2)", 8, 8, 128, DualChunkGeometry(3072, 512, 4096)),
    Shape("8k model (Llama 3)", 8, 2, 128, DualChunkGeometry(6144, 1024, 8192)),
    Shape("demo model", 4, 2, 64, DualChunkGeometry(511, 255, 512, temperature=0.2)),
)


@dataclass(frozen=True)
class Case:
    shape: Shape
    tokens: int
    queries: int
    dtype: torch.dtype
    device: str
    backend: str | None = None

    def tensors(self, tokens: int | None = None) -> tuple[torch.Tensor, ...]:
        generator = torch.Generator().manual_seed(0)
        tokens = tokens or self.tokens
        shape = self.shape

        def draw(heads: int, rows: int) -> torch.Tensor:
            return torch.randn(1, heads, rows, shape.head_dim, generator=generator).to(self.device, self.dtype)

        queries = min(self.queries, tokens)
        return draw(shape.heads, queries), draw(shape.groups, tokens), draw(shape.groups, tokens)


def inverse_frequencies(head_dim: int, device: str) -> torch.Tensor:
    return 1 / THETA ** (torch.arange(0, head_dim, 2, device=device).float() / head_dim)


class Plain:
    """Plain causal attention. Cached keys are rotated before the clock starts, as a cache holds them."""

    def __init__(self, query, key, value, shape: Shape):
        self.query, self.value, self.shape = query, value, shape
        self.at = torch.arange(key.shape[2], device=key.device)
        self.inv_freq = inverse_frequencies(shape.head_dim, key.device)
        angle = self.rotary_position().unsqueeze(-1) * self.inv_freq
        self.cos, self.sin = angle.cos(), angle.sin()
        self.fresh = key[:, :, -query.shape[2] :]
        self.cached = self.rotate(key)

    def rotary_position(self) -> torch.Tensor:
        return self.at

    def rotate(self, x: torch.Tensor) -> torch.Tensor:
        """Rotates the last rows of the sequence."""
        return rotate(x, self.cos[-x.shape[2] :], self.sin[-x.shape[2] :])

    def rotated(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The query, and all keys: those of this call are rotated now."""
        fresh = self.rotate(self.fresh)
        return self.rotate(self.query), fresh if fresh.shape == self.cached.shape else self.cached

    def __call__(self) -> torch.Tensor:
        query, key = self.rotated()
        grouped = self.shape.heads != self.shape.groups
        return scaled_dot_product_attention(query, key, self.value, is_causal=query.shape[2] > 1, enable_gqa=grouped)


class Dca(Plain):
    """Dual Chunk Attention on the same tensors."""

    def __init__(self, query, key, value, shape: Shape, backend: str | None):
        super().__init__(query, key, value, shape)
        self.backend = backend
        self.rotations = relation_rotations(self.at[-query.shape[2] :], self.inv_freq, shape.geometry)

    def rotary_position(self) -> torch.Tensor:
        return self.at % self.shape.geometry.chunk_length

    def __call__(self) -> torch.Tensor:
        query, key = self.rotated()
        geometry = self.shape.geometry
        return dual_chunk_attention(
            query, key, self.value, geometry=geometry, rotations=self.rotations, backend=self.backend
        )

    def naive(self, rows: int) -> torch.Tensor:
        """The last rows by the naive twin, in float64 from the same rotated tensors."""
        query, key = self.rotated()
        rotations = relation_rotations(self.at[-rows:], self.inv_freq, self.shape.geometry)
        out, _ = naive_dual_chunk_attention(
            query[:, :, -rows:].double(),
            key.double(),
            self.value.double(),
            rotations,
            self.at[None, -rows:],
            self.at[None],
            self.shape.geometry.chunk_length,
            query.shape[-1] ** -0.5,
        )
        return out


def matches(case: Case, rows: int = 64) -> float:
    """Relative error against the naive twin, over the last rows of a sequence that crosses chunks twice."""
    tensors = case.tensors(min(case.tokens, 2 * case.shape.geometry.chunk_length + 300))
    dca = Dca(*tensors, case.shape, case.backend)
    rows = min(rows, dca.query.shape[2])
    wanted = dca.naive(rows)
    return ((dca()[:, :, -rows:].double() - wanted).norm() / wanted.norm()).item()


def seconds(functions: list, device: str, repeats: int) -> list[float]:
    """Least seconds of each function, taken in turns: what the machine gives while nothing disturbs it."""
    times: list[list[float]] = [[] for _ in functions]
    for repeat in range(repeats + 1):
        for function, taken in zip(functions, times):
            _synchronize(device)
            started = time.perf_counter()
            function()
            _synchronize(device)
            if repeat:
                taken.append(time.perf_counter() - started)
    return [min(taken) for taken in times]


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


@torch.inference_mode()
def measure(case: Case, repeats: int) -> dict:
    error = matches(case)
    tolerance = 1e-5 if case.dtype == torch.float32 else 2e-2
    tensors = case.tensors()
    dca, plain = Dca(*tensors, case.shape, case.backend), Plain(*tensors, case.shape)
    backend, why = choose_backend(*tensors[:2], case.backend, case.shape.geometry.chunk_length)
    row = {
        "shape": case.shape.name,
        "sizes": asdict(case.shape.geometry),
        "tokens": case.tokens,
        "queries": case.queries,
        "dtype": str(case.dtype).removeprefix("torch."),
        "device": case.device,
        "threads": torch.get_num_threads(),
        "backend": backend.name,
        "why": why,
        "relative_error": error,
        "match": error <= tolerance,
    }
    if row["match"]:
        row["dca_seconds"], row["plain_seconds"] = seconds([dca, plain], case.device, repeats)
        row["ratio"] = row["dca_seconds"] / row["plain_seconds"]
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[8192, 16384])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--backend", help="how to compute prefill, by name; the best that can by default")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--decode-repeats", type=int, default=50)
    args = parser.parse_args()
    dtype, rows = getattr(torch, args.dtype), []
    print(f"{'shape':<20} {'tokens':>7} {'queries':>8} {'plain ms':>10} {'DCA ms':>10} {'ratio':>6}  match  backend")
    for shape in SHAPES:
        for tokens in args.lengths:
            for queries, repeats, backend in ((tokens, args.repeats, args.backend), (1, args.decode_repeats, None)):
                try:
                    row = measure(Case(shape, tokens, queries, dtype, args.device, backend), repeats)
                except ValueError as error:
                    parser.error(str(error))
                rows.append(row)
                plain, dca = (row.get(key, float("nan")) * 1e3 for key in ("plain_seconds", "dca_seconds"))
                print(
                    f"{shape.name:<20} {tokens:>7} {queries:>8} {plain:>10.2f} {dca:>10.2f} "
                    f"{row.get('ratio', float('nan')):>6.2f}  {'yes' if row['match'] else 'NO':<5}  {row['backend']}",
                    flush=True,
                )
    for row in rows:
        print(json.dumps(row))
    return 0 if all(row["match"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
