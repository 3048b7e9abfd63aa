"""`report`: all results of a folder on one page, and into a package."""

import argparse
import sys
from pathlib import Path

HELP = "put all results of a folder on one page, with pictures, and into a package's card"
DESCRIPTION = """\
Reads every file that perplexity, passkey, needle and evaluate wrote into FOLDER, and writes report.md, report.html
(one file, pictures included) and the pictures there. With --package the numbers of the DCA model and of its base go
into the card of a package too: `model-index`, a table, and the commands that reproduce them.
"""


def add(subparsers) -> None:
    parser = subparsers.add_parser(
        "report", help=HELP, description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--package", type=Path, metavar="DIR", help="a folder that `dca-hub package` made")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from dca_hub.evaluation import report, summary

    found, others = report.collect(args.folder)
    for path in others:
        print(f"note: {path.name} is not a results file and was left out.", file=sys.stderr)
    if args.package:
        report.into_package(args.package, [one for _, run in found for one in summary.measurements(run)])
        print(f"{args.package}: card and results.jsonl written")
    for path in report.write(args.folder, report.sections(found)):
        print(path)
    return 0
