"""`plot`: a picture of results."""

import argparse
import sys
from pathlib import Path

from dca_hub.errors import DcaHubError

HELP = "plot result files: heat maps of needles, curves of perplexity"
DESCRIPTION = """\
Draws what a run has written, finished or not: depth against length for pass keys and needles, a curve for everything
else, with a line at the trained length. Several files of one kind go into one picture, side by side.
"""


def add(subparsers) -> None:
    parser = subparsers.add_parser("plot", help=HELP, description=DESCRIPTION)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.jsonl")
    parser.add_argument("--out", type=Path, metavar="FILE.png", help="the picture (default: beside the first file)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from dca_hub.evaluation import plots, runs

    out = args.out or args.files[0].with_suffix(".png")
    if out.suffix != ".png":
        raise DcaHubError(f"--out {out.name!r} must end in .png.")
    found = [run for file in args.files for run in runs.read(file)]
    picture = plots.picture(found)
    try:
        out.write_bytes(picture)
    except OSError as error:
        raise DcaHubError(f"{out.name!r} cannot be written ({error.strerror}): choose another --out.") from None
    print(f"written: {out}", file=sys.stderr)
    return 0
