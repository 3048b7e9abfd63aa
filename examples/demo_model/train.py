"""Make the demo model again from plain text: python -m examples.demo_model.train --text FILE_OR_FOLDER --out DIR"""

import argparse
import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging

from dca_hub.demo import TRAINED_LENGTH
from dca_hub.errors import DcaHubError
from dca_hub.evaluation.texts import read_books
from examples.demo_model import model as shape
from examples.demo_model import wordings
from examples.demo_model.corpus import Corpus, curly_quotes
from examples.demo_model.data import MAIN_MIX, Batches
from examples.demo_model.questions import ask
from examples.demo_model.rows import RowMaker
from examples.demo_model.tokenizer import PieceEncoder, save_tokenizer, train_tokenizer
from examples.demo_model.trainer import Meter, Progress, Settings, Trainer, check, load_state, make_optimizer


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m examples.demo_model.train", description=__doc__)
    add = made.add_argument
    add("--text", required=True, help="a .txt or .txt.gz file, or a folder of them; form feeds part books")
    add("--validation", help="such a file or folder to check on (default: the last 2%% of the text, kept out)")
    add("--out", required=True, type=Path, help="where the checkpoint and the trainer's state go")
    add("--tokenizer", help="folder of a tokenizer to use (default: learn one from the text)")
    add("--resume", action="store_true", help="go on from the state in --out")
    add("--start-from", type=Path, help="begin with the weights of this checkpoint folder")
    add(
        "--average",
        action="store_true",
        help="end with the mean of the first weights and the last",
    )
    add("--seed", type=int, default=0)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--steps", type=int, default=20_000, help="optimizer steps (default: %(default)s)")
    add("--minutes", type=float, help="end the schedule after so many minutes, if the steps do not end it before")
    add("--rows", type=int, help="windows a step (default: 256 on a GPU, 16 on a CPU)")
    add("--micro-rows", type=int, help="windows a forward pass (default: all)")
    add("--dense-steps", type=int, default=600, help="first steps, on short dense repetitions (default: %(default)s)")
    add("--rate", type=float, default=2.5e-3, help="peak learning rate (default: %(default)s)")
    add("--decay", type=float, default=0.1, help="weight decay (default: %(default)s)")
    add("--absent", type=float, default=0.04, help="share of questions whose answer is not there")
    add("--bos", type=float, default=0.3, help="share of windows that begin with the bos token")
    add("--parted", type=float, default=0.3, help="share of the texts of one window that a bos token parts")
    add("--packed", type=float, default=0.5, help="share of prose windows made of several texts")
    add("--strange", type=float, default=0.25, help="share of documents with words of any kind mixed in")
    add("--softest", type=float, default=0.6, help="least factor of attention logits (default: %(default)s)")
    add("--sharpest", type=float, default=1.5, help="largest factor of attention logits (default: %(default)s)")
    add("--mix", type=_mix, default=MAIN_MIX, help="shares of the kinds of windows that differ, such as key=0.3")
    add("--window", type=int, default=TRAINED_LENGTH, help="tokens a row (default: %(default)s)")
    add("--vocabulary", type=int, default=4096)
    add("--width", type=int, default=256, help="hidden size, a multiple of 128")
    add("--layers", type=int, default=4)
    add("--inner", type=int, default=608, help="width of the feed-forward part")
    add("--workers", type=int, help="processes that make batches (default: 15 on a GPU, 1 on a CPU)")
    add("--compile", action="store_true", help="use torch.compile")
    add("--check-steps", type=int, default=1000, help="steps between checks on unseen text")
    add("--check-rows", type=int, default=128)
    add("--save-minutes", type=float, default=5.0, help="minutes between saves of the trainer's state")
    return made


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    logging.set_verbosity_error()
    try:
        train(options)
    except DcaHubError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; go on with --resume", file=sys.stderr)
        return 130
    return 0


