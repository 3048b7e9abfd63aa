"""`models`: the catalogue."""

import argparse
import json

from dca_hub.cli.options import positive
from dca_hub.errors import DcaHubError

HELP = "list the models of the catalogue"
DESCRIPTION = """\
The models that are known by name: the length each was trained at, how far Dual Chunk Attention (DCA) is known to carry
it and by whose measurement, its license, and the memory that its weights and each 1,000 tokens of KV cache take in
bfloat16. Any other Hub repository or folder of a supported family can be packaged and loaded too.
"""


def add(subparsers) -> None:
    parser = subparsers.add_parser(
        "models", help=HELP, description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these, in detail (catalogue names or Hub ids)")
    parser.add_argument(
        "--fits",
        type=positive,
        metavar="N",
        help="only the models that this machine can hold with N tokens of context, and are known to reach them",
    )
    parser.add_argument("--json", action="store_true", help="print JSON: a list with every number in tokens or bytes")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from dca_hub import catalogue

    chosen = [catalogue.find(name) for name in args.names] or catalogue.entries()
    if args.fits:
        chosen = [entry for entry in chosen if _fits(entry, args.fits)]
        if not chosen:
            raise DcaHubError(f"No model of the list fits here with {args.fits:,} tokens: give a smaller --fits.")
    if args.json:
        print(json.dumps(catalogue.rows(chosen), indent=2, ensure_ascii=False))
        return 0
    print(catalogue.table(chosen))
    if args.names:
        for entry in chosen:
            print(f"\n{details(entry)}")
    else:
        print("\nWeights and cache (per 1,000 tokens of context) in bfloat16. `models NAME` says more about one model.")
    return 0


def _fits(entry, tokens: int) -> bool:
    """Whether the best device has room for weights and cache in bfloat16, and the model may be given so many tokens."""
    from dca_hub.devices import best_device, free_bytes
    from dca_hub.sizes import reach_of_entry

    shape = entry.architecture
    need = shape.weights_bytes("bfloat16") * 1.05 + tokens * shape.cache_bytes_per_token("bfloat16")
    return tokens <= reach_of_entry(entry) and need <= free_bytes(best_device())


def details(entry) -> str:
    """What is known of one catalogue entry, a fact a line."""
    from dca_hub.sizes import reach_of_entry

    sizes = entry.geometry
    facts = [
        ("sizes", f"C = {sizes.chunk_size:,}, w = {sizes.local_size:,}, chunks of {sizes.chunk_length:,}"),
        ("from", entry.dca.source),
        ("temperature", f"{sizes.temperature:g}" if sizes.temperature else "none"),
        ("may be given", f"{reach_of_entry(entry):,} tokens"),
        *(("known reach", f"{reach.stated}, {reach.by}: {reach.evidence}") for reach in entry.reach),
        ("parameters", f"{entry.parameters:,}"),
        ("languages", ", ".join(entry.languages)),
        ("notes", entry.notes),
        *((("facts from", entry.facts),) if entry.facts else ()),
    ]
    width = max(len(heading) for heading, _ in facts)
    return "\n".join([entry.name, *(f"  {heading.ljust(width)}  {text}" for heading, text in facts)])
