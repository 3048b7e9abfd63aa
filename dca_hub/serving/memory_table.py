"""What the KV cache of long requests takes, by model and context, and how many requests GPUs hold at once.

`python -m dca_hub.serving.memory_table [--requests] [NAME ...]` prints the table of docs/serving.md, or with --requests
that of docs/deployment.md, for the models there or for others.
"""

import sys

from dca_hub import catalogue
from dca_hub.catalogue import Entry
from dca_hub.memory import GIB
from dca_hub.tables import Table

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
GPUS = (1, 2, 4, 8)


def table(entries: list[Entry]) -> str:
    """A Markdown table: GiB of bfloat16 weights, of cache for one request of each length, and how many tokens of cache
    fit beside the weights on one GPU of 80 GB."""
    heads = ["model", "weights", *(f"{context // 1024:,}k" for context in CONTEXTS), "tokens on one GPU of 80 GB"]
    rows = []
    for entry in entries:
        weights, per_token = entry.weights_bytes("bfloat16"), entry.cache_bytes_per_token("bfloat16")
        tokens = cache_tokens(entry, 1)
        fits = f"{tokens // 1000:,}k" if tokens else "none: share it"
        cells = [entry.name, _gib(weights), *(_gib(per_token * context) for context in CONTEXTS), fits]
        rows.append(cells)
    return Table(heads, rows).markdown()


def requests_table(entries: list[Entry]) -> str:
    """A Markdown table: on how many GPUs of 80 GB each model is served, as few as hold its weights and the longest
    request of the table that it reaches, at most 8; and how many requests of each length their cache holds at once, in
    bfloat16."""
    heads = ["model", "GPUs of 80 GB", "tokens of cache", *(f"{context // 1024:,}k" for context in CONTEXTS)]
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for entry in entries:
        longest = max(8 * entry.trained, entry.longest_reach.tokens if entry.longest_reach else 0)
        reach = [context for context in CONTEXTS if context <= longest]
        gpus = next((n for n in GPUS if cache_tokens(entry, n) >= reach[-1]), GPUS[-1])
        tokens = cache_tokens(entry, gpus)
        held = [str(tokens // context) if context in reach else "beyond" for context in CONTEXTS]
        lines.append(f"| {' | '.join([entry.name, str(gpus), f'{tokens // 1000:,}k', *held])} |")
    return "\n".join(lines)


def cache_tokens(entry: Entry, gpus: int) -> int:
    """Tokens of bfloat16 cache beside the weights on so many GPUs in tensor parallel, 0 if the weights do not fit."""
    left = gpus * GPU_BYTES * SHARE - entry.weights_bytes("bfloat16") * WORKING
    return max(0, int(left / entry.cache_bytes_per_token("bfloat16")))


def _gib(count: int) -> str:
    return f"{count / GIB:,.1f}"


if __name__ == "__main__":
    asked = [word for word in sys.argv[1:] if word != "--requests"]
    made = requests_table if "--requests" in sys.argv else table
    print(made([catalogue.find(name) for name in asked or NAMES]))
