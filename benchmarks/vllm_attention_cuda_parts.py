"""Where a layer's time goes on a GPU, part by part, for the cases of `vllm_attention_cuda.py`.

The call that sees all its keys ("far") is also timed in two ways that would let FA3 use the GPU's copy engine at head
size 128: there it reads 176 keys at a time where nothing is masked, which no page is a multiple of, and 128 under a
causal mask. "far, causal" has that mask (and so is wrong: it misses the last keys); "far, as heads" hands queries on as
heads of a single one, which a causal mask leaves all keys (right, if queries were laid out so, which they are not).

`python benchmarks/vllm_attention_cuda_parts.py` in an environment with vLLM for CUDA.
"""

import argparse
import sys
from pathlib import Path

import torch
from vllm.forward_context import set_forward_context

sys.path.insert(0, str(Path(__file__).resolve().parent))

from vllm_attention_cuda import LAYER, Case, cases, median_ms

from dca_hub.serving.flash_layout import FlashSequences
from dca_hub.serving.hooks import install


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[32768, 131072])
    parser.add_argument("--repeat", type=int, default=10)
    args = parser.parse_args()
    install()
    print(f"{torch.cuda.get_device_name()}, bfloat16; ms, of which launching from Python is a part")
    for name, shape, tokens, requests, queries in cases(args.tokens):
        times = parts(Case(shape, tokens, requests, queries), args.repeat)
        told = ", ".join(f"{part} {time:.4g}" for part, time in times.items())
        print(f"{name}, {requests} x {tokens} tokens, {queries} queries each: {told}", flush=True)


def parts(case: Case, repeat: int) -> dict[str, float]:
    """The median time of each part of a layer, in ms."""
    impl, metadata, cache = case.impls[1], case.metadata[1], case.caches[1]
    layout, kernels, output = metadata.layout, metadata.kernels, torch.empty_like(case.query)
    turning = (layout.rows, layout.far_rows, metadata.table, metadata.geometry)
    pages, count = impl._cache(cache), len(layout.rows.positions)
    turned = kernels.turn_queries(case.query, *turning)
    near_query, far_query = (turned, None) if layout.far is None else (turned[:count], turned[count:])
    near, near_lse = impl._attend(near_query, pages, layout.near, causal=True)
    far, far_lse = (near[count:], near_lse[:, count:])

    def write():
        with set_forward_context({LAYER: metadata}, case.configs[1]):
            impl.do_kv_cache_update(case.layer, case.key, case.value, cache, metadata.slot_mapping)

    runs = {
        "plain": case.plain,
        "DCA": case.dca,
        "write keys": write,
        "turn queries": lambda: kernels.turn_queries(case.query, *turning),
        "near": lambda: impl._attend(near_query, pages, layout.near, causal=True),
    }
    if layout.far is not None:
        far, far_lse = impl._attend(far_query, pages, layout.far, causal=False)
        runs["far"] = lambda: impl._attend(far_query, pages, layout.far, causal=False)
        runs["far, causal"] = lambda: impl._attend(far_query, pages, layout.far, causal=True)
        heads = as_heads(far_query, layout.far, 256 if case.query.shape[1] == case.key.shape[1] else 128)
        runs["far, as heads"] = lambda: impl._attend(heads[0], pages, heads[1], causal=True)
    runs["merge"] = lambda: kernels.merge(output, near[:count], near_lse[:, :count], far, far_lse, layout.rows)
    return {part: median_ms(run, repeat) for part, run in runs.items()}


def as_heads(query: torch.Tensor, sequences: FlashSequences, block: int) -> tuple[torch.Tensor, FlashSequences]:
    """Blocks of queries [M, H, D] as heads of single queries [M / block, H * block, D], and what each of them sees."""
    count = len(query) // block
    starts = torch.arange(count + 1, device=query.device, dtype=torch.int32)
    owner = torch.searchsorted(sequences.starts, starts[:-1] * block, right=True) - 1
    held = (sequences.pages[owner], sequences.lengths[owner])
    # Left to choose, it would split these sequences as if there were but one.
    call = FlashSequences(starts, *held, 1, sequences.longest_key, splits=1)
    return query[: count * block].view(count, query.shape[1] * block, -1), call


if __name__ == "__main__":
    main()
