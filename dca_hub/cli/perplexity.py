"""`perplexity`: how surprised a model is by a text, by how much of it stands before."""

import argparse

from dca_hub.cli import measuring
from dca_hub.cli.options import positive

HELP = "measure the perplexity of a text by context length"
DESCRIPTION = """\
Sliding windows as in the paper: windows of each length end at the same places, and the last --stride tokens of each
are scored, so that the numbers of all lengths are over the same tokens. Books are parted by form feeds, or are the
files of a folder; a window lies within one. Memory stays bounded at any length.
"""
EPILOG = """\
examples:
  dca-hub perplexity demo --text novel.txt --lengths 512,1k,2k,4k --plain --out perplexity.jsonl
  dca-hub perplexity llama-3-8b --text pg19 --lengths 4k,8k,16k,32k,64k,96k,128k --windows 0 --plain --out l3.jsonl
  torchrun --nproc-per-node 8 -m dca_hub perplexity llama-3-8b --text pg19 --lengths 4k,64k --out l3.jsonl
"""


def add(subparsers) -> None:
    parser = subparsers.add_parser(
        "perplexity", help=HELP, description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    measuring.add_measuring(parser, "4k,8k,16k,32k")
    parser.add_argument(
        "--text", required=True, metavar="FILE",
        help="a .txt or .txt.gz file, a folder of them, or pg19 for the validation books of PG19 from the Hub",
    )  # fmt: skip
    parser.add_argument("--stride", type=positive, default=256, metavar="N", help="scored tokens (default: 256)")
    parser.add_argument(
        "--windows", type=_count, default=20, metavar="N",
        help="windows at even distances (default: 20); 0 for one each --stride tokens, as the paper has it",
    )  # fmt: skip
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    return 0 if text == "0" else positive(text)


def run(args: argparse.Namespace) -> int:
    from dca_hub.evaluation import texts
    from dca_hub.evaluation.experiments import measure_perplexity

    books, name = texts.read(args.text)
    found = measuring.subject(args)
    with measuring.progress("perplexity") as update:
        measured = measure_perplexity(
            found, books, args.lengths, data=name, stride=args.stride, windows=args.windows, out=args.out,
            progress=update,
        )  # fmt: skip
    return measuring.report(measured, args.out)
