"""`publish`: a package to the Hub."""

import argparse
import json
import sys
from pathlib import Path

HELP = "publish a package to the Hugging Face Hub, and load it back"
DESCRIPTION = """\
Verifies a folder that `dca-hub package` made, uploads it as one revision, prints the lines that load it with the
revision pinned, loads it from the Hub in a fresh process with an empty cache, compares, and tags it. Does nothing if
the repository holds the same files already; after an interruption, uploaded files are not sent again.

Weights go one of three ways; without --weights, license and size decide, and the reason is printed:
  copy         uploaded from DIR
  server-copy  copied by the Hub from the base model's repository, nothing passes through this machine
  reference    not at all: a repository of a few kilobytes that loads the base's weights at a pinned revision

The token is that of `hf auth login`, or HF_TOKEN.
"""
EPILOG = """\
examples:
  dca-hub publish qwen-dca me/Qwen2.5-0.5B-Instruct-DCA --dry-run
  dca-hub publish qwen-dca me/Qwen2.5-0.5B-Instruct-DCA --results results.jsonl --tag v1.0
"""


def add(subparsers) -> None:
    parser = subparsers.add_parser(
        "publish",
        help=HELP,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="DIR")
    parser.add_argument("repository", metavar="OWNER/NAME")
    add_options(parser)
    parser.add_argument("--weights", choices=("copy", "server-copy", "reference"), help="how to publish the weights")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to publish to, created if missing (default: main)")
    parser.add_argument("--create-pr", action="store_true", help="propose the revision as a pull request")
    parser.add_argument("--tag", help="name of the revision that the card pins (default: derived from the contents)")
    parser.add_argument(
        "--results",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="JSON lines of the evaluation, for the card; may be given several times",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON, and nothing else")
    parser.set_defaults(run=run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What every command that publishes takes."""
    parser.add_argument("--private", action="store_true", help="make the repository private")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, and do nothing")
    parser.add_argument(
        "--timeout", type=float, default=120, metavar="S", help="seconds to wait for an answer (default: 120)"
    )


def run(args: argparse.Namespace) -> int:
    from dca_hub.cli.options import quiet
    from dca_hub.publishing import model

    options = model.Options(
        private=args.private,
        branch=args.revision,
        pull_request=args.create_pr,
        tag=args.tag,
        weights=args.weights,
        results=tuple(args.results),
        silence=args.timeout,
    )

    def say(words: str) -> None:
        print(words, file=sys.stderr if args.json else sys.stdout, flush=True)

    quiet_bars()
    plan = model.plan(args.folder, args.repository, options)
    say(f"weights: {plan.choice.mode}, since {plan.choice.why}" if not args.weights else f"weights: {args.weights}")
    describe(plan.changes, plan.prepared.contents.files, say)
    if args.dry_run:
        _report(args, {"repository": args.repository, "dry_run": True, **_planned(plan)})
        return 0
    quiet()
    published = model.publish_plan(plan, say)
    _report(
        args,
        {
            "repository": plan.repository,
            "commit": published.commit.commit,
            "pull_request": published.commit.pull_request,
            "tag": plan.prepared.tag,
            "new": published.new,
            "snippet": published.snippet,
            "loaded_back": published.loaded_back,
            **_planned(plan),
        },
    )
    return 0


def quiet_bars() -> None:
    """Keeps the Hub client's progress bars out of logs: they are for a terminal."""
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()


def describe(changes, files, say) -> None:
    """Says what a revision changes, a line a file."""
    for mark, names in (("+", changes.added), ("~", changes.changed)):
        for name in names:
            say(f"  {mark} {name} ({files[name].size:,} bytes)")
    for name in changes.removed:
        say(f"  - {name}")
    if not changes:
        say("  nothing to change")


def _planned(plan) -> dict:
    changes = plan.changes
    return {
        "weights": plan.choice.mode,
        "why": plan.choice.why,
        "added": list(changes.added),
        "changed": list(changes.changed),
        "removed": list(changes.removed),
    }


def _report(args: argparse.Namespace, values: dict) -> None:
    if args.json:
        print(json.dumps(values, indent=2, ensure_ascii=False))
