"""`passkey`: a number hidden in a long text, at every depth of every length."""

import argparse

from dca_hub.cli import measuring
from dca_hub.cli.options import positive

HELP = "hide a pass key in long texts and ask for it"
DESCRIPTION = """\
A five-digit number is hidden in a text of each length at each depth, and the model is asked for it. A cell counts the
trials whose first number is the key. `passkey` hides it in the same few sentences over and over (Mohtashami and Jaggi),
`needle` in a novel.
"""
EPILOG = """\
examples:
  dca-hub passkey demo --lengths 512,2k,8k --depths 11 --trials 2 --plain --out passkey.jsonl
  dca-hub needle demo --lengths 512,2k,8k --haystack novel.txt --needles 4
  dca-hub needle llama-3-8b-instruct --lengths 4k,16k,64k --haystack pairs --trials 5 --out pairs.jsonl
"""


def add(subparsers) -> None:
    parser = subparsers.add_parser(
        "passkey", help=HELP, description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_options(parser, "grass")
    parser.set_defaults(run=run, needles=1)


def add_options(parser: argparse.ArgumentParser, haystack: str) -> None:
    """What passkey and needle take."""
    measuring.add_measuring(parser, "4k,8k,16k,32k")
    parser.add_argument(
        "--depths", type=measuring.shares, default=measuring.shares("11"), metavar="N",
        help="how many depths from 0 to 1, or which, such as 0,0.5,1 (default: 11)",
    )  # fmt: skip
    parser.add_argument("--trials", type=positive, default=1, metavar="N", help="prompts a cell (default: 1)")
    parser.add_argument(
        "--haystack", default=haystack, metavar="KIND",
        help=f"prose (a novel), grass (sentences over and over), pairs (keys and values), or a file "
        f"(default: {haystack})",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="other places and numbers (default: 0)")


def run(args: argparse.Namespace) -> int:
    from dca_hub.evaluation import texts
    from dca_hub.evaluation.experiments import measure_needles
    from dca_hub.evaluation.grid import Grid

    haystack, text = args.haystack, ""
    if haystack not in ("prose", "grass", "pairs"):
        books, haystack = texts.read(haystack)
        text = "\n\n".join(books)
    grid = Grid(args.lengths, args.depths, args.trials, haystack, args.seed, args.needles)
    found = measuring.subject(args)
    with measuring.progress(args.command) as update:
        measured = measure_needles(found, args.command, grid, text=text, out=args.out, progress=update)
    return measuring.report(measured, args.out)
