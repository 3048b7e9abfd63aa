"""`publish-space`: a Space to the Hub."""

import argparse
import json
import sys

from dca_hub.cli.publish import add_options, describe, quiet_bars

HELP = "publish a Space folder to the Hugging Face Hub, and wait until it runs"
DESCRIPTION = """\
Creates or updates a Space from a folder that `dca-hub space` made, as one revision, and waits until it runs. An
allow-list decides what is uploaded: hidden files, keys, caches and files of unknown kinds are left out and listed.
Hardware is suggested to whoever duplicates the Space, never rented. This command does not set secrets: add them in the
Space's settings.
"""


def add(subparsers) -> None:
    plain = argparse.RawDescriptionHelpFormatter
    parser = subparsers.add_parser("publish-space", help=HELP, description=DESCRIPTION, formatter_class=plain)
    parser.add_argument("folder", metavar="DIR")
    parser.add_argument("repository", metavar="OWNER/NAME")
    add_options(parser)
    parser.add_argument("--suggest-hardware", metavar="NAME", help="such as cpu-basic, t4-small, zero-a10g")
    parser.add_argument(
        "--preload",
        action="append",
        default=[],
        metavar="ID",
        help="model to download at build time; repeatable",
    )
    parser.add_argument(
        "--variable", action="append", default=[], metavar="NAME=VALUE", help="public variable of the Space; repeatable"
    )
    parser.add_argument(
        "--wait", type=float, default=1800, metavar="S", help="seconds to wait, 0 for none (default: 1800)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON, and nothing else")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from dca_hub.errors import DcaHubError
    from dca_hub.publishing import space

    unfit = [text for text in args.variable if "=" not in text]
    if unfit:
        raise DcaHubError(f"{unfit[0]!r} is not a variable: write NAME=VALUE.")
    options = space.Options(
        private=args.private,
        hardware=args.suggest_hardware,
        preload=tuple(args.preload),
        variables=dict(text.split("=", 1) for text in args.variable),
        silence=args.timeout,
    )

    def say(words: str) -> None:
        print(words, file=sys.stderr if args.json else sys.stdout, flush=True)

    quiet_bars()
    plan = space.plan(args.folder, args.repository, options)
    describe(plan.changes, plan.contents.files, say)
    for name in plan.left_out:
        say(f"  stays here: {name}")
    values = {
        "repository": plan.repository,
        "added": list(plan.changes.added),
        "changed": list(plan.changes.changed),
        "removed": list(plan.changes.removed),
        "left_out": list(plan.left_out),
        "dry_run": args.dry_run,
    }
    if not args.dry_run:
        values["commit"] = space.upload(plan)
        say(f"published: {plan.repository} at {values['commit']}")
        if args.wait:
            space.wait(plan, values["commit"], args.wait, say)
    if args.json:
        print(json.dumps(values, indent=2, ensure_ascii=False))
    return 0
