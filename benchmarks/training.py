"""Speed of fine-tuning a DCA model against the plain one, with random weights of Llama 3 8B, in one run on one GPU.

LoRA adapters of rank 16 on every linear layer, gradient checkpointing and AdamW, as `dca-hub finetune --lora 16`
trains; one row of tokens a step, from tokens to the updated adapters. Both models hold the same weights. Needs peft.
Ends with a line of JSON for each case.

    python benchmarks/training.py --lengths 16384
    python benchmarks/training.py --layers 2 --lengths 16384 65536
"""

import argparse
import json
import sys

import torch
from attention import processor
from peft import LoraConfig, get_peft_model
from whole_model import SHAPE, median, models, timed


def trainable(model: torch.nn.Module) -> torch.nn.Module:
    """The model with adapters, checkpointed."""
    model.config.use_cache = False
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, lora).train()


def measure(model: torch.nn.Module, ids: torch.Tensor, steps: int) -> dict[str, float]:
    """The median seconds of a step after the first two, the last loss and the most memory that a step took."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    losses = []

    def step() -> None:
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())

    torch.cuda.reset_peak_memory_stats()
    seconds = median([timed(step) for _ in range(steps + 2)][2:])
    return {"seconds": seconds, "loss": losses[-1].item(), "peak_gib": torch.cuda.max_memory_allocated() / 2**30}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[16384])
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5, help="timed steps (default: 5; two more warm up)")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("this needs a CUDA device")
    found = {name: trainable(model) for name, model in models(args.layers, "cuda").items()}
    rows = []
    for length in args.lengths:
        ids = torch.randint(0, SHAPE["vocab_size"], (1, length), device="cuda")
        row = {"what": "LoRA step", "tokens": length, "layers": args.layers, "card": processor("cuda")}
        for name, model in found.items():
            taken = measure(model, ids, args.steps)
            row |= {f"{name}_{key}": value for key, value in taken.items()}
            row[f"{name}_tokens_per_second"] = length / taken["seconds"]
        row["speed"] = row["plain_seconds"] / row["dca_seconds"]
        rows.append(row)
        print(
            f"{length:>7} tokens: plain {row['plain_tokens_per_second']:8,.0f} tokens/s, "
            f"DCA {row['dca_tokens_per_second']:8,.0f} tokens/s, speed {row['speed']:.2f} "
            f"({row['plain_peak_gib']:.1f} and {row['dca_peak_gib']:.1f} GiB)",
            flush=True,
        )
    for row in rows:
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
