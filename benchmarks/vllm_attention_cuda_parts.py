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
    """The median time of each part of a layer, in ms; "cross" has the copying that is also told apart, as "gather"."""
    impl, metadata, cache = case.impls[1], case.metadata[1], case.caches[1]
    layout, kernels, output = metadata.layout, metadata.kernels, torch.empty_like(case.query)
    rotating = (layout.rows, layout.cross_rows, metadata.table, metadata.geometry)
    pages, count = impl._cache(cache), len(layout.rows.positions)
    rotated = kernels.rotate_queries(case.query, *rotating)
    intra_query, cross_query = (rotated[:count], rotated[count:]) if layout.cross else (rotated, None)

    def write():
        with set_forward_context({LAYER: metadata}, case.configs[1]):
            impl.do_kv_cache_update(case.layer, case.key, case.value, cache, metadata.slot_mapping)

    runs = {
        "plain": case.plain,
        "DCA": case.dca,
        "write keys": write,
        "rotate queries": lambda: kernels.rotate_queries(case.query, *rotating),
        "intra": lambda: impl._attend(intra_query, pages, layout.intra, causal=True),
    }
    intra, intra_lse = runs["intra"]()
    cross, cross_lse = intra[count:], intra_lse[:, count:]
    for call in layout.cross:
        if call.copied is not None:
            copy = impl._copy(intra.dtype)
            runs["gather"] = lambda call=call, copy=copy: kernels.gather(pages, call.copied.pages, copy)
    if layout.cross:
        runs["cross"] = lambda: impl._attend_cross(cross_query, pages, layout.cross, kernels)
        cross, cross_lse = runs["cross"]()
    runs["merge"] = lambda: kernels.merge(output, intra[:count], intra_lse[:, :count], cross, cross_lse, layout.rows)
    return {part: median_ms(run, repeat) for part, run in runs.items()}


if __name__ == "__main__":
    main()
