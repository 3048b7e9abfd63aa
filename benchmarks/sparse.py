"""Block-sparse attention: what choosing blocks and attending to them costs on a GPU, beside dense and plain attention;
and what a real model keeps of its attention and loses in perplexity.

    python benchmarks/sparse.py --lengths 131072 262144 524288 1048576
    python benchmarks/sparse.py --model MODEL --text FILE --lengths 65536 131072 --shares 0.8 0.9 0.95

The first times one layer of Qwen2.5 7B (28 query and 4 key/value heads of size 128, C = 24,576, w = 2,048; random
numbers, so the blocks are drawn at each density; choosing is timed apart). The last 8,192 queries of a text stand for
all: half their time, times the number of such slabs, is that of the layer. The second reads a text once for each share
and prints the blocks kept, the share of attention that they hold, the perplexity of the last tokens, and the seconds.
Ends with a line of JSON for each case.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from attention import processor
from whole_model import median, timed

from dca_hub.modeling.dual_chunk_attention import dual_chunk_attention
from dca_hub.modeling.dual_chunk_blocks import Slab
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.modeling.dual_chunk_rotation import relation_rotations
from dca_hub.modeling.dual_chunk_selection import Selection, SparseAttention
from dca_hub.modeling.dual_chunk_sparse import attend_blocks

GEOMETRY = DualChunkGeometry(24576, 2048, 32768)
HEADS, GROUPS, SIZE = 28, 4, 128
SLAB = 8192
SCORED = 1024


def median_seconds(function, repeats: int = 5) -> float:
    """The median seconds of a call, the first left out."""
    return median([timed(function) for _ in range(repeats + 1)][1:])


@torch.inference_mode()
def speed(length: int, densities: list[float]) -> list[dict]:
    """Seconds of the last slab of queries of a text, by plain, dense and sparse attention."""
    torch.manual_seed(0)
    options = {"device": "cuda", "dtype": torch.bfloat16}
    query = torch.randn(1, HEADS, SLAB, SIZE, **options)
    key, value = (torch.randn(1, GROUPS, length, SIZE, **options) for _ in range(2))
    # The last slab that lies in one chunk.
    stop = length // GEOMETRY.chunk_length * GEOMETRY.chunk_length or length
    slab = Slab(stop - SLAB, stop, GEOMETRY.chunk_length)
    key, value = key[:, :, :stop], value[:, :, :stop]
    positions = torch.arange(slab.start, stop, device="cuda")
    rotations = relation_rotations(positions, 1e6 ** -(torch.arange(0, SIZE, 2, device="cuda") / SIZE), GEOMETRY)
    scaling, whole = SIZE**-0.5, slice(0, SLAB)
    queries = {relation: rotations.forward(query, relation, whole) for relation, *_ in slab.ranges}
    plain = lambda: torch.nn.functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    dense = lambda: dual_chunk_attention(query, key, value, geometry=GEOMETRY, rotations=rotations)
    choose = Selection.of(query, key, rotations, GEOMETRY, scaling, SparseAttention(), 0)
    row = {"what": "one slab", "card": processor("cuda"), "keys": stop, "queries": SLAB}
    row |= {
        "plain_seconds": median_seconds(plain),
        "dense_seconds": median_seconds(dense),
        "choosing_seconds": median_seconds(lambda: choose(queries, slab)),
    }
    rows = []
    for density in densities:
        kept = torch.rand(1, HEADS, len(slab.blocks), slab.blocks.stop, device="cuda") < density
        kept[..., 0] = True
        kept &= slab.seen(kept.device)
        attending = median_seconds(lambda: attend_blocks(queries, key, value, slab, kept, scaling))  # noqa: B023
        gain = row["dense_seconds"] / (row["choosing_seconds"] + attending)
        rows.append({**row, "density": density, "attending_seconds": attending, "times_dense": gain})
        print(
            f"{stop:>9,} keys, {density:4.0%} of the blocks: choosing {row['choosing_seconds'] * 1e3:8.2f} ms, "
            f"attending {attending * 1e3:8.2f} ms; dense {row['dense_seconds'] * 1e3:8.2f} ms, plain "
            f"{row['plain_seconds'] * 1e3:8.2f} ms; {gain:.1f} times dense",
            flush=True,
        )
    return rows


@torch.inference_mode()
def quality(loaded, ids: list[int], length: int, shares: list[float | None], piece: int) -> list[dict]:
    """What a model keeps of its attention over one text, and the perplexity of the text's last tokens."""
    from dataclasses import asdict

    from dca_hub.evaluation.perplexity import nats
    from dca_hub.extending import extend

    rows = []
    for share in shares:
        sparse = None if share is None else SparseAttention(share=share, least_keys=0)
        model = extend(loaded.base, **asdict(loaded.geometry), sparse=sparse or False)
        started = time.perf_counter()
        with model.watch_sparse_attention() as watch:
            value = nats(model, ids, length, length, scored=SCORED, piece=piece)
        row = {"what": "text", "model": loaded.name, "on": loaded.runs_on, "tokens": length, "share_asked": share}
        row |= {"density": watch.density, "share": watch.share, "perplexity": float(torch.tensor(value / SCORED).exp())}
        rows.append({**row, "seconds": time.perf_counter() - started})
        print(
            f"{length:>9,} tokens, {'dense' if share is None else share}: {watch.density:.1%} of the blocks, "
            f"{watch.share:.2%} of the attention, perplexity {row['perplexity']:.3f}, {rows[-1]['seconds']:.1f} s",
            flush=True,
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[131072, 524288])
    parser.add_argument("--densities", type=float, nargs="+", default=[0.05, 0.1, 0.2])
    parser.add_argument("--model", help="read a text with this model in place of timing one layer")
    parser.add_argument("--text", type=Path, help="for --model: a .txt file")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.8, 0.9, 0.95])
    parser.add_argument("--piece", type=int, default=8192, help="tokens a forward pass (default: 8192)")
    parser.add_argument("--dtype", help="for --model")
    args = parser.parse_args()
    rows = []
    if args.model:
        from dca_hub.control_tokens import encode
        from dca_hub.loading import load

        if args.text is None:
            parser.error("--model needs --text FILE")
        loaded = load(args.model, dtype=args.dtype, context=max(args.lengths))
        ids = encode(loaded.tokenizer, args.text.read_text(encoding="utf-8"))
        if len(ids) < max(args.lengths):
            parser.error(f"{args.text.name} has {len(ids):,} tokens, fewer than {max(args.lengths):,}")
        for length in args.lengths:
            rows += quality(loaded, ids, length, [None, *args.shares], args.piece)
    else:
        for length in args.lengths:
            rows += speed(length, args.densities)
    for row in rows:
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
