"""The plug-in's CPU backend against vLLM's own, on the same paged cache: a layer's cache write and attention.

`python benchmarks/vllm_attention.py` in an environment with vLLM (bash tests/vllm_plugin/run.sh makes one). Plain
attention is what vLLM's kernel gives without Dual Chunk Attention. Each case is first compared with the naive twin in
float64 on some rows: it may be off by twice as much as the twin is in the dtype measured.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from vllm import _custom_ops as ops
from vllm.config import set_current_vllm_config
from vllm.engine.arg_utils import EngineArgs
from vllm.forward_context import set_forward_context
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackendImpl, CPUAttentionMetadata, _get_attn_isa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dca_hub import catalogue
from dca_hub.modeling.dual_chunk_attention import naive_dual_chunk_attention
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_rotation import RelationRotations, relation_rotations, rotate
from dca_hub.vllm_plugin.cpu.backend import DualChunkCPUImpl, DualChunkCPUMetadata, step_of
from dca_hub.vllm_plugin.cpu.pages import PageShape
from dca_hub.vllm_plugin.rotary_table import RotaryTable
from dca_hub.vllm_plugin.spans import positions, spans

MODEL = Path(__file__).resolve().parent.parent / "dca_hub" / "demo" / "model"
PAGE, THETA = 128, 10_000.0
# Query heads, key/value heads, head size; 8 heads stand for the 32 of a 7B model.
SHAPES = {
    "4k model": (8, 8, 128, DualChunkGeometry(3072, 512, 4096)),
    "8k model": (8, 2, 128, DualChunkGeometry(6144, 1024, 8192)),
    "demo": (4, 2, 64, catalogue.find("demo").geometry),
    "SmolLM2": (9, 3, 64, DualChunkGeometry(6144, 1024, 8192)),
}
LAYER = "layer"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", choices=SHAPES)
    parser.add_argument("--decode-repeat", type=int, default=25)
    parser.add_argument("--layers", type=int, default=4, help="layers that a decoding step goes through")
    parser.add_argument("--shuffled", action="store_true", help="no two pages follow one another, the worst there is")
    args = parser.parse_args()
    config = EngineArgs(model=str(MODEL), dtype=args.dtype, skip_tokenizer_init=True).create_engine_config()
    pages = "shuffled" if args.shuffled else "in a row"
    threads = torch.get_num_threads()
    print(f"{args.dtype}, {args.tokens:,} tokens, the pages of a request {pages}, {threads} threads; ", end="")
    print(f"decoding: {args.layers} layers")
    print(f"{'':10} {'requests':>8} {'queries':>8} {'plain ms':>10} {'DCA ms':>10} {'ratio':>6} {'match':>8}")
    rows = []
    with set_current_vllm_config(config):
        for name, shape in ((n, s) for n, s in SHAPES.items() if args.only in (None, n)):
            for requests, queries in ((1, args.tokens), (1, 2048), (1, 1), (8, 1)):
                case = Case(config, shape, requests, queries, args)
                match, bound = case.match()
                if not match < bound:
                    sys.exit(f"{name}: off by {match}, more than {bound}; no speed is told of what is not right.")
                repeat = args.repeat if queries > 1 else args.decode_repeat
                plain, dca = (ms / case.layers for ms in median_ms([case.plain, case.dca], repeat))
                row = (name, requests, queries, plain, dca, dca / plain, match)
                rows.append(row)
                print(f"{name:10} {requests:8} {queries:8} {plain:10.2f} {dca:10.2f} {dca / plain:6.2f} {match:8.1e}")
    said = {
        "dtype": args.dtype,
        "tokens": args.tokens,
        "shuffled": args.shuffled,
        "layers": args.layers,
        "threads": threads,
    }
    print(json.dumps(said | {"rows": rows}))


def median_ms(runs: list, repeat: int) -> list[float]:
    """Taken in turns, so that whatever else the machine does slows all of them."""
    times: list[list[float]] = [[] for _ in runs]
    for nth in range(repeat + 1):
        for run, taken in zip(runs, times):
            started = time.perf_counter()
            run()
            if nth:
                taken.append(1000 * (time.perf_counter() - started))
    return [statistics.median(taken) for taken in times]


class Case:
    """`requests` requests of `length` tokens each, the last `queries` of which are in the step.

    A decoding step goes through `layers` caches, as it does in a model: what one layer has read is seldom still in the
    processor's cache when its turn comes again.
    """

    def __init__(self, config, shape, requests, queries, args):
        heads, groups, size, geometry = shape
        length, self.layers = args.tokens, args.layers if queries == 1 else 1
        dtype = getattr(torch, args.dtype)
        self.config, self.geometry, self.queries, self.length = config, geometry, queries, length
        draw = torch.Generator().manual_seed(0)
        tokens, pages = requests * queries, -(-length // PAGE)
        self.query, self.key, self.value = (
            torch.randn(tokens, count, size, generator=draw).to(dtype) for count in (heads, groups, groups)
        )
        inv_freq = THETA ** -(torch.arange(0, size, 2) / size)
        self.inv_freq = inv_freq
        angle = torch.arange(length + 1).double().unsqueeze(1) * inv_freq.double()
        table = RotaryTable(torch.cat([angle.cos(), angle.sin()], dim=-1).float())
        count = requests * pages
        # Every second page belongs to nobody here: no two follow one another, whatever order they are read in.
        order = 2 * torch.randperm(count, generator=draw) if args.shuffled else torch.arange(count)
        self.table = order.view(requests, pages).int()
        starts, lengths = [n * queries for n in range(requests + 1)], [length] * requests
        step = spans(starts, lengths)
        self.at = positions(step, tokens)
        slots = torch.cat(
            [self.table[s.request, p // PAGE] * PAGE + p % PAGE for s in step for p in [self.at[s.start : s.stop]]]
        ).long()
        shared = {
            "num_actual_tokens": tokens,
            "max_query_len": queries,
            "query_start_loc": torch.tensor(starts, dtype=torch.int32),
            "max_seq_len": length,
            "seq_lens": torch.tensor(lengths, dtype=torch.int32),
            "block_table": self.table,
            "slot_mapping": slots,
        }
        isa = _get_attn_isa(dtype, PAGE, size)
        scheduled = ops.cpu_attn_get_scheduler_metadata(
            num_reqs=requests,
            num_heads=heads,
            num_kv_heads=groups,
            head_dim=size,
            seq_lens=shared["seq_lens"],
            dtype=dtype,
            query_start_loc=shared["query_start_loc"],
            causal=True,
            sliding_window_size=-1,
            isa=isa,
            enable_kv_split=True,
            dynamic_causal=None,
            kv_cache_dtype="auto",
        )
        self.layer = SimpleNamespace(layer_name=LAYER, isa=isa, _k_scale_float=1.0, _v_scale_float=1.0)
        # Both sides fill the same memory with random numbers, each in its own order.
        caches = torch.randn(self.layers, int(order.max()) + 1, groups, PAGE, 2 * size, generator=draw)
        self.caches = caches.to(dtype)
        made = {"num_heads": heads, "head_size": size, "scale": size**-0.5, "num_kv_heads": groups}
        made |= {"alibi_slopes": None, "sliding_window": None, "kv_cache_dtype": "auto"}
        self.impls = CPUAttentionBackendImpl(**made), DualChunkCPUImpl(**made)
        plain = CPUAttentionMetadata(**shared, scheduler_metadata=scheduled)
        added = step_of(plain, PageShape(PAGE, groups, size, dtype), heads, isa, table, geometry)
        dca = DualChunkCPUMetadata(**shared, scheduler_metadata=None, step=added)
        self.metadata = plain, dca

    def _run(self, which: int) -> torch.Tensor:
        impl, metadata = self.impls[which], self.metadata[which]
        output = torch.empty_like(self.query)
        with set_forward_context({LAYER: metadata}, self.config):
            for cache in self.caches:
                impl.do_kv_cache_update(self.layer, self.key, self.value, cache, metadata.slot_mapping)
                impl.forward(self.layer, self.query, self.key, self.value, cache, metadata, output)
        return output

    def plain(self) -> torch.Tensor:
        return self._run(0)

    def dca(self) -> torch.Tensor:
        return self._run(1)

    @torch.no_grad()
    def match(self, rows: int = 16) -> tuple[float, float]:
        """The largest difference from the naive twin in float64, of the first request's last rows, and the largest
        that is right."""
        found = self.dca()[: self.queries][-rows:]
        exact, low = (self._naive(rows, dtype) for dtype in (torch.float64, self.query.dtype))
        off, bound = ((x.double() - exact).abs().max() for x in (found, low))
        return float(off), float(2 * bound + 1e-6)

    def _naive(self, rows: int, dtype: torch.dtype) -> torch.Tensor:
        cache, size = self.caches[-1], self.query.shape[-1]
        pages = cache.view(len(cache), -1, 2, PAGE, size)[self.table[0].long()].to(dtype)
        keys, values = (pages[:, :, kind].transpose(0, 1).flatten(1, 2)[None, :, : self.length] for kind in (0, 1))
        at = self.at[: self.queries][-rows:]
        angle = (at % self.geometry.chunk_length - at).unsqueeze(-1) * self.inv_freq.double()
        query = self.query[: self.queries][-rows:].to(dtype).transpose(0, 1)
        query = rotate(query, angle.cos(), angle.sin()).unsqueeze(0)
        rotations: RelationRotations = relation_rotations(at, self.inv_freq.double(), self.geometry)
        everywhere, s = torch.arange(self.length)[None], self.geometry.chunk_length
        expected, _ = naive_dual_chunk_attention(query, keys, values, rotations, at[None], everywhere, s, size**-0.5)
        return expected[0].transpose(0, 1)


if __name__ == "__main__":
    main()
