"""`perplexity`: how surprised a model is by a text, by how much of it stands before."""

import argparse
from pathlib import Path

from dca_hub.cli import measuring
from dca_hub.cli.options import positive

HELP = "measure the perplexity of a text by context length"
DESCRIPTION = """\
Two definitions, which give different numbers on the same text:

  last      windows of each length end at the same tokens, and the last --stride tokens of each are scored, so that all
            lengths are measured on the same tokens; a window lies within one book
  authors   every token of a window is scored, windows begin every --stride tokens of one stream of all books, and no
            token is put before them: the definition of the authors' tables

Books are separated by form feeds, or are the files of a folder. Memory stays bounded at any length.
"""
EPILOG = """\
examples:
  dca-hub perplexity demo --text novel.txt --lengths 512,1k,2k,4k --plain --out perplexity.jsonl
  dca-hub perplexity llama-3-8b --text pg19 --definition authors --windows 0 --plain --out l3.jsonl
  dca-hub perplexity llama-2-7b --text pg19_llama2.validation.bin --definition authors --windows 200 --out l2.jsonl
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
        help="a .txt or .txt.gz file, a folder of them, a .bin file of the authors' tokens, or pg19 for the "
        "validation books of PG19 from the Hub",
    )  # fmt: skip
    parser.add_argument(
        "--tokens", choices=("uint16", "uint32"),
        help="read --text as token ids of this type (default for .bin: uint16, uint32 for a vocabulary above 65,536)",
    )  # fmt: skip
    parser.add_argument("--definition", choices=("authors", "last"), default="last", help="(default: last)")
    parser.add_argument(
        "--stride", type=positive, default=256, metavar="N", help="tokens between the starts of windows (default: 256)"
    )
    parser.add_argument(
        "--windows", type=_count, default=20, metavar="N",
        help="evenly spaced windows (default: 20); 0 for one every --stride tokens, as the authors do",
    )  # fmt: skip
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    return 0 if text == "0" else positive(text)


def run(args: argparse.Namespace) -> int:
    from dca_hub.evaluation import texts
    from dca_hub.evaluation.experiments import measure_perplexity

    tokenized = args.tokens is not None or Path(args.text).suffix == texts.TOKENS
    books, name = ([], "") if tokenized else texts.read(args.text)  # what is not there is said before a model is loaded
    found = measuring.subject(args)
    if tokenized:
        stream, name = texts.read_tokens(args.text, found.loaded.tokenizer, args.tokens)
        books = [stream]
    with measuring.progress("perplexity") as update:
        measured = measure_perplexity(
            found, books, args.lengths, data=name, definition=args.definition, stride=args.stride,
            windows=args.windows, out=args.out, progress=update,
        )  # fmt: skip
    return measuring.report(measured, args.out)
