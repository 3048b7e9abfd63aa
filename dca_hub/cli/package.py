"""`package`: a checkpoint as a Hub-ready DCA model."""

import argparse
import shlex
import sys

from dca_hub.cli.options import add_gguf, not_negative, positive, progress_bar, quiet

HELP = "make a Hub-ready folder in which a checkpoint is a DCA model"
DESCRIPTION = """\
Writes a complete folder: config, modeling files, tokenizer, weights, model card, license. Anyone can load it with
AutoModelForCausalLM.from_pretrained(DIR, trust_remote_code=True), with torch and transformers alone.

SOURCE is a name from `dca-hub models`, a Hub id (owner/name) or a local folder. Sizes that are not given come from
the checkpoint's own DCA config, the catalogue, or the rule of the authors' code: C = 3L/4, w = L/8 (Qwen2: L/16).
"""


def add(subparsers) -> None:
    parser = subparsers.add_parser(
        "package", help=HELP, description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to make")
    parser.add_argument("--pretraining-length", type=positive, metavar="L", help="tokens that the model was trained at")
    parser.add_argument("--chunk-size", type=positive, metavar="C", help="largest distance that a query may see")
    parser.add_argument("--local-size", type=not_negative, metavar="W", help="window kept exact across a chunk border")
    parser.add_argument("--temperature", type=float, metavar="F", help="attention temperature (0: none)")
    parser.add_argument(
        "--tune",
        metavar="TEXT",
        help="choose C, w and the temperature on this text: a file or folder of books, not the ones that results are "
        "reported on",
    )
    parser.add_argument(
        "--tune-by",
        choices=("perplexity", "keys"),
        default="perplexity",
        help="what decides: the perplexity of that text, or the pass keys found in it (default: perplexity); the least "
        "perplexity may come with fewer keys",
    )
    parser.add_argument(
        "--tune-times",
        type=positive,
        default=4,
        metavar="N",
        help="longest context to try, as a multiple of the trained length (default: 4)",
    )
    parser.add_argument("--device", help="where to run the model for --tune (default: the best there is)")
    parser.add_argument(
        "--weights",
        choices=("copy", "link", "reference"),
        default="copy",
        help="copy the weights, link to them, or leave them with the base model (default: copy)",
    )
    parser.add_argument("--revision", help="branch, tag or commit of SOURCE on the Hub")
    add_gguf(parser)
    parser.add_argument("--force", action="store_true", help="replace an earlier package in DIR")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from dca_hub.errors import DcaHubError
    from dca_hub.packaging import package

    quiet()
    if args.tune_by != "perplexity" and not args.tune:
        raise DcaHubError("--tune-by decides on a text: give --tune TEXT.")
    chosen = _tuned(args) if args.tune else None
    if chosen is not None:
        args.chunk_size, args.local_size, args.temperature = chosen
    update, close = progress_bar("weights", "B")
    try:
        made = package(
            args.source,
            args.out,
            pretraining_length=args.pretraining_length,
            chunk_size=args.chunk_size,
            local_size=args.local_size,
            temperature=args.temperature,
            weights=args.weights,
            revision=args.revision,
            gguf_file=args.gguf_file,
            force=args.force,
            progress=update,
        )
    finally:
        close()
    for note in made.notes:
        print(f"note: {note}", file=sys.stderr)
    _report(made, args)
    return 0


def _loaded(args: argparse.Namespace):
    from dca_hub.loading import load

    return load(args.source, device=args.device, revision=args.revision, gguf_file=args.gguf_file)


def _tuned(args: argparse.Namespace) -> tuple[int, int, float]:
    """C, w and f of the least loss; every set of sizes that was tried goes to the error stream as it is measured."""
    from dca_hub.errors import DcaHubError
    from dca_hub.evaluation import texts
    from dca_hub.tuning import tune

    if (args.chunk_size, args.local_size, args.temperature) != (None, None, None):
        raise DcaHubError("--tune chooses the sizes: leave out --chunk-size, --local-size and --temperature.")
    loaded, (documents, _) = _loaded(args), texts.read(args.tune)
    update, close = progress_bar("tuning", "tok")
    tried = []
    try:
        for one in tune(loaded, documents, by=args.tune_by, times=args.tune_times, progress=update):
            tried.append(one)
            print(one.to_line(), end="", file=sys.stderr, flush=True)
    finally:
        close()
    best = min(tried, key=lambda one: one.loss).geometry
    return best.chunk_size, best.local_size, best.temperature


def _report(made, args: argparse.Namespace) -> None:
    geometry, plan = made.plan.geometry, made.plan
    if args.json:
        import json

        from dca_hub.modeling.dual_chunk_config import config_from_geometry

        values = {
            "folder": str(made.folder),
            "base": plan.source.base,
            "revision": plan.source.revision,
            "dual_chunk_attention_config": config_from_geometry(geometry),
            "sizes_from": plan.sizes_from,
            "context": plan.context,
            "weights": plan.mode,
            "notes": list(made.notes),
        }
        print(json.dumps(values, indent=2, ensure_ascii=False))
        return
    print(f"{args.out}: trained at {geometry.pretraining_length:,} tokens, configured for {plan.context:,}")
    print(
        f"C = {geometry.chunk_size:,}, w = {geometry.local_size:,}, chunks of {geometry.chunk_length:,}"
        + (f", temperature {geometry.temperature:g}" if geometry.temperature else "")
        + f" ({plan.sizes_from})"
    )
    print(f"Check it with: dca-hub verify {shlex.quote(args.out)}")
