"""The throughput of vLLM's whole engine on a GPU, a plain model against the same with Dual Chunk Attention.

`python benchmarks/vllm_throughput.py` in an environment with vLLM for CUDA. The model has the shapes of Llama 3 8B, its
weights are random (vLLM's `load_format="dummy"`), and the plain one is taken beyond the length it could read: what is
compared is speed. Each engine runs in a process of its own; the first round of each case only warms up.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

MODEL = Path(__file__).resolve().parent.parent / "dca_hub" / "demo" / "model"
SHAPE = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 32000,
}
DCA = {"chunk_size": 6144, "local_size": 1024, "original_max_position_embeddings": 8192}
# Requests at once, tokens of each prompt, tokens written.
CASES = ((1, 32768, 128), (8, 32768, 128), (1, 130000, 128), (32, 1024, 128))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--eager", action="store_true", help="without compilation and CUDA graphs")
    parser.add_argument("--run", choices=("plain", "DCA"), help="one engine, in this process; prints its numbers")
    args = parser.parse_args()
    if args.run:
        run(args.run == "DCA", args.layers, args.eager)
        return
    numbers = {}
    for which in ("plain", "DCA"):
        command = [sys.executable, __file__, "--run", which, "--layers", str(args.layers)]
        command += ["--eager"] if args.eager else []
        finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        numbers[which] = json.loads(finished.stdout.splitlines()[-1])
    print(f"{'requests':>8} {'prompt':>8} {'written':>8} {'':>9} {'plain':>10} {'DCA':>10} {'DCA/plain':>10}")
    for (requests, prompt, written), plain, dca in zip(CASES, numbers["plain"], numbers["DCA"]):
        for name, a, b in zip(("prefill/s", "written/s"), plain, dca):
            print(f"{requests:8} {prompt:8} {written:8} {name:>9} {a:10,.0f} {b:10,.0f} {b / a:10.3f}")


def run(dca: bool, layers: int, eager: bool) -> None:
    from vllm import LLM, SamplingParams

    longest = max(prompt + written for _, prompt, written in CASES)
    changes = {**SHAPE, "num_hidden_layers": layers, "max_position_embeddings": longest}
    if dca:
        changes["dual_chunk_attention_config"] = DCA
    llm = LLM(
        model=str(MODEL),
        load_format="dummy",
        hf_overrides=changes,
        dtype="bfloat16",
        skip_tokenizer_init=True,
        block_size=128,
        max_model_len=longest,
        max_num_batched_tokens=8192,
        max_num_seqs=32,
        enable_prefix_caching=False,
        enforce_eager=eager,
        compilation_config={"cudagraph_capture_sizes": [1, 2, 4, 8, 16, 32]},
    )

    def seconds(requests: int, prompt: int, written: int) -> float:
        sampling = SamplingParams(max_tokens=written, temperature=0, ignore_eos=True, detokenize=False)
        prompts = [{"prompt_token_ids": [(i * 31 + n) % 1000 + 5 for i in range(prompt)]} for n in range(requests)]
        started = time.perf_counter()
        llm.generate(prompts, sampling, use_tqdm=False)
        return time.perf_counter() - started

    numbers = []
    for requests, prompt, written in CASES:
        seconds(requests, min(prompt, 9000), 4)
        prefill = seconds(requests, prompt, 1)
        whole = seconds(requests, prompt, written)
        numbers.append((requests * prompt / prefill, requests * (written - 1) / max(whole - prefill, 1e-9)))
        print(f"{'DCA' if dca else 'plain'} {requests} x {prompt}: {numbers[-1]}", file=sys.stderr, flush=True)
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
