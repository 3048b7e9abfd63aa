"""The plug-in's CUDA backend against vLLM's own flash attention, on the same paged cache of a GPU: one layer, cache
write and attention.

`python benchmarks/vllm_attention_cuda.py` in an environment with vLLM for CUDA. Each case is first compared with the
naive twin on some rows, relative to what bfloat16 rounds. What a step builds once for all its layers is timed apart:
until the GPU has it (step), and until the host goes on (host). Single tokens are timed in a CUDA graph too, where what
the host takes to launch a layer does not count. `vllm_attention_cuda_parts.py` tells where the time goes.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from vllm.config import set_current_vllm_config
from vllm.engine.arg_utils import EngineArgs
from vllm.forward_context import set_forward_context
from vllm.model_executor.layers.rotary_embedding import get_rope
from vllm.v1.attention.backend import CommonAttentionMetadata
from vllm.v1.attention.backends.flash_attn import FlashAttentionBackend
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.worker.workspace import init_workspace_manager

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dca_hub.modeling.dual_chunk_attention import naive_dual_chunk_attention
from dca_hub.modeling.dual_chunk_config import CONFIG_KEY, config_from_geometry
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_rotation import relation_rotations, rotate
from dca_hub.vllm_plugin.hooks import install

MODEL = Path(__file__).resolve().parent.parent / "dca_hub" / "demo" / "model"
PAGE, THETA, LAYER = 128, 10_000.0, "layer"
# Query heads, key/value heads, head size.
SHAPES = {
    "Llama 2 7B": (32, 32, 128, DualChunkGeometry(3072, 512, 4096)),
    "Llama 3 8B": (32, 8, 128, DualChunkGeometry(6144, 1024, 8192)),
    "Qwen2.5 7B": (28, 4, 128, DualChunkGeometry(24576, 2048, 32768)),
    "1B, size 64": (32, 8, 64, DualChunkGeometry(6144, 1024, 8192)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[32768, 131072])
    parser.add_argument("--repeat", type=int, default=10)
    args = parser.parse_args()
    prepare()
    print(f"{torch.cuda.get_device_name()}, bfloat16, pages of {PAGE} in no order")
    columns = ("plain ms", "DCA ms", "plain/DCA", "step ms", "host ms", "match", "graph", "graph DCA", "p/D graph")
    print(f"{'':12} {'tokens':>8} {'requests':>8} {'queries':>8} " + " ".join(f"{name:>9}" for name in columns))
    rows = []
    for name, shape, tokens, requests, queries in cases(args.tokens):
        case = Case(shape, tokens, requests, queries)
        match = case.match()
        if not match < 0.02:
            sys.exit(f"{name}: off by {match}; no speed is told of what is not right.")
        plain, dca = (median_ms(run, args.repeat, layers=8) for run in (case.plain, case.dca))
        step, host = median_ms(case.builds[1], args.repeat), median_ms(case.builds[1], args.repeat, wait=False)
        numbers = [plain, dca, plain / dca, step, host, match]
        if queries == 1:
            graphs = [median_ms(in_graph(run), args.repeat) for run in (case.plain, case.dca)]
            numbers += [*graphs, graphs[0] / graphs[1]]
        rows.append((name, tokens, requests, queries, *numbers))
        print(f"{name:12} {tokens:8} {requests:8} {queries:8} " + " ".join(f"{x:9.4g}" for x in numbers), flush=True)
    print(json.dumps({"device": torch.cuda.get_device_name(), "page": PAGE, "columns": columns, "rows": rows}))


def prepare() -> None:
    """What vLLM's worker would do before its model is there."""
    install()
    init_workspace_manager(torch.device("cuda"))


def cases(lengths: list[int]):
    """Name, shape, tokens of each request, requests, and how many of the tokens are in the step."""
    for name, shape in SHAPES.items():
        for tokens in lengths:
            for requests, queries in ((1, tokens), (1, 8192), (1, 1), (8, 1), (32, 1)):
                if requests * tokens * shape[1] <= 8 * 2**20 * 8:  # two caches of it fit
                    yield name, shape, tokens, requests, queries


def in_graph(run):
    """Replays what `run` launches; it must give what `run` gives."""
    expected = run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = run()
    graph.replay()
    off = float((found.float() - expected.float()).norm() / expected.float().norm())
    if not off < 0.01:
        sys.exit(f"a CUDA graph is off by {off}; no speed is told of what is not right.")
    return graph.replay


def median_ms(run, repeat: int, wait: bool = True, layers: int = 1) -> float:
    """The median time of a run, of `layers` one after another, until the GPU is done or, without `wait`, until the host
    goes on."""
    for _ in range(2):
        run()
    torch.cuda.synchronize()
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        for _ in range(layers):
            run()
        if wait:
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - started) / layers)
        torch.cuda.synchronize()
    return statistics.median(times)


