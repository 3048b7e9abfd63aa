"""`verify`: checks a package as somebody else would meet it."""

import argparse
import json
import sys
import time

from dca_hub.cli.options import positive

HELP = "check a package: files, loading, equality with the base, decoding, padding, long context"
DESCRIPTION = """\
Checks a folder that `dca-hub package` made as somebody else would meet it: every file against its hash, then tokenizer
and model, loaded in a fresh process with torch and transformers alone and without network. Exit code 1 when any check
fails.

Weights below 2 GB are checked in float32. Larger and quantized ones are checked as they are: how much the plain base
model differs from itself in that precision (decoding against one call, padded against alone) is measured first, and
the package may differ by twice as much; its first layers are checked in float32 as well.
"""


def add(subparsers) -> None:
    parser = subparsers.add_parser(
        "verify", help=HELP, description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="DIR")
    parser.add_argument(
        "--tokens", type=positive, default=8192, metavar="N", help="longest text to try (default: 8192)"
    )
    parser.add_argument("--device", default="cpu", help="where to run the model (default: cpu)")
    parser.add_argument(
        "--fetch", action="store_true", help="get the base model's weights, for a package that holds none"
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "own"),
        default="auto",
        help="run it in float32, or in the checkpoint's own precision (default: float32 below 2 GB of weights)",
    )
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each finding")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from dca_hub.verification import Outcome, verify

    started, failed = time.monotonic(), 0
    options = {"tokens": args.tokens, "device": args.device, "fetch": args.fetch, "precision": args.precision}
    for finding in verify(args.folder, **options):
        failed += finding.outcome is Outcome.FAILED
        if args.json:
            said = {"check": finding.check.value, "outcome": finding.outcome.value, "detail": finding.detail}
            print(json.dumps(said, ensure_ascii=False), flush=True)
        else:
            print(finding, flush=True)
    verdict = f"{failed} failed" if failed else "nothing failed"
    print(f"{verdict}, {time.monotonic() - started:.0f} s", file=sys.stderr)
    return 1 if failed else 0
