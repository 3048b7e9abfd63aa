"""What the KV cache of long requests takes, by model and context.

`python -m dca_hub.serving.memory_table [NAME ...]` prints the table of docs/serving.md, or one of other models.
"""

import sys

from dca_hub import catalogue
from dca_hub.catalogue import Entry

GIB = 2**30
CONTEXTS = (32_768, 131_072, 262_144, 1_048_576)
NAMES = (
    "qwen2.5-0.5b-instruct",
    "llama-3.2-1b-instruct",
    "qwen2.5-7b-instruct-1m",
    "qwen3-8b",
    "llama-3.1-8b-instruct",
    "mistral-7b-instruct-v0.2",
    "llama-2-7b-chat",
    "qwen2.5-14b-instruct-1m",
    "qwen3-30b-a3b",
    "mixtral-8x7b-instruct",
    "llama-3-70b-instruct",
)
# Of a GPU of 80 GB: vLLM's default share, less a twentieth of the weights for activations.
GPU_BYTES, SHARE, WORKING = 80e9, 0.9, 1.05


def table(entries: list[Entry]) -> str:
    """A Markdown table: GiB of bfloat16 weights, of cache for one request of each length, and how many tokens of cache
    fit beside the weights on one GPU of 80 GB."""
    heads = ["model", "weights", *(f"{context // 1024:,}k" for context in CONTEXTS), "tokens on one GPU of 80 GB"]
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for entry in entries:
        weights, per_token = entry.weights_bytes("bfloat16"), entry.cache_bytes_per_token("bfloat16")
        left = GPU_BYTES * SHARE - weights * WORKING
        fits = f"{int(left / per_token) // 1000:,}k" if left > 0 else "none: share it"
        cells = [entry.name, _gib(weights), *(_gib(per_token * context) for context in CONTEXTS), fits]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _gib(count: int) -> str:
    return f"{count / GIB:,.1f}"


if __name__ == "__main__":
    print(table([catalogue.find(name) for name in sys.argv[1:] or NAMES]))
