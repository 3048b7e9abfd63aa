"""What several commands share: options about the model, numbers, and progress on the terminal."""

import argparse
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dca_hub.progress import about

if TYPE_CHECKING:
    from dca_hub.progress import LoadProgress, OnLoadProgress

_DEVICES = (
    "cpu, cuda, cuda:1, mps, auto to spread the model over all GPUs, or tensor-parallel to shard it over the "
    "processes of torchrun (default: the best there is)"
)
SPARSE = (
    "read texts of 32k tokens or more with block-sparse attention, an approximation that keeps this share of the "
    "attention (default: 0.9), or vertical_slash for that method with the checkpoint's own sizes"
)

DTYPES = "float32, bfloat16 or float16 (default: the checkpoint's own; on a CPU the one that is fast there)"


def positive(text: str) -> int:
    """A positive whole number of tokens; `16k` is 16,384 and `1m` 1,048,576."""
    units = {"k": 1024, "m": 1024**2}
    digits, unit = (text[:-1], units[text[-1].lower()]) if text[-1:].lower() in units else (text, 1)
    try:
        value = int(digits.replace(",", "").replace("_", "")) * unit
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number: write 4096 or 4k") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not positive")
    return value


def port_number(text: str) -> int:
    """A TCP port; 0 is any that is free."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: expected a number from 0 to 65535")
    return int(text)


def not_negative(text: str) -> int:
    """Like `positive`, and 0."""
    return 0 if text.strip() == "0" else positive(text)


def sampling_temperature(text: str) -> float:
    """A finite number from 0 on."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a temperature: expected 0 (greedy) or more")
    return value


def sparse(text: str) -> str | float:
    """A method of sparse attention, or the share of attention that it keeps."""
    from dca_hub.modeling.dual_chunk_selection import METHODS, SparseAttention

    if text in METHODS:
        return text
    try:
        return SparseAttention(share=float(text)).share
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a share above 0 to 1, or {', '.join(METHODS)}, got {text!r}"
        ) from None


def add_loading(parser: argparse.ArgumentParser) -> None:
    """Options that `load` takes."""
    group = parser.add_argument_group("loading")
    group.add_argument("--device", help=_DEVICES)
    group.add_argument("--dtype", help=DTYPES)
    quantization = group.add_mutually_exclusive_group()
    for bits in ("4bit", "8bit"):
        quantization.add_argument(
            f"--load-in-{bits}",
            dest="quantization",
            action="store_const",
            const=bits,
            help=f"quantize the weights to {bits.removesuffix('bit')} bits with bitsandbytes",
        )
    group.add_argument("--revision", help="branch, tag or commit on the Hub")
    group.add_argument("--sparse", nargs="?", const=True, type=sparse, metavar="SHARE", help=SPARSE)
    add_gguf(group)


def add_cache(parser: argparse.ArgumentParser, where: str = "") -> None:
    """How `load` keeps a cache. `where` it can be chosen stands before the help."""
    parser.add_argument(
        "--cache-in-8bit", dest="cache_bits", action="store_const", const=8, default=16,
        help=f"{where}keep keys and values in 8 bits: about half the memory for a text, at some loss of precision",
    )  # fmt: skip
    parser.add_argument(
        "--offload-cache", action="store_true",
        help=f"{where}keep keys and values in the host's memory: for a text that a GPU cannot hold; slower",
    )  # fmt: skip


def add_gguf(parser) -> None:
    parser.add_argument("--gguf-file", metavar="NAME", help="the GGUF file to load from that repository or folder")


def progress_bar(title: str, unit: str) -> tuple[Callable[..., None], Callable[[], None]]:
    """A bar on the terminal's error stream: what tells it (done, total) and, where that is estimated, the seconds that
    are left; and what takes it away."""
    from tqdm import tqdm

    bar = tqdm(desc=title, unit=unit, unit_scale=True, leave=False, file=sys.stderr, disable=not sys.stderr.isatty())

    def update(done: int, total: int, left: float | None = None) -> None:
        bar.total = total
        if left is not None:
            bar.bar_format = f"{{l_bar}}{{bar}}| {{n_fmt}}/{{total_fmt}}, about {about(left)} left"
        bar.update(done - bar.n)

    return update, bar.close


@contextmanager
def loading_bar() -> "Iterator[OnLoadProgress]":
    """What `load` reports to while a bar on the terminal's error stream shows it."""
    shown: dict[str, tuple[Callable[[int, int], None], Callable[[], None]]] = {}

    def report(progress: "LoadProgress") -> None:
        if progress.stage not in shown:
            unit = "B" if progress.stage == "downloading" else "tensor"
            shown[progress.stage] = progress_bar(progress.stage, unit)
        shown[progress.stage][0](progress.done, progress.total)

    try:
        yield report
    finally:
        for _, close in shown.values():
            close()


def quiet() -> None:
    """Keeps the libraries' own notices off the terminal; what a user must know, the commands say."""
    import transformers

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
