"""Where a layer's time goes on a GPU, part by part, for the cases of `vllm_attention_cuda.py`.

`python benchmarks/vllm_attention_cuda_parts.py` in an environment with vLLM for CUDA.
"""

import argparse
import sys
from pathlib import Path

import torch
from vllm.forward_context import set_forward_context

sys.path.insert(0, str(Path(__file__).resolve().parent))

from vllm_attention_cuda import LAYER, Case, cases, median_ms, prepare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[32768, 131072])
    parser.add_argument("--repeat", type=int, default=10)
    args = parser.parse_args()
    prepare()
    print(f"{torch.cuda.get_device_name()}, bfloat16; ms, of which launching from Python is a part")
    for name, shape, tokens, requests, queries in cases(args.tokens):
        times = parts(Case(shape, tokens, requests, queries), args.repeat)
        told = ", ".join(f"{part} {time:.4g}" for part, time in times.items())
        print(f"{name}, {requests} x {tokens} tokens, {queries} queries each: {told}", flush=True)


def parts(case: Case, repeat: int) -> dict[str, float]:
    """The median time of each part of a layer, in ms; "far" has the copying that is also told apart, as "gather"."""
    impl, metadata, cache = case.impls[1], case.metadata[1], case.caches[1]
    layout, kernels, output = metadata.layout, metadata.kernels, torch.empty_like(case.query)
    turning = (layout.rows, layout.far_rows, metadata.table, metadata.geometry)
    pages, count = impl._cache(cache), len(layout.rows.positions)
    turned = kernels.turn_queries(case.query, *turning)
    near_query, far_query = (turned[:count], turned[count:]) if layout.far else (turned, None)

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
    near, near_lse = runs["near"]()
    far, far_lse = near[count:], near_lse[:, count:]
    for call in layout.far:
        if call.gathered is not None:
            copy = impl._copy(near.dtype)
            runs["gather"] = lambda call=call, copy=copy: kernels.gather(pages, call.gathered.pages, copy)
    if layout.far:
        runs["far"] = lambda: impl._attend_far(far_query, pages, layout.far, kernels)
        far, far_lse = runs["far"]()
    runs["merge"] = lambda: kernels.merge(output, near[:count], near_lse[:, :count], far, far_lse, layout.rows)
    return {part: median_ms(run, repeat) for part, run in runs.items()}


if __name__ == "__main__":
    main()
