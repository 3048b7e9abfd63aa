"""What the commands of the evaluation share: their options, the model with what it is compared to, and the end."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dca_hub.cli.options import add_loading, positive, progress_bar, quiet
from dca_hub.errors import DcaHubError
from dca_hub.evaluation.grid import spread
from dca_hub.evaluation.names import COMPARED, USUAL_FACTOR

RANDOM = "random"
_EVERY = 30.0  # seconds between two lines about progress where there is no terminal


def add_measuring(parser: argparse.ArgumentParser, lengths: str) -> None:
    """Options that perplexity, passkey and needle share."""
    parser.add_argument("model", metavar="MODEL", help="a name from `dca-hub models`, a Hub id or a folder")
    parser.add_argument(
        "--lengths", type=positives, default=positives(lengths), metavar="N,N,...",
        help=f"tokens of context, such as 4k,8k,16384 (default: {lengths})",
    )  # fmt: skip
    group = parser.add_argument_group("comparing")
    group.add_argument("--plain", action="store_true", help="measure the plain base model beside the DCA model")
    group.add_argument(
        "--compare", type=words, default=(), metavar="NAME,...",
        help=f"other variants to measure beside it: {', '.join(COMPARED)}",
    )  # fmt: skip
    group.add_argument("--no-dca", action="store_true", help="leave out the DCA model; needs --plain or --compare")
    group.add_argument(
        "--factor", type=float, metavar="F",
        help="factor of linear, ntk and yarn (default: each text's length over the trained length)",
    )  # fmt: skip
    group.add_argument(
        "--dca-factor", type=float, default=USUAL_FACTOR, metavar="F",
        help=f"factor of those combined with DCA, whose sizes grow with it (default: {USUAL_FACTOR:g})",
    )  # fmt: skip
    add_output(parser)
    add_loading(parser)


def add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, metavar="FILE.jsonl",
        help="write each sample to this file as it is measured, resuming what it holds; a picture is put beside it",
    )  # fmt: skip


def add_batch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--batch", type=positive, metavar="N",
        help="prompts of similar length to answer together (default: as many as fit on a GPU, else 1)",
    )  # fmt: skip


def positives(text: str) -> tuple[int, ...]:
    """Numbers of tokens with commas between: 4k,8k,16384."""
    return tuple(sorted({positive(part) for part in words(text)}))


def words(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} names nothing")
    return found


def shares(text: str) -> tuple[float, ...] | str:
    """Depths: a number of them, evenly spread (11), ones from 0 to 1 with commas between (0,0.5,1), or `random`."""
    if text == RANDOM:
        return RANDOM
    try:
        if "," not in text and "." not in text and int(text) > 0:
            return spread(int(text))
        found = tuple(float(part) for part in words(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected depths such as 11, or 0,0.5,1, or {RANDOM}, got {text!r}") from None
    if any(not 0 <= one <= 1 for one in found):
        raise argparse.ArgumentTypeError("depths lie from 0 (beginning) to 1 (end)")
    return found


def subject(args: argparse.Namespace):
    """The model of the command line, loaded, with everything that it is to be compared with."""
    from dca_hub.devices import TENSOR_PARALLEL
    from dca_hub.evaluation import processes, variants
    from dca_hub.evaluation.experiments import Subject
    from dca_hub.loading import load

    quiet()
    shared = args.device == TENSOR_PARALLEL
    processes.join(sharing=shared)
    if args.out and args.out.suffix != ".jsonl":
        raise DcaHubError(f"--out {args.out.name!r} must end in .jsonl.")
    loaded = load(
        args.model,
        device=args.device or processes.own_device(),
        dtype=args.dtype,
        quantization=args.quantization,
        context=max(args.lengths),
        revision=args.revision,
        sparse=args.sparse,
        gguf_file=args.gguf_file,
    )
    compare = [*(["plain"] if args.plain else []), *args.compare]
    found = variants.build(loaded, compare, args.factor, args.dca_factor)
    if args.no_dca:
        found = found[1:]
    if not found:
        raise DcaHubError("--no-dca leaves nothing to measure: give --plain or --compare.")
    return Subject.of(loaded, found, shared)


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """What is to be told (tokens done, tokens in all); says on the error stream how far it is and how long it takes."""
    from dca_hub.evaluation.processes import join

    if join().rank > 0:
        yield lambda done, total: None
        return
    draw, close = progress_bar(title, "tok")
    drawn, last = sys.stderr.isatty(), time.monotonic()
    began: tuple[float, int] | None = None  # when the first piece was done: what comes before it is no measuring

    def update(done: int, total: int) -> None:
        nonlocal last, began
        draw(done, total)
        now = time.monotonic()
        began = began or (now, done)
        if not drawn and done > began[1] and now - last > _EVERY:
            last, left = now, (now - began[0]) * (total - done) / (done - began[1])
            say = f"{title}: {done / total:.0%} of {total:,} tokens, about {_duration(left)} left"
            print(say, file=sys.stderr, flush=True)

    try:
        yield update
    finally:
        close()


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min" if minutes else "a minute"


def report(run, out: Path | None, picture: Path | None = None) -> int:
    """The end of a run: the table, and the picture beside the file or where it is asked for. By the first process."""
    from dca_hub.evaluation import plots, processes, summary

    if processes.join().rank > 0:
        return 0
    print("\n\n".join([*(table.markdown() for table in summary.tables(run)), summary.conditions(run)]))
    if out is not None:
        picture = picture or out.with_suffix(".png")
        picture.write_bytes(plots.picture([run]))
        print(f"written: {out}, {picture}", file=sys.stderr)
    return 0
