"""The throughput of vLLM's whole engine, a plain model against the same with Dual Chunk Attention, in turns.

`python benchmarks/vllm_throughput.py` in an environment with vLLM for CUDA, `--cpu` in one with its CPU build. The
model has the shapes of Llama 3 8B, on a CPU those of SmolLM2-135M; its weights are random (vLLM's
`load_format="dummy"`), and the plain one is taken beyond the length it could read: what is compared is speed. Each
engine runs in a process of its own, `--rounds` times; the first request of each case only warms up, and of the rounds
the fastest counts.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from attention import processor
from shapes import SHAPES as OF_MODELS

MODEL = Path(__file__).resolve().parent.parent / "dca_hub" / "demo" / "model"
SHAPES = {
    "cuda": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 32000,
    },
    "cpu": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "vocab_size": 49152,
    },
}
WINDOW = 8192  # tokens, of both
# Requests at once, tokens of each prompt, tokens written.
CASES = {
    "cuda": ((1, 32768, 128), (8, 32768, 128), (1, 130000, 128), (32, 1024, 128)),
    "cpu": ((1, 2048, 48), (1, 8192, 48), (4, 8192, 48)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="vLLM's CPU build and a model that it can read")
    llamas = [name for name, config in OF_MODELS.items() if config.model_type == "llama"]
    parser.add_argument("--shape", choices=llamas, help="of the model (default: see above)")
    parser.add_argument("--tensor-parallel", type=int, default=1, metavar="N")
    parser.add_argument("--case", type=_case, action="append", metavar="RxPxW", help="requests, prompt, written tokens")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--layers", type=int, help="of the model (default: the shape's own)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--eager", action="store_true", help="without compilation and CUDA graphs")
    parser.add_argument("--run", choices=("plain", "DCA"), help="one engine, in this process; prints its numbers")
    args = parser.parse_args()
    if args.run:
        run(args)
        return
    found = {"plain": [], "DCA": []}
    for _ in range(args.rounds):
        for which, rounds in found.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--run", which]
            finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            # vLLM writes there, too.
            rounds.append(json.loads(next(line for line in finished.stdout.splitlines() if line.startswith("[["))))
    best = {which: [tuple(map(max, zip(*case))) for case in zip(*rounds)] for which, rounds in found.items()}
    print(f"{processor('cpu' if args.cpu else 'cuda')}, {args.dtype}")
    print(f"{'requests':>8} {'prompt':>8} {'written':>8} {'':>9} {'plain':>10} {'DCA':>10} {'DCA/plain':>10}")
    for (requests, prompt, written), plain, dca in zip(_cases(args), best["plain"], best["DCA"]):
        for name, a, b in zip(("prefill/s", "written/s"), plain, dca):
            print(f"{requests:8} {prompt:8} {written:8} {name:>9} {a:10,.1f} {b:10,.1f} {b / a:10.3f}")


def _case(text: str) -> tuple[int, ...]:
    requests, prompt, written = map(int, text.split("x"))
    return requests, prompt, written


def _cases(args: argparse.Namespace) -> tuple:
    return tuple(args.case or _of(args, CASES))


def _shape(args: argparse.Namespace) -> dict[str, int]:
    if not args.shape:
        return _of(args, SHAPES)
    held = OF_MODELS[args.shape]
    return {name: getattr(held, name) for name in SHAPES["cuda"]}


def _sizes(args: argparse.Namespace) -> dict[str, int]:
    """The authors' rule."""
    window = OF_MODELS[args.shape].max_position_embeddings if args.shape else WINDOW
    return {"chunk_size": 3 * window // 4, "local_size": window // 8, "original_max_position_embeddings": window}


def _of(args: argparse.Namespace, table: dict[str, Any]) -> Any:
    return table["cpu" if args.cpu else "cuda"]


def run(args: argparse.Namespace) -> None:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")  # GiB: all cases fit, and little memory need be free
    from vllm import LLM, SamplingParams

    cases = _cases(args)
    longest = max(prompt + written for _, prompt, written in cases)
    changes = {**_shape(args), "max_position_embeddings": longest}
    if args.layers:
        changes["num_hidden_layers"] = args.layers
    if args.run == "DCA":
        changes["dual_chunk_attention_config"] = _sizes(args)
    llm = LLM(
        model=str(MODEL),
        load_format="dummy",
        hf_overrides=changes,
        dtype=args.dtype,
        tensor_parallel_size=args.tensor_parallel,
        skip_tokenizer_init=True,
        block_size=128,
        max_model_len=longest,
        max_num_batched_tokens=8192,
        max_num_seqs=max(requests for requests, _, _ in cases),
        enable_prefix_caching=False,
        enforce_eager=args.eager,
        gpu_memory_utilization=0.3 if args.cpu else 0.9,
        compilation_config={} if args.cpu else {"cudagraph_capture_sizes": [1, 2, 4, 8, 16, 32]},
    )

    def seconds(requests: int, prompt: int, written: int) -> float:
        sampling = SamplingParams(max_tokens=written, temperature=0, ignore_eos=True, detokenize=False)
        prompts = [{"prompt_token_ids": [(i * 31 + n) % 1000 + 5 for i in range(prompt)]} for n in range(requests)]
        started = time.perf_counter()
        llm.generate(prompts, sampling, use_tqdm=False)
        return time.perf_counter() - started

    numbers = []
    for requests, prompt, written in cases:
        seconds(1, min(prompt, 9000), 4)
        prefill = seconds(requests, prompt, 1)
        whole = seconds(requests, prompt, written)
        numbers.append((requests * prompt / prefill, requests * (written - 1) / max(whole - prefill, 1e-9)))
        print(f"{args.run} {requests} x {prompt}: {numbers[-1]}", file=sys.stderr, flush=True)
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
