"""Speed and memory of a whole model on a CPU, with Dual Chunk Attention and plain, on the same weights in one process.

Reading is one call over the text, and reading as `ask` does it, in pieces into a cache. Decoding goes on from there, a
token at a time. Plain and DCA take turns, and their medians are compared: what else the machine does slows both. A
second question over the same text reads only itself. `--memory` gives the peak memory of `ask` over a text instead.
Ends with a line of JSON for each measurement, which names the processor.

    python benchmarks/cpu_model.py SmolLM2-135M-Instruct --tokens 8192
    python benchmarks/cpu_model.py demo --tokens 16384 --memory
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dca_hub import processor

processor.settle_threads()

import torch  # noqa: E402  (its threads are settled above)

from dca_hub.generation import PromptCache  # noqa: E402
from dca_hub.loading import Loaded, load  # noqa: E402

QUESTION = 24  # tokens of a question


def in_turns(functions: dict[str, Callable], repeats: int) -> dict[str, float]:
    """The median seconds of each, after one round that only warms up."""
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + 1):
        for name, function in functions.items():
            begun = time.perf_counter()
            function()
            if repeat:
                taken[name].append(time.perf_counter() - begun)
    return {name: statistics.median(times) for name, times in taken.items()}


@torch.inference_mode()
def read_whole(model, text: list[int]) -> None:
    model(input_ids=torch.tensor([text]), use_cache=False, logits_to_keep=1)


def read_in_pieces(cache: PromptCache, text: list[int]) -> None:
    cache.clear()
    for _ in cache.read([*text, 0]):
        pass


def go_on(cache: PromptCache, length: int, tokens: list[int], each: int) -> None:
    """Tokens after the first `length`, so many a call."""
    cache.keep(length)
    for start in range(0, len(tokens), each):
        cache.forward(tokens[start : start + each])


def measure(loaded: Loaded, tokens: int, written: int, repeats: int) -> list[dict]:
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(10, loaded.base.config.vocab_size - 10, (tokens + written + QUESTION,), generator=draw).tolist()
    text, answer, question = ids[:tokens], ids[tokens : tokens + written], ids[tokens + written :]
    models = {"plain": loaded.base, "dca": loaded.model}
    caches = {name: PromptCache(model) for name, model in models.items()}
    each = lambda over, function, *given: {
        name: lambda thing=thing: function(thing, *given) for name, thing in over.items()
    }
    rounds = (
        ("read in one call", tokens, each(models, read_whole, text), repeats),
        ("read in pieces", tokens, each(caches, read_in_pieces, text), repeats),
        ("decode", written, each(caches, go_on, tokens, answer, 1), 3 * repeats),
        ("read a second question", QUESTION, each(caches, go_on, tokens, question, QUESTION), 3 * repeats),
    )
    rows = []
    for what, count, functions, times in rounds:
        seconds = in_turns(functions, times)
        rates = {f"{name}_tokens_per_second": count / spent for name, spent in seconds.items()}
        rows.append({"what": what, "tokens": tokens, **rates, "dca_seconds": seconds["dca"]})
        rows[-1]["speed"] = seconds["plain"] / seconds["dca"]
        plain, dca = rates.values()
        print(f"{what:<24} plain {plain:9,.1f} tokens/s, DCA {dca:9,.1f}, speed {rows[-1]['speed']:.2f}", flush=True)
    sooner = rows[1]["dca_seconds"] / rows[3]["dca_seconds"]
    print(f"a second question begins {sooner:.0f} times sooner than the first", flush=True)
    rows[3]["times_sooner"] = sooner
    return rows


def peak_memory(model: str, tokens: int, dtype: str | None) -> dict:
    """Of `ask` over a text of about so many tokens, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file, lines = Path(folder) / "text.txt", tokens // 18
        file.write_text("\n".join(f"Line {n}: the river runs by the old mill." for n in range(lines)))
        command = [sys.executable, "-m", "dca_hub", "ask", model, "--pdf", str(file), "--max-new-tokens", "16"]
        command += ["--json", "What runs by the mill?", *(["--dtype", dtype] if dtype else [])]
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    read = json.loads(said)["stats"]["prompt_tokens"]
    print(f"`ask` over {read:,} tokens takes {peak / 1e9:.2f} GB at most", flush=True)
    return {"what": "peak memory of ask", "tokens": read, "bytes": peak}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a catalogue name, a Hub id or a folder")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--written", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", help="float32 or bfloat16 (default: the one that is fast here)")
    parser.add_argument("--memory", action="store_true", help="only the peak memory of `ask`")
    args = parser.parse_args()
    on = {
        "model": Path(args.model).name,
        "processor": processor.name(),
        "instruction_sets": processor.instruction_sets(),
        "threads": torch.get_num_threads(),
    }
    if args.memory:
        rows = [peak_memory(args.model, args.tokens, args.dtype)]
    else:
        loaded = load(args.model, device="cpu", dtype=args.dtype)
        on["runs_on"] = loaded.runs_on
        print(f"{on['processor']} ({', '.join(on['instruction_sets'])}), {on['threads']} threads, {loaded.runs_on}")
        rows = measure(loaded, args.tokens, args.written, args.repeats)
    for row in rows:
        print(json.dumps(on | row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
