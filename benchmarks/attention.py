"""Speed of Dual Chunk Attention against plain causal attention, on the same tensors, in one run.

On a CPU both sides start from queries and keys before rotation, and rotate them at the position or at the position in
the chunk. On a GPU, where that is a kernel of the model's own, they start from rotated ones, as a model's layer leaves
them. Plain calls PyTorch's scaled_dot_product_attention; DCA rotates the queries for the other two relations and
attends. Tables of cosines and sines, which a model makes once for all its layers, are ready on both
sides. Every case is first compared with the naive twin in float64, and no speed is told for a case that does not match.
On a GPU, times are medians by CUDA events over calls in a row, decoding is also timed in a captured graph, and
`--backward` times the backward. Ends with a line of JSON for each case, which names the processor or card.

    python benchmarks/attention.py                        prefill at 8k and 16k, one decode step, on the CPU
    python benchmarks/attention.py --backend cpu_flash    prefill by PyTorch's own flash attention
    python benchmarks/attention.py --device cuda --dtype bfloat16 --lengths 16384 65536 131072 --backward
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dca_hub import processor as cpu

cpu.settle_threads()

import torch  # noqa: E402  (its threads are settled above)
from torch.nn.functional import scaled_dot_product_attention  # noqa: E402

from dca_hub import catalogue  # noqa: E402
from dca_hub.modeling.dual_chunk_attention import dual_chunk_attention, naive_dual_chunk_attention  # noqa: E402
from dca_hub.modeling.dual_chunk_backends import choose_backend  # noqa: E402
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry  # noqa: E402
from dca_hub.modeling.dual_chunk_rotation import relation_rotations, rotate  # noqa: E402

THETA = 10_000.0


@dataclass(frozen=True)
class Shape:
    """Attention of one layer: heads, key/value heads, head size, and the chunk sizes."""

    name: str
    heads: int
    groups: int
    head_dim: int
    geometry: DualChunkGeometry


# On a CPU 8 heads stand for the 32 of a 7B model: time is proportional to heads, and so is the ratio's every term.
CPU_SHAPES = (
    Shape("4k model (Llama 2)", 8, 8, 128, DualChunkGeometry(3072, 512, 4096)),
    Shape("8k model (Llama 3)", 8, 2, 128, DualChunkGeometry(6144, 1024, 8192)),
    Shape("demo model", 4, 2, 64, catalogue.find("demo").geometry),
)
# A GPU has to be filled: 32 heads are a whole layer of such a model, 8 the share of one GPU of four.
GPU_SHAPES = (
    Shape("4k, 32 heads", 32, 8, 128, DualChunkGeometry(3072, 512, 4096)),
    Shape("4k, 8 heads", 8, 8, 128, DualChunkGeometry(3072, 512, 4096)),
    Shape("8k, 32 heads", 32, 8, 128, DualChunkGeometry(6144, 1024, 8192)),
    Shape("8k, 8 heads", 8, 8, 128, DualChunkGeometry(6144, 1024, 8192)),
    Shape("demo model", 4, 2, 64, catalogue.find("demo").geometry),
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
        """Query, key and value before rotation, in memory as a model's projections leave them, [B, rows, heads, D]."""
        generator = torch.Generator(self.device).manual_seed(0)
        tokens = tokens or self.tokens
        shape = self.shape

        def draw(heads: int, rows: int) -> torch.Tensor:
            of = (1, rows, heads, shape.head_dim)
            return torch.randn(of, generator=generator, device=self.device, dtype=self.dtype).transpose(1, 2)

        queries = min(self.queries, tokens)
        return draw(shape.heads, queries), draw(shape.groups, tokens), draw(shape.groups, tokens)


def inverse_frequencies(head_dim: int, device: torch.device) -> torch.Tensor:
    return 1 / THETA ** (torch.arange(0, head_dim, 2, device=device).float() / head_dim)


