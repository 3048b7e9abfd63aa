"""`verify`: checks a package as somebody else would meet it, or a server that runs one."""

import argparse
import json
import sys
import time

from dca_hub.cli.options import add_gguf, loading_bar, positive, progress_bar, quiet

HELP = "check a package: files, loading, equality with the base, decoding, padding, long context"
DESCRIPTION = """\
Checks a folder that `dca-hub package` made as another user would load it: every file against its hash, then tokenizer
and model, loaded in a fresh process with torch and transformers alone and without network. A GGUF file is packaged in a
temporary folder first. Exit code 1 when any check fails.

Weights below 2 GB are checked in float32. Larger and quantized ones are checked as they are: how much the plain base
model differs from itself in that precision (decoding against one call, padded against alone) is measured first, and
the package may differ by twice as much; its first layers are checked in float32 as well.

With --endpoint, checks a running server instead: whether it has the model (a package, a catalogue name or a Hub id),
and whether it runs Dual Chunk Attention or plain attention. A prompt longer than a chunk is read here with both, and by
the server; the server's log-probabilities, or its words where it gives none, tell which of the two it runs. Set
OPENAI_API_KEY if the server asks for a key.
"""
EPILOG = """\
examples:
  dca-hub verify qwen-dca
  dca-hub verify demo --endpoint http://127.0.0.1:8000
  dca-hub verify Qwen/Qwen2.5-0.5B-Instruct --endpoint http://127.0.0.1:8000 --tokens 80k --device cuda
"""


def add(subparsers) -> None:
    parser = subparsers.add_parser(
        "verify",
        help=HELP,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="PACKAGE")
    parser.add_argument(
        "--tokens", type=positive, default=8192, metavar="N", help="longest text to try (default: 8192)"
    )
    parser.add_argument("--device", help="where to run the model (default: cpu; with --endpoint, the best there is)")
    parser.add_argument("--endpoint", metavar="URL", help="check the server at this address")
    parser.add_argument(
        "--fetch", action="store_true", help="download the base model's weights, for a package that holds none"
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "own"),
        default="auto",
        help="run it in float32, or in the checkpoint's own precision (default: float32 below 2 GB of weights)",
    )
    add_gguf(parser)
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each finding")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from dca_hub.verification import Outcome

    started, failed = time.monotonic(), 0
    for finding in _endpoint(args) if args.endpoint else _package(args):
        failed += finding.outcome is Outcome.FAILED
        if args.json:
            said = {"check": finding.check.value, "outcome": finding.outcome.value, "detail": finding.detail}
            print(json.dumps(said, ensure_ascii=False), flush=True)
        else:
            print(finding, flush=True)
    verdict = f"{failed} failed" if failed else "all checks passed"
    print(f"{verdict}, {time.monotonic() - started:.0f} s", file=sys.stderr)
    return 1 if failed else 0


def _package(args: argparse.Namespace):
    from dca_hub.verification import verify

    options = {"tokens": args.tokens, "device": args.device or "cpu", "fetch": args.fetch, "precision": args.precision}
    return verify(args.folder, gguf_file=args.gguf_file, **options)


def _endpoint(args: argparse.Namespace):
    from dca_hub.errors import DcaHubError, Fix
    from dca_hub.verification import verify_endpoint

    if args.fetch:
        raise DcaHubError("With --endpoint the model's weights are always fetched", Fix("leave {} out", "fetch"))
    if args.gguf_file:
        raise DcaHubError("With --endpoint a GGUF file is not read", Fix("leave {} out", "gguf_file"))
    quiet()
    update, close = progress_bar("reading here", "token")
    options = {"tokens": args.tokens, "device": args.device, "progress": update}
    dtype = "float32" if args.precision == "float32" else None
    try:
        with loading_bar() as loading:
            yield from verify_endpoint(args.folder, args.endpoint, dtype=dtype, loading=loading, **options)
    finally:
        close()
