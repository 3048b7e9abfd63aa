"""The longest text that one GPU holds with DCA: prefill in pieces, then 64 tokens of decoding.

What memory a text of N tokens takes shows in its last piece: with a cache of N - piece tokens in place, whatever they
are, the last piece and the decoding have the peak that the whole reading has. So the longest N is found by bisection
over last pieces, and then read once from the first token on, with the time of it. Weights are random: they take what a
checkpoint's take. `--gib 80` leaves no more of a larger card than an 80 GB one has.

    python benchmarks/reach.py --shape llama-2-7b --gib 80
    python benchmarks/reach.py --shape llama-3-8b --no-whole          the bisection alone, in a minute
    python benchmarks/reach.py --shape qwen2.5-7b --tokens 1048576 --sparse 0.1

Of a text that is read whole it prints the time at each power of two from 131,072 tokens on. With random weights every
key gets about the same attention, so that `--sparse SHARE` keeps about SHARE of the blocks; with a trained model 0.9
keeps some 0.15. `--plain` reads with all in one chunk: plain attention by the same kernels. `--offload` keeps
the cache in the host's memory. Ends with a line of JSON for each case.
"""

import argparse
import json
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from attention import processor
from shapes import SHAPES

from dca_hub.compat import with_cache
from dca_hub.modeling.configuration_dca_llama import DualChunkLlamaConfig
from dca_hub.modeling.configuration_dca_qwen2 import DualChunkQwen2Config
from dca_hub.modeling.dual_chunk_cache import GrowingCache, GrowingLayer
from dca_hub.modeling.dual_chunk_config import CONFIG_KEY, config_from_geometry
from dca_hub.modeling.modeling_dca_llama import DualChunkLlamaForCausalLM
from dca_hub.modeling.modeling_dca_qwen2 import DualChunkQwen2ForCausalLM
from dca_hub.sizes import Asked, sized

CLASSES = {
    "llama": (DualChunkLlamaConfig, DualChunkLlamaForCausalLM),
    "qwen2": (DualChunkQwen2Config, DualChunkQwen2ForCausalLM),
}
DECODED = 64
FIRST_MARK = 131_072  # tokens at which a reading's time is first noted
STEP = 1024  # tokens that the bisection stops at


def build(shape: str, layers: int | None, sparse: float | None, one_chunk: bool, device: str) -> PreTrainedModel:
    """A DCA model of a shape with random weights, in bfloat16; `one_chunk` gives it chunks longer than any text."""
    plain = SHAPES[shape]
    config_class, model_class = CLASSES[plain.model_type]
    trained = 1 << 22 if one_chunk else plain.max_position_embeddings
    said = {"max_position_embeddings": trained, "model_type": plain.model_type}
    settings = config_from_geometry(sized(said, None, Asked()).geometry)
    kept = {k: v for k, v in plain.to_dict().items() if k not in ("model_type", "layer_types")}
    kept |= {"num_hidden_layers": layers} if layers else {}
    settings |= {"sparse": {"method": "xattention", "share": sparse}} if sparse else {}
    config = config_class(**{**kept, "dtype": "bfloat16", CONFIG_KEY: settings})
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            return model_class(config).eval()
    finally:
        torch.set_default_dtype(before)


