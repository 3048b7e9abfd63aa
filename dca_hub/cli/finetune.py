"""`finetune`: supervised fine-tuning on long dialogues."""

import argparse
import sys
from pathlib import Path

from dca_hub.cli.options import positive, quiet

HELP = "fine-tune a DCA model on long dialogues, and package it"
DESCRIPTION = """\
Trains on the answers of dialogues, in rows of --length tokens, with Dual Chunk Attention and its exact gradients. FILE
is a JSON list or JSON lines of the authors' format (inputs, outputs), of ShareGPT's (conversations: from, value) or of
message lists (messages: role, content). Dialogues are packed into rows without attending to one another; --concatenate
joins them into long ones instead. The defaults are those of the authors' recipe. Checkpoints go to DIR.training; Ctrl-C
writes one, and the same command resumes from the last. The result is a package in DIR.

`accelerate launch` sets up processes, GPUs and sharding; dca_hub/training has configurations for it. To try several
processes on a CPU: torchrun --nproc-per-node 2 -m dca_hub finetune ...
"""
EPILOG = """\
examples:
  dca-hub finetune demo --data dialogues.jsonl --out demo-tuned --length 2k --steps 100
  accelerate launch --config_file dca_hub/training/fsdp2.yaml -m dca_hub finetune llama-2-7b-chat \\
      --data long.json --out tuned --concatenate
  dca-hub finetune llama-3-8b-instruct --data long.json --out tuned --lora 16 --dtype bfloat16
"""


SCHEDULERS = ("cosine", "linear", "constant", "constant_with_warmup")


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 1, got {text!r}")
    return value


def add(subparsers) -> None:
    parser = subparsers.add_parser(
        "finetune", help=HELP, description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("model", metavar="MODEL", help="a name from `dca-hub models`, a Hub id or a folder")
    add("--data", type=Path, required=True, metavar="FILE", help="dialogues, .json or .jsonl")
    add("--out", type=Path, required=True, metavar="DIR", help="the package to make")
    add("--length", type=positive, default=16384, metavar="N", help="tokens per row (default: 16k)")
    add("--steps", type=positive, default=1600, metavar="N", help="optimizer steps (default: 1600)")
    add("--batch", type=positive, default=1, metavar="N", help="rows per device (default: 1)")
    add("--accumulate", type=positive, default=2, metavar="N", help="batches per step (default: 2)")
    add("--learning-rate", type=float, default=2e-5, metavar="R", help="(default: 2e-5)")
    add("--warmup", type=float, default=0.03, metavar="SHARE", help="share of the steps that warm up (default: 0.03)")
    add("--scheduler", default="cosine", choices=SCHEDULERS, help="schedule of the learning rate (default: cosine)")
    add("--pretraining-length", type=positive, metavar="L",
        help="the trained length that DCA assumes (default: the model's own, or its package's sizes)")  # fmt: skip
    add("--num-data", type=positive, metavar="N", help="train on the first N dialogues only")
    add("--held-out", type=_share, default=0.0, metavar="SHARE",
        help="share of the rows to hold out of training; their loss is reported at every checkpoint")  # fmt: skip
    add("--report-to", default="none", choices=("none", "trackio", "wandb"), help="where to log (default: none)")
    add("--save-every", type=positive, default=400, metavar="N", help="steps between checkpoints (default: 400)")
    add("--lora", type=positive, metavar="RANK", help="train LoRA adapters of this rank; they are merged at the end")
    add("--concatenate", action="store_true", help="join dialogues into long ones, as the authors did")
    add("--no-checkpointing", action="store_true", help="keep all activations: faster, but takes more memory")
    add("--dtype", help="dtype of the weights: float32 (default) or bfloat16")
    add("--seed", type=int, default=0)
    add("--force", action="store_true", help="replace an earlier package in DIR")
    add("--no-verify", action="store_true", help="do not verify the package at the end")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    quiet()
    from dca_hub.evaluation.processes import is_first
    from dca_hub.training.finetune import Settings, finetune

    settings = Settings(
        length=args.length,
        steps=args.steps,
        batch=args.batch,
        accumulate=args.accumulate,
        learning_rate=args.learning_rate,
        warmup=args.warmup,
        save_every=args.save_every,
        lora=args.lora,
        checkpointing=not args.no_checkpointing,
        concatenate=args.concatenate,
        seed=args.seed,
        scheduler=args.scheduler,
        pretraining_length=args.pretraining_length,
        most_dialogues=args.num_data,
        held_out=args.held_out,
        report_to=args.report_to,
    )
    say = lambda words: print(words, file=sys.stderr, flush=True) if is_first() else None
    made = finetune(args.model, args.data, args.out, settings, say, dtype=args.dtype, force=args.force)
    if made is None:
        return 0
    for note in made.notes:
        say(f"note: {note}")
    print(made.folder)
    return 0 if args.no_verify else _verify(made.folder)


def _verify(folder: Path) -> int:
    from dca_hub.verification import Outcome, verify

    failed = 0
    for finding in verify(folder):
        failed += finding.outcome is Outcome.FAILED
        print(finding, flush=True)
    return 1 if failed else 0
