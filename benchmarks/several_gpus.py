"""A model on one GPU, spread over all by `device_map="auto"`, and shared by all in tensor parallel: times and tokens.

Each way runs in processes of its own, loads the same checkpoint by `dca_hub.loading.load`, and reads the same tokens
with DCA and plain: in pieces into a cache, then `--new-tokens` more, greedily. The median of `--repeats` readings
counts, after one that warms up. Beside the times stand the most memory that one GPU took, how many of the tokens equal
those of one GPU, one after the other, and how far the logits behind the text are from one GPU's, relative to their
spread. Without MODEL it is a shape with random weights, whose tokens are close to draws: rounding decides. What one GPU
cannot hold has `--ways parallel`, and is compared with the first way that is measured.

    python benchmarks/several_gpus.py --lengths 16384 65536
    python benchmarks/several_gpus.py --shape llama-2-7b --ways parallel --gib 80 --lengths 400000 900000 --repeats 1
    python benchmarks/several_gpus.py --model demo --dtype float32 --lengths 4096 --text README.md
    python benchmarks/several_gpus.py --model demo --device cpu --dtype float32 --lengths 1024       no GPU, to try it

Ends with a line of JSON for each case.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from attention import processor
from shapes import SHAPES, write_checkpoint

from dca_hub.evaluation.processes import join
from dca_hub.generation import PromptCache, Sampling
from dca_hub.loading import load

WAYS = ("one", "auto", "parallel")


class Measured:
    """What one process measures of one way, and prints where it is the first of them."""

    def __init__(self, args):
        self.args = args
        device = {"one": args.device, "auto": "auto", "parallel": "tensor-parallel"}[args.way]
        self.loaded = load(args.model, device=device, dtype=args.dtype, context=max(args.lengths))
        self.cuda = self.loaded.device.type == "cuda"
        if args.gib:
            for index in range(torch.cuda.device_count()):
                share = args.gib * 2**30 / torch.cuda.get_device_properties(index).total_memory
                torch.cuda.set_per_process_memory_fraction(min(1.0, share), index)

    def rows(self):
        for length in self.args.lengths:
            for name, model in (("DCA", self.loaded.model), ("plain", self.loaded.base)):
                yield {"way": self.args.way, "model": name, "tokens": length, **self.measure(model, length)}

    def measure(self, model, length: int) -> dict:
        ids = self.text(length)
        reading, token = [], []
        if self.cuda:
            for index in range(torch.cuda.device_count()):
                torch.cuda.reset_peak_memory_stats(index)
        for _ in range(self.args.repeats + 1):
            cache = PromptCache(model)
            reading.append(self.timed(lambda: [None for _ in cache.read(ids, self.args.piece)]))  # noqa: B023
            fork = cache.fork()
            token.append(self.timed(lambda: self.write(cache, ids)))  # noqa: B023
            logits = fork.forward(ids[-1:])[-1].float().cpu()
        most = [torch.cuda.max_memory_allocated(index) for index in range(torch.cuda.device_count())]
        return {
            "reading_seconds": statistics.median(reading[1:]),
            "token_seconds": statistics.median(token[1:]) / self.args.new_tokens,
            "most_gib": max(most, default=0) / 2**30,
            "written": self.written,
            "logits": logits.tolist(),
        }

    def text(self, length: int) -> list[int]:
        """Tokens of `--text`, again and again if it is short, or drawn ones."""
        if self.args.text is None:
            generator = torch.Generator().manual_seed(length)
            return torch.randint(10, 1000, (length,), generator=generator).tolist()
        ids = self.loaded.tokenizer(self.args.text.read_text(encoding="utf-8"), add_special_tokens=False).input_ids
        return (ids * (length // len(ids) + 1))[:length]

    def write(self, cache: PromptCache, ids: list[int]) -> None:
        new = self.args.new_tokens
        self.written = cache.generate(ids, Sampling(new), min_new_tokens=new)

    def timed(self, function) -> float:
        self.settle()
        begun = time.perf_counter()
        function()
        self.settle()
        return time.perf_counter() - begun

    def settle(self) -> None:
        if self.cuda:
            for index in range(torch.cuda.device_count()):
                torch.cuda.synchronize(index)


def work(args) -> int:
    rank = join(sharing=args.way == "parallel").rank
    for row in Measured(args).rows():
        if rank == 0:
            print("ROW " + json.dumps(row), flush=True)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return 0


def run(way: str, model: str, args) -> list[dict]:
    """The rows of one way, measured in processes of its own."""
    options = [str(Path(__file__).resolve()), "--way", way, "--model", model, "--dtype", args.dtype]
    options += ["--device", args.device, "--lengths", *map(str, args.lengths), "--new-tokens", str(args.new_tokens)]
    options += ["--piece", str(args.piece), "--repeats", str(args.repeats)]
    options += ["--text", str(args.text)] if args.text else []
    options += ["--gib", str(args.gib)] if args.gib else []
    start = [sys.executable]
    if way == "parallel":
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={args.processes}"]
    done = subprocess.run([*start, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{way} failed:\n{done.stderr[-3000:]}", flush=True)
    lines = [line.removeprefix("ROW ") for line in done.stdout.splitlines() if line.startswith("ROW ")]
    return [json.loads(line) for line in lines]


def compared(row: dict, alone: dict) -> dict:
    """The row with its tokens and logits compared with those of one GPU, in place of them."""
    equal = next((i for i, (a, b) in enumerate(zip(row["written"], alone["written"])) if a != b), len(alone["written"]))
    ours, theirs = torch.tensor(row["logits"]), torch.tensor(alone["logits"])
    kept = {key: value for key, value in row.items() if key not in ("written", "logits")}
    off = ((ours - theirs).abs().max() / theirs.std()).item()
    return {**kept, "written": len(row["written"]), "equal_tokens": equal, "logits_off": off}


def line(row: dict) -> str:
    return (
        f"{row['way']:<9} {row['model']:<6} {row['tokens']:>7,} tokens read in {row['reading_seconds']:7.2f} s, then "
        f"{row['token_seconds'] * 1e3:6.1f} ms a token, {row['most_gib']:5.1f} GiB on a GPU; {row['equal_tokens']} of "
        f"{row['written']} tokens equal, logits off by {row['logits_off']:.1e}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a catalogue name or a folder (default: --shape, with random weights)")
    parser.add_argument("--shape", choices=SHAPES, default="llama-3-8b")
    parser.add_argument("--lengths", type=int, nargs="+", default=[16384, 65536])
    parser.add_argument("--text", type=Path, metavar="FILE", help="read this text (default: drawn tokens)")
    parser.add_argument("--layers", type=int, help="of the shape (default: its own)")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--piece", type=int, default=8192, help="tokens a forward pass (default: 8192)")
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--processes", type=int, default=torch.cuda.device_count() or 2)
    parser.add_argument("--device", default="cuda", help="of the model that is not spread")
    parser.add_argument("--folder", type=Path, help="where the random weights go for the time (8B: 16 GB)")
    parser.add_argument("--gib", type=float, help="memory of each GPU to use (default: all that it has)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="(default: all)")
    parser.add_argument("--way", choices=WAYS, help="measure this one here and now")
    args = parser.parse_args()
    if args.way:
        return work(args)
    rows = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        if args.model is None:
            write_checkpoint(args.shape, Path(folder), args.layers, args.device)
        for way in args.ways:
            for row in run(way, args.model or folder, args):
                alone = next((x for x in rows if (x["model"], x["tokens"]) == (row["model"], row["tokens"])), row)
                rows.append(row)
                row["found"] = compared(row, alone)
                print(line(row["found"]), flush=True)
    for row in rows:
        where = processor(args.device)
        print(json.dumps({**row["found"], "shape": args.model or args.shape, "dtype": args.dtype, "on": where}))
    return 0 if len(rows) == 2 * len(args.ways) * len(args.lengths) else 1


if __name__ == "__main__":
    sys.exit(main())
