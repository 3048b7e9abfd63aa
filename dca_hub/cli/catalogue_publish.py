"""`catalogue publish`: many models of the catalogue to the Hub."""

import argparse
import json
import sys

from dca_hub.cli.publish import add_options, quiet_bars

HELP = "publish models of the catalogue to the Hugging Face Hub"
DESCRIPTION = """\
Packages each named model and publishes it in reference mode: a repository of a few kilobytes that loads the base's
weights at a pinned revision. A failure does not stop the others: a table at the end has the outcome of each, and the
exit code is 1 if any failed. Run it again to resume after an interruption.
"""
EPILOG = """\
examples:
  dca-hub catalogue publish qwen3-0.6b smollm2-135m-instruct --owner me
  dca-hub catalogue publish --all --owner my-organisation --dry-run
"""


def add(subparsers) -> None:
    plain = argparse.RawDescriptionHelpFormatter
    group = subparsers.add_parser("catalogue", help="work on the whole catalogue: `catalogue publish`")
    commands = group.add_subparsers(dest="catalogue_command", metavar="COMMAND", required=True)
    parser = commands.add_parser("publish", help=HELP, description=DESCRIPTION, epilog=EPILOG, formatter_class=plain)
    parser.add_argument("names", nargs="*", metavar="NAME", help="names from `dca-hub models`")
    parser.add_argument("--all", action="store_true", help="every model of the catalogue")
    parser.add_argument("--owner", required=True, help="your name on the Hub, or an organisation's")
    parser.add_argument("--suffix", default="-DCA", help="suffix to the base's name (default: -DCA)")
    add_options(parser)
    parser.add_argument("--with-weights", action="store_true", help="download the bases' weights and check the models")
    parser.add_argument("--json", action="store_true", help="print one line of JSON for each model, and nothing else")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from dca_hub import catalogue
    from dca_hub.cli.options import quiet
    from dca_hub.errors import DcaHubError
    from dca_hub.publishing import many, model

    if args.all == bool(args.names):
        raise DcaHubError("Name the models to publish, or give --all.")
    entries = catalogue.entries() if args.all else [catalogue.find(name) for name in args.names]
    quiet()
    quiet_bars()
    options = model.Options(private=args.private, silence=args.timeout)
    outcomes = []
    try:
        for outcome in many.publish(
            entries,
            args.owner,
            options,
            lambda words: print(words, file=sys.stderr, flush=True),
            suffix=args.suffix,
            with_weights=args.with_weights,
            dry_run=args.dry_run,
        ):
            outcomes.append(outcome)
            if args.json:
                print(json.dumps({**vars(outcome), "state": outcome.state.value}, ensure_ascii=False), flush=True)
    finally:
        if outcomes and not args.json:
            print(many.table(outcomes))
    return 1 if any(outcome.state is many.State.FAILED for outcome in outcomes) else 0