def train(options: argparse.Namespace) -> dict[str, float]:
    """Train, save the checkpoint into options.out and return the last check."""
    cuda = torch.device(options.device).type == "cuda"
    torch.manual_seed(options.seed)
    books, unseen = _texts(options)
    tokenizer = _tokenizer(options, books)
    encode = PieceEncoder(tokenizer)
    print(f"reading {sum(map(len, books)) / 1e6:.1f} M characters", file=sys.stderr)
    shares = {name: getattr(options, name) for name in ("absent", "bos", "parted", "packed", "strange")}
    maker = RowMaker(Corpus(books, encode), encode, options.window + 1, **shares)
    checker = RowMaker(Corpus(unseen, encode), encode, options.window + 1, **shares)
    model = _model(options, tokenizer).to(options.device)
    began = {name: value.clone() for name, value in model.state_dict().items()} if options.average else {}
    optimizer = make_optimizer(model, options.rate, options.decay, model.device)
    progress = load_state(options.out, model, optimizer) if options.resume else Progress()
    rows = options.rows or (256 if cuda else 16)
    settings = Settings(
        steps=options.steps,
        minutes=options.minutes,
        rate=options.rate,
        decay=options.decay,
        micro_rows=options.micro_rows or rows,
        workers=(15 if cuda else 1) if options.workers is None else options.workers,
        compile=options.compile,
        save_minutes=options.save_minutes,
    )
    batches = Batches(
        maker, rows, options.steps, options.seed, options.dense_steps, options.mix, options.softest, options.sharpest
    )
    trainer = Trainer(model, optimizer, batches, settings, options.out, progress)
    meter = Meter(settings, rows * options.window)

    def report(progress: Progress, loss: torch.Tensor) -> None:
        meter.step(progress, loss)
        if progress.step % options.check_steps == 0:
            meter.note({"step": progress.step, **check(model, checker, options.check_rows)})

    try:
        trainer.run(report)
    finally:
        for name, value in began.items():
            model.state_dict()[name].lerp_(value, 0.5)
        shape.save(model, tokenizer, options.out)
    last = {"step": progress.step, "seconds": round(progress.seconds), **check(model, checker, 2 * options.check_rows)}
    meter.note(last)
    return last


def _texts(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    books = read_books(options.text)
    if options.validation:
        return books, read_books(options.validation)
    kept = max(1, int(0.98 * len(books[-1])) if len(books) == 1 else len(books) - max(1, len(books) // 50))
    return ([books[0][:kept]], [books[0][kept:]]) if len(books) == 1 else (books[:kept], books[kept:])


def _tokenizer(options: argparse.Namespace, books: list[str]) -> PreTrainedTokenizerFast:
    options.out.mkdir(parents=True, exist_ok=True)
    source = options.tokenizer or (options.out if options.resume else None)
    if source:
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    print("learning the tokenizer", file=sys.stderr)
    # Every eighth book with typographic quotes, as PDF files have them, and the wordings of questions.
    texts = [book if i % 8 else curly_quotes(book) for i, book in enumerate(books)]
    asked = [f"[page ]\n{ask(wording)}" for wording in wordings.everything()]
    tokenizer = train_tokenizer([*texts, *(asked * 20)], options.vocabulary)
    save_tokenizer(tokenizer, options.out)
    return tokenizer


def _mix(text: str) -> dict[str, float]:
    """The usual shares with those that are named changed; their sum does not matter."""
    changed = {name: float(share) for name, _, share in (part.partition("=") for part in text.split(","))}
    if unknown := changed.keys() - MAIN_MIX.keys():
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is none of {', '.join(MAIN_MIX)}")
    return MAIN_MIX | changed


def _model(options: argparse.Namespace, tokenizer: PreTrainedTokenizerFast):
    model = shape.build(tokenizer, options.window, options.width, options.layers, options.inner)
    if options.start_from:
        model.load_state_dict(type(model).from_pretrained(options.start_from, dtype=torch.float32).state_dict())
    return model.train()


if __name__ == "__main__":
    sys.exit(main())
