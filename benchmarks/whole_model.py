"""Speed of a whole DCA model against the plain one, with random weights of the same shape, in one run on one GPU.

Both models hold the same weights. Prefill is one call over the text, from tokens to the last logits. Decoding goes on
from there, a token at a time, with each kind of cache; `static` is compiled as `generate()` compiles it. Beside each
time stands the least that it could take: to read the weights and the filled cache once, at the rate of a copy. Ends
with a line of JSON for each case.

    python benchmarks/whole_model.py --lengths 16384 65536 131072
    python benchmarks/whole_model.py --layers 32 --lengths 16384 --caches growing
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, StaticCache

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from attention import copy_rate, processor

from dca_hub.modeling.configuration_dca_llama import DualChunkLlamaConfig
from dca_hub.modeling.dual_chunk_cache import GrowingCache
from dca_hub.modeling.modeling_dca_llama import DualChunkLlamaForCausalLM

# Llama 3 8B.
SHAPE = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "max_position_embeddings": 1 << 20,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
}
DCA = {"chunk_size": 6144, "local_size": 1024, "original_max_position_embeddings": 8192}


def models(layers: int, device: str) -> dict[str, torch.nn.Module]:
    """The plain model and the DCA model, with the same weights."""
    found = {}
    torch.manual_seed(0)
    with torch.device(device):
        config = LlamaConfig(**SHAPE, num_hidden_layers=layers, dtype="bfloat16", attn_implementation="sdpa")
        found["plain"] = LlamaForCausalLM(config).to(torch.bfloat16)
    config = DualChunkLlamaConfig(**SHAPE, num_hidden_layers=layers, dtype="bfloat16", dual_chunk_attention_config=DCA)
    with torch.device("meta"):
        found["dca"] = DualChunkLlamaForCausalLM(config)
    found["dca"].load_state_dict(found["plain"].state_dict(), assign=True)
    # What no checkpoint holds was made on the meta device.
    found["dca"].model.rotary_emb.inner = found["plain"].model.rotary_emb
    return {name: model.eval() for name, model in found.items()}


def median(times: list[float]) -> float:
    return statistics.median(times)


def timed(function: Callable) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    function()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def new_cache(kind: str, model, length: int):
    if kind == "static":
        return StaticCache(config=model.config, max_cache_len=length)
    return (GrowingCache if kind == "growing" else DynamicCache)(config=model.config)


def decoding(model, kind: str, ids: torch.Tensor, tokens: int) -> dict:
    """The median seconds of a token after `ids`, and the first ones' seconds, in which a compiled model is compiled."""
    name = "cache" if "cache" in model.forward.__code__.co_varnames else "past_key_values"
    cache = new_cache(kind, model, ids.shape[1] + tokens + 8)
    piece = 16384
    for start in range(0, ids.shape[1], piece):
        logits = model(ids[:, start : start + piece], **{name: cache}, use_cache=True, logits_to_keep=1).logits
    step = torch.compile(model, mode="reduce-overhead", fullgraph=True) if kind == "static" else model
    times = []
    for _ in range(tokens):
        token = logits[:, -1:].argmax(-1)
        times.append(timed(lambda: step(token, **{name: cache}, use_cache=True)))  # noqa: B023
        logits = model.lm_head(torch.zeros(1, 1, model.config.hidden_size, device=ids.device, dtype=torch.bfloat16))
    return {"token_seconds": median(times[4:]), "first_tokens_seconds": sum(times[:4])}


@torch.inference_mode()
def measure(found: dict, length: int, args, rate: float) -> list[dict]:
    rows = []
    ids = torch.randint(0, SHAPE["vocab_size"], (1, length), device=args.device)
    weights = sum(p.numel() * p.element_size() for p in found["plain"].parameters())
    weights -= found["plain"].model.embed_tokens.weight.numel() * 2  # of which a token reads one row
    keys = 2 * 2 * args.layers * length * SHAPE["num_key_value_heads"] * SHAPE["head_dim"]
    row = {"what": "prefill", "tokens": length}
    for name, model in found.items():
        run = lambda: model(ids, use_cache=False, logits_to_keep=1)  # noqa: B023
        first = timed(run)
        times = [timed(run) for _ in range(args.repeats)]
        row |= {f"{name}_seconds": median(times), f"{name}_first_seconds": first}
    rows.append(row)
    for kind in args.caches:
        row = {"what": f"token, {kind} cache", "tokens": length, "floor_seconds": (weights + keys) / rate}
        for name, model in found.items():
            torch.compiler.reset()
            taken = decoding(model, kind, ids, args.new_tokens)
            row |= {f"{name}_seconds": taken["token_seconds"], f"{name}_first_seconds": taken["first_tokens_seconds"]}
            torch.cuda.empty_cache()
        rows.append(row)
    for row in rows:
        row |= {
            "layers": args.layers,
            "card": processor(args.device),
            "speed": row["plain_seconds"] / row["dca_seconds"],
        }
        floor = f", at least {row['floor_seconds'] * 1e3:.2f}" if "floor_seconds" in row else ""
        print(
            f"{row['what']:<22} {length:>7} plain {row['plain_seconds'] * 1e3:9.2f} ms, DCA "
            f"{row['dca_seconds'] * 1e3:9.2f} ms, speed {row['speed']:.2f}{floor} "
            f"(first: {row['plain_first_seconds']:.2f} s, {row['dca_first_seconds']:.2f} s)",
            flush=True,
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[16384, 65536])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--caches", nargs="*", default=["dynamic", "growing", "static"])
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    rate = copy_rate(args.device)
    print(
        f"{processor(args.device)}, torch {torch.__version__}, {args.layers} layers, {rate / 1e12:.2f} TB/s by a copy"
    )
    found, rows = models(args.layers, args.device), []
    for length in args.lengths:
        rows += measure(found, length, args, rate)
    for row in rows:
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