class Plain:
    """Plain causal attention."""

    def __init__(self, query, key, value, shape: Shape):
        self.shape, self.value = shape, value
        self.at = torch.arange(key.shape[2], device=key.device)
        self.inv_freq = inverse_frequencies(shape.head_dim, key.device)
        angle = self.rotary_position().unsqueeze(-1) * self.inv_freq
        self.cos, self.sin = angle.cos(), angle.sin()
        self.unrotated = (query, key) if key.device.type == "cpu" else None
        rows = query.shape[2]
        self.query, self.key = self.rotate(query), self.rotate(key)
        if rows > 1:  # in memory as the projections left them
            self.query, self.key = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (self.query, self.key))
        else:  # as in a cache
            self.key, self.value = self.key.contiguous(), value.contiguous()

    def rotary_position(self) -> torch.Tensor:
        return self.at

    def rotate(self, x: torch.Tensor) -> torch.Tensor:
        """Rotates the last rows of the sequence."""
        return rotate(x, self.cos[-x.shape[2] :], self.sin[-x.shape[2] :])

    def rotated(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The query and all keys: on a CPU, those of this call are rotated now, and cached ones are not."""
        if self.unrotated is None:
            return self.query, self.key
        query, key = self.unrotated
        return self.rotate(query), self.rotate(key) if key.shape[2] == query.shape[2] else self.key

    def leaves(self) -> list[torch.Tensor]:
        return [self.query, self.key, self.value]

    def __call__(self) -> torch.Tensor:
        grouped = self.shape.heads != self.shape.groups
        query, key = self.rotated()
        causal = query.shape[2] > 1
        return scaled_dot_product_attention(query, key, self.value, is_causal=causal, enable_gqa=grouped)


class Dca(Plain):
    """Dual Chunk Attention on the same tensors."""

    def __init__(self, query, key, value, shape: Shape, backend: str | None):
        super().__init__(query, key, value, shape)
        self.backend = backend
        self.rotations = relation_rotations(self.at[-query.shape[2] :], self.inv_freq, shape.geometry)

    def rotary_position(self) -> torch.Tensor:
        return self.at % self.shape.geometry.chunk_length

    def __call__(self) -> torch.Tensor:
        options = {"geometry": self.shape.geometry, "rotations": self.rotations, "backend": self.backend}
        return dual_chunk_attention(*self.rotated(), self.value, **options)

    def naive(self, rows: int) -> torch.Tensor:
        """The last rows by the naive twin, in float64 from the same rotated tensors."""
        rotations = relation_rotations(self.at[-rows:], self.inv_freq, self.shape.geometry)
        out, _ = naive_dual_chunk_attention(
            self.query[:, :, -rows:].double(),
            self.key.double(),
            self.value.double(),
            rotations,
            self.at[None, -rows:],
            self.at[None],
            self.shape.geometry.chunk_length,
            self.query.shape[-1] ** -0.5,
        )
        return out


def matches(case: Case, rows: int = 64) -> float:
    """Relative error against the naive twin, over the last rows of a sequence that crosses chunks three times."""
    tensors = case.tensors(min(case.tokens, 3 * case.shape.geometry.chunk_length + 300))
    dca = Dca(*tensors, case.shape, case.backend)
    rows = min(rows, dca.query.shape[2])
    wanted = dca.naive(rows)
    return ((dca()[:, :, -rows:].double() - wanted).norm() / wanted.norm()).item()


def seconds(functions: list[Callable], device: str, repeats: int) -> list[float]:
    """Seconds of each function, taken in turns: the least on a CPU, what the machine gives while nothing disturbs it,
    and the median on a GPU, which has nothing else to do."""
    times: list[list[float]] = [[] for _ in functions]
    for repeat in range(repeats + 1):
        for function, taken in zip(functions, times):
            spent = _gpu_seconds(function) if device.startswith("cuda") else _cpu_seconds(function)
            if repeat:
                taken.append(spent)
    return [statistics.median(taken) if device.startswith("cuda") else min(taken) for taken in times]


def _cpu_seconds(function: Callable) -> float:
    """On one thread its time on the processor, which other programs on the machine hardly change."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    started = clock()
    function()
    return clock() - started


def _gpu_seconds(function: Callable, calls: int = 8) -> float:
    """Of calls in a row, as the layers of a model make them: the GPU works while Python prepares the next one."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    for _ in range(calls):
        function()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3 / calls


def replayed(function: Callable, times: int) -> Callable:
    """The function captured so many times in a CUDA graph, by which a replay's time is to be divided."""
    function()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(times):
            function()
    return graph.replay


def backward_of(attention: Plain) -> Callable:
    """A function that runs the backward alone."""
    leaves = [x.detach().requires_grad_() for x in attention.leaves()]
    attention.query, attention.key, attention.value = leaves
    attention.unrotated = None
    with torch.enable_grad():
        out = attention()
    # As the projection behind it leaves it.
    grad = torch.randn_like(out.transpose(1, 2).contiguous()).transpose(1, 2)
    return lambda: torch.autograd.grad(out, leaves, grad, retain_graph=True)


@torch.no_grad()
def measure(case: Case, repeats: int, backward: bool) -> dict:
    tolerance = 1e-5 if case.dtype == torch.float32 else 2e-2
    started = time.perf_counter()
    error = matches(case)
    first = time.perf_counter() - started
    tensors = case.tensors()
    dca, plain = Dca(*tensors, case.shape, case.backend), Plain(*tensors, case.shape)
    backend, why = choose_backend(*tensors[:2], case.backend, case.shape.geometry.chunk_length)
    row = {
        "shape": case.shape.name,
        "heads": [case.shape.heads, case.shape.groups, case.shape.head_dim],
        "sizes": asdict(case.shape.geometry),
        "tokens": case.tokens,
        "queries": case.queries,
        "dtype": str(case.dtype).removeprefix("torch."),
        "processor": processor(case.device),
        "instruction_sets": () if case.device.startswith("cuda") else cpu.instruction_sets(),
        "backend": backend.name,
        "why": why,
        "relative_error": error,
        "match": error <= tolerance,
        "first_seconds": first,
    }
    if not row["match"]:
        return row
    started = time.perf_counter()
    dca()
    torch.cuda.synchronize() if case.device.startswith("cuda") else None
    row["first_of_this_length_seconds"] = time.perf_counter() - started
    row["dca_seconds"], row["plain_seconds"] = seconds([dca, plain], case.device, repeats)
    if case.queries == 1 and case.device.startswith("cuda"):
        calls = 20
        in_graph = seconds([replayed(dca, calls), replayed(plain, calls)], case.device, repeats)
        row["dca_graph_seconds"], row["plain_graph_seconds"] = (taken / calls for taken in in_graph)
        row["bytes_per_second"] = 2 * tensors[1].numel() * tensors[1].element_size() / row["dca_graph_seconds"]
    elif case.queries == 1:
        row["bytes_per_second"] = 2 * tensors[1].numel() * tensors[1].element_size() / row["dca_seconds"]
        row["share_of_read_rate"] = row["bytes_per_second"] / read_rate()
    elif backward:
        found = seconds([backward_of(dca), backward_of(plain)], case.device, repeats)
        row["dca_backward_seconds"], row["plain_backward_seconds"] = found
    row["ratio"] = row["dca_seconds"] / row["plain_seconds"]
    return row


def copy_rate(device: str) -> float:
    """Bytes a second, read and written, that a large copy moves."""
    source = torch.empty(1 << 31, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / seconds([lambda: target.copy_(source)], device, 10)[0]


@cache
def read_rate() -> float:
    """Bytes a second at which a CPU reads what is in no cache of it: the sum of a large tensor."""
    source = torch.ones(1 << 26)
    return 4 * source.numel() / seconds([source.sum], "cpu", 10)[0]


def processor(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{cpu.name()}, {torch.get_num_threads()} threads"


def line(row: dict) -> str:
    milliseconds = lambda key: f"{row[key] * 1e3:>9.3f}" if key in row else f"{'':>9}"
    speed = lambda kind: f"{row[f'plain_{kind}seconds'] / row[f'dca_{kind}seconds']:>6.2f}"
    words = [f"{row['shape']:<20} {row['tokens']:>7} {row['queries']:>7} {row['backend']:<11}"]
    words.append(f"{'match' if row['match'] else 'NO MATCH'} {row['relative_error']:.1e}")
    if "dca_seconds" in row:
        words += [milliseconds("plain_seconds"), milliseconds("dca_seconds"), speed("")]
    for kind in ("backward_", "graph_"):
        if f"dca_{kind}seconds" in row:
            words += [
                kind.rstrip("_"),
                *(milliseconds(f"{side}_{kind}seconds") for side in ("plain", "dca")),
                speed(kind),
            ]
    if "bytes_per_second" in row:
        words.append(f"{row['bytes_per_second'] / 1e9:,.1f} GB/s")
    if "share_of_read_rate" in row:
        words.append(f"{row['share_of_read_rate']:.0%} of the rate of reading")
    return " ".join(words)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[8192, 16384])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--backend", nargs="+", help="how to compute prefill, by name; the best that can by default")
    parser.add_argument("--shapes", nargs="+", help="only the shapes whose names contain one of these")
    parser.add_argument("--backward", action="store_true", help="time the backward as well")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--decode-repeats", type=int, default=50, help="0 leaves decoding out")
    args = parser.parse_args()
    dtype, rows = getattr(torch, args.dtype), []
    on_gpu = args.device.startswith("cuda")
    sets = "" if on_gpu else f" ({', '.join(cpu.instruction_sets())})"
    print(f"{processor(args.device)}{sets}, torch {torch.__version__}")
    print("times in ms: plain, DCA, and DCA's speed over plain's")
    if on_gpu:
        print(f"a copy moves {copy_rate(args.device) / 1e12:.2f} TB/s", flush=True)
    shapes = GPU_SHAPES if on_gpu else CPU_SHAPES
    for shape in shapes:
        if args.shapes and not any(part in shape.name for part in args.shapes):
            continue
        for tokens in args.lengths:
            prefill = [(tokens, args.repeats, backend) for backend in args.backend or [None]]
            decoding = [(1, args.decode_repeats, None)] if args.decode_repeats else []
            for queries, repeats, backend in prefill + decoding:
                try:
                    row = measure(Case(shape, tokens, queries, dtype, args.device, backend), repeats, args.backward)
                except ValueError as error:
                    parser.error(str(error))
                rows.append(row)
                print(line(row), flush=True)
    for row in rows:
        print(json.dumps(row))
    return 0 if all(row["match"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
