"""`passkey`: a number hidden in a long text, at every depth of every length."""

import argparse

from dca_hub.cli import measuring
from dca_hub.cli.options import positive
from dca_hub.evaluation.grid import STYLES

HELP = "hide a pass key in long texts and ask for it"
DESCRIPTION = """\
A five-digit number is hidden in a text of each length at each depth, and the model is asked for it. A cell counts the
trials whose first five-digit number is the key. `passkey` hides it in a few repeated sentences (Mohtashami and Jaggi),
`needle` in a novel. Chat models are asked in their chat format.
"""
EPILOG = """\
examples:
  dca-hub passkey llama-2-13b --style authors --depths random --trials 50 --lengths 4k,8k,16k --plain --out key.jsonl
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
        help="number of depths from 0 to 1, or a list such as 0,0.5,1, or random, for another depth each trial "
        "(default: 11)",
    )  # fmt: skip
    parser.add_argument("--trials", type=positive, default=1, metavar="N", help="prompts per cell (default: 1)")
    measuring.add_batch(parser)
    parser.add_argument(
        "--haystack", default=haystack, metavar="KIND",
        help=f"prose (a novel), grass (repeated sentences), pairs (keys and values), or a file "
        f"(default: {haystack})",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="seed of random depths and numbers (default: 0)")
    style = parser.add_mutually_exclusive_group()
    style.add_argument(
        "--style", choices=STYLES,
        help="authors: their task description and question; chat: the model's chat format; plain: text and question "
        "(default: chat where the model has a chat format, else plain)",
    )  # fmt: skip
    style.add_argument("--no-chat", action="store_const", const="plain", dest="style", help="the same as --style plain")


def run(args: argparse.Namespace) -> int:
    from dca_hub.evaluation import texts
    from dca_hub.evaluation.experiments import measure_needles
    from dca_hub.evaluation.grid import Grid, at_random

    haystack, text = args.haystack, ""
    if haystack not in ("prose", "grass", "pairs"):
        books, haystack = texts.read(haystack)
        text = "\n\n".join(books)
    depths, trials = args.depths, args.trials
    if depths == measuring.RANDOM:
        depths, trials = at_random(trials, args.seed), 1
    grid = Grid(args.lengths, depths, trials, haystack, args.seed, args.needles, args.style)
    found = measuring.subject(args)
    with measuring.progress(args.command) as update:
        measured = measure_needles(
            found, args.command, grid, text=text, batch=args.batch, out=args.out, progress=update
        )
    return measuring.report(measured, args.out)