class Case:
    """`requests` requests of `length` tokens each, the last `queries` of which are in the step."""

    def __init__(self, shape, length: int, requests: int, queries: int):
        heads, groups, size, self.geometry = shape
        self.length, self.queries = length, queries
        draw, tokens, pages = torch.Generator("cuda").manual_seed(0), requests * queries, -(-length // PAGE)

        def randn(*sizes: int) -> torch.Tensor:
            return torch.randn(*sizes, generator=draw, device="cuda", dtype=torch.bfloat16)

        self.query, self.key, self.value = (randn(tokens, count, size) for count in (heads, groups, groups))
        self.table = torch.randperm(requests * pages, generator=draw, device="cuda").view(requests, pages).int()
        self.at = torch.arange(length - queries, length, device="cuda").repeat(requests)
        rows = torch.arange(requests, device="cuda").repeat_interleave(queries)
        starts = torch.arange(requests + 1, dtype=torch.int32) * queries
        lengths = torch.full((requests,), length, dtype=torch.int32)
        common = CommonAttentionMetadata(
            query_start_loc=starts.cuda(),
            query_start_loc_cpu=starts,
            seq_lens=lengths.cuda(),
            seq_lens_cpu_upper_bound=lengths,
            num_reqs=requests,
            num_actual_tokens=tokens,
            max_query_len=queries,
            max_seq_len=length,
            block_table_tensor=self.table,
            slot_mapping=(self.table[rows, self.at // PAGE] * PAGE + self.at % PAGE).long(),
        )
        spec = FullAttentionSpec(block_size=PAGE, num_kv_heads=groups, head_size=size, dtype=torch.bfloat16)
        one = torch.ones((), device="cuda")
        self.layer = SimpleNamespace(layer_name=LAYER, _q_scale=one, _k_scale=one, _v_scale=one)
        self.caches = [randn(requests * pages, PAGE, groups, 2 * size).transpose(1, 2) for _ in range(2)]
        self.configs, self.impls, self.builds, self.metadata = [], [], [], []
        for dca in (False, True):
            config = _config(shape, length, dca)
            with set_current_vllm_config(config):
                _rotate_like_a_layer(config.model_config, size)
                backend = _dca_backend() if dca else FlashAttentionBackend
                builder = backend.get_builder_cls()(spec, [LAYER], config, torch.device("cuda"))
                impl = backend.get_impl_cls()(heads, size, size**-0.5, groups, None, None, "auto")
            self.configs.append(config)
            self.impls.append(impl)
            self.builds.append(lambda builder=builder: builder.build(0, common))
            self.metadata.append(self.builds[-1]())

    def _run(self, which: int) -> torch.Tensor:
        metadata, cache, output = self.metadata[which], self.caches[which], torch.empty_like(self.query)
        with set_forward_context({LAYER: metadata}, self.configs[which]):
            impl = self.impls[which]
            impl.do_kv_cache_update(self.layer, self.key, self.value, cache, metadata.slot_mapping)
            impl.forward(self.layer, self.query, self.key, self.value, cache, metadata, output)
        return output

    def plain(self) -> torch.Tensor:
        return self._run(0)

    def dca(self) -> torch.Tensor:
        return self._run(1)

    @torch.no_grad()
    def match(self, rows: int = 16) -> float:
        """The relative difference from the naive twin in float32, of the first request's last rows and some others."""
        drawn = torch.randint(
            self.queries, (2 * rows,), generator=torch.Generator("cuda").manual_seed(1), device="cuda"
        )
        chosen = torch.cat([torch.arange(max(self.queries - rows, 0), self.queries, device="cuda"), drawn]).unique()
        found = self.dca()[chosen]
        size = self.query.shape[-1]
        pages = self.caches[1][self.table[0].long()].transpose(0, 1).flatten(1, 2)[None, :, : self.length]
        keys, values = (half.float() for half in pages.split(size, dim=-1))
        at = self.at[chosen]
        inv_freq = (THETA ** -(torch.arange(0, size, 2) / size)).cuda()
        angle = (at % self.geometry.chunk_length - at).unsqueeze(-1) * inv_freq.double()
        query = self.query[chosen].float().transpose(0, 1)
        query = rotate(query, angle.cos().float(), angle.sin().float()).unsqueeze(0)
        rotations, everywhere = (
            relation_rotations(at, inv_freq, self.geometry),
            torch.arange(self.length, device="cuda")[None],
        )
        expected, _ = naive_dual_chunk_attention(
            query, keys, values, rotations, at[None], everywhere, self.geometry.chunk_length, size**-0.5
        )
        expected = expected[0].transpose(0, 1)
        return float((expected - found).norm() / expected.norm())


def _config(shape, length: int, dca: bool):
    heads, groups, size, geometry = shape
    changes = {"num_attention_heads": heads, "num_key_value_heads": groups, "head_dim": size}
    changes |= {"hidden_size": heads * size, "max_position_embeddings": length}
    if dca:
        changes[CONFIG_KEY] = config_from_geometry(geometry)
    options = {"dtype": "bfloat16", "skip_tokenizer_init": True, "max_model_len": length, "block_size": PAGE}
    return EngineArgs(model=str(MODEL), hf_overrides=changes, **options).create_engine_config()


def _rotate_like_a_layer(model_config, size: int) -> None:
    """Makes the rotary module that the layers of a model would have made, where the backend looks for it."""
    held = model_config.hf_config
    longest, parameters = held.max_position_embeddings, held.rope_parameters
    get_rope(size, max_position=longest, rope_parameters=parameters, dtype=model_config.dtype)


def _dca_backend():
    from dca_hub.vllm_plugin.cuda.backend import DualChunkFlashBackend

    return DualChunkFlashBackend


if __name__ == "__main__":
    main()
