"""`needle`: needles in a haystack."""

import argparse

from dca_hub.cli import passkey
from dca_hub.cli.options import positive

HELP = "needle in a haystack: depth by length, several needles, keys and values"


def add(subparsers) -> None:
    parser = subparsers.add_parser(
        "needle", help=HELP, description=passkey.DESCRIPTION, epilog=passkey.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    passkey.add_options(parser, "prose")
    parser.add_argument(
        "--needles", type=positive, default=1, metavar="N",
        help="needles in each prompt, each with a name; one is queried (default: 1)",
    )  # fmt: skip
    parser.set_defaults(run=passkey.run)