class Reading:
    """A text of N tokens in a cache that has room for it and for what is decoded."""

    def __init__(self, model: PreTrainedModel, tokens: int, args: argparse.Namespace, bits: int):
        self.model, self.tokens, self.piece, self.decoded = model, tokens, args.piece, args.decode
        self.cache = GrowingCache(config=model.config, bits=bits, offloading=args.offload)
        self.cache.reserve(tokens + self.decoded)
        self.marks: dict[int, float] = {}  # seconds from the beginning on, by tokens
        self.density: float | None = None  # of the blocks of the last piece, where they were chosen

    def pretend(self, tokens: int) -> None:
        """Puts so many keys and values of nothing into the cache."""
        config = self.model.config
        size = (1, config.num_key_value_heads, 1, config.hidden_size // config.num_attention_heads)
        new = torch.zeros(size, dtype=torch.bfloat16, device=self.model.device)
        for index in range(config.num_hidden_layers):
            self.cache.update(new, new, index)
            layer = self.cache.layers[index]
            assert isinstance(layer, GrowingLayer)
            assert layer._held is not None
            for held in layer._held:
                held.zero_()
            layer.keys, layer.values = (held[..., :tokens, :] for held in layer._held)

    def read(self, tokens: int) -> torch.Tensor:
        """Reads so many tokens; gives the logits after the last."""
        started, done, mark = time.perf_counter(), 0, FIRST_MARK
        while done < tokens:
            now = min(self.piece, tokens - done)
            ids = torch.randint(0, self.model.config.vocab_size, (1, now), device=self.model.device)
            is_last = done + now == tokens
            with self.model.watch_sparse_attention() if is_last else nullcontext() as watch:
                logits = self.model(ids, **with_cache(self.model, self.cache), use_cache=True, logits_to_keep=1).logits
            if watch is not None and watch.blocks:
                self.density = watch.density
            done += now
            if done >= mark:
                torch.cuda.synchronize()
                self.marks[done] = time.perf_counter() - started
                print(f"  {done:,} tokens after {self.marks[done]:.1f} s", flush=True)
                mark *= 2
        return logits

    def decode(self, logits: torch.Tensor) -> None:
        for _ in range(self.decoded):
            token = logits[:, -1:].argmax(-1)
            logits = self.model(token, **with_cache(self.model, self.cache), use_cache=True).logits


def clear() -> None:
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def fits(model: PreTrainedModel, tokens: int, args: argparse.Namespace, bits: int) -> bool:
    """Whether the last piece of a text of so many tokens, and decoding after it, find room."""
    clear()
    try:
        reading = Reading(model, tokens, args, bits)
        last = min(args.piece, tokens)
        if tokens > last:
            reading.pretend(tokens - last)
        reading.decode(reading.read(last))
        return True
    except torch.OutOfMemoryError:
        return False


def longest(model: PreTrainedModel, args: argparse.Namespace, bits: int) -> int:
    """The most tokens that fit, in steps of STEP."""
    low, high = 1, args.most // STEP + 1  # fits, does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(model, middle * STEP, args, bits) else (low, middle)
        print(f"  {low * STEP:,} tokens fit, {high * STEP:,} do not", flush=True)
    return low * STEP


def timed(function, *arguments):
    torch.cuda.synchronize()
    started = time.perf_counter()
    result = function(*arguments)
    torch.cuda.synchronize()
    return result, time.perf_counter() - started


def whole(model: PreTrainedModel, tokens: int, args: argparse.Namespace, bits: int) -> dict[str, Any]:
    """Reads a text from its first token on, and decodes."""
    clear()
    reading = Reading(model, tokens, args, bits)
    logits, prefill = timed(reading.read, tokens)
    _, decoding = timed(reading.decode, logits)
    peak = torch.cuda.max_memory_allocated() / 2**30
    row = {"prefill_seconds": prefill, "token_seconds": decoding / args.decode, "peak_gib": peak}
    return row | {"density": reading.density, "seconds_at": reading.marks}


@torch.inference_mode()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="llama-3-8b")
    parser.add_argument("--gib", type=float, help="memory to use, in GiB (default: all that the card has)")
    parser.add_argument("--bits", type=int, nargs="+", choices=(16, 8), default=[16])
    parser.add_argument("--piece", type=int, default=8192, help="tokens a forward pass (default: 8192)")
    parser.add_argument("--tokens", type=int, help="read this many, without a bisection")
    parser.add_argument("--most", type=int, default=2 << 20, help="tokens that the bisection starts below")
    parser.add_argument("--layers", type=int, help="of the model, to try things (default: the shape's own)")
    parser.add_argument("--no-whole", action="store_true", help="do not read the longest text from its first token on")
    parser.add_argument("--decode", type=int, default=DECODED, help=f"tokens to write after it (default: {DECODED})")
    parser.add_argument("--offload", action="store_true", help="keep the cache in the host's memory")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--sparse", type=float, metavar="SHARE", help="read it with block-sparse attention")
    way.add_argument("--plain", action="store_true", help="read it with plain attention")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("this needs a CUDA device")
    total = torch.cuda.get_device_properties(0).total_memory
    if args.gib:
        torch.cuda.set_per_process_memory_fraction(min(1.0, args.gib * 2**30 / total))
    if args.offload and not args.tokens:
        parser.error("--offload needs --tokens: what the card holds is not what bounds it")
    model, rows = build(args.shape, args.layers, args.sparse, args.plain, "cuda"), []
    for bits in args.bits:
        row = {"shape": args.shape, "card": processor("cuda"), "gib": args.gib or total / 2**30, "bits": bits}
        row |= {"piece": args.piece, "sparse": args.sparse, "plain": args.plain, "offload": args.offload}
        row |= {"layers": model.config.num_hidden_layers, "tokens": args.tokens or longest(model, args, bits)}
        print(f"{args.shape}, {bits} bits a cached number: {row['tokens']:,} tokens", flush=True)
        if not args.no_whole:
            row |= whole(model, row["tokens"], args, bits)
            seconds = row["prefill_seconds"], row["token_seconds"] * 1e3
            print(f"  read in {seconds[0]:.1f} s, then {seconds[1]:.1f} ms a token", flush=True)
        rows.append(row)
    for row in rows:
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
