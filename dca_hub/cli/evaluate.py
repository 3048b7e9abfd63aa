"""`evaluate`: tasks of lm-evaluation-harness, its own and the authors'."""

import argparse
import sys
from pathlib import Path

from dca_hub.cli import measuring
from dca_hub.cli.options import positive

HELP = "evaluate tasks: RULER, LongBench, the authors' few-shot set, L-Eval"
DESCRIPTION = """\
Runs tasks of lm-evaluation-harness (`lm-eval ls tasks`; its ruler and longbench among them) and ours:

  fewshot_narrativeqa, fewshot_qasper, fewshot_quality, fewshot_qmsum
      the authors' few-shot set, from --data, the folder of their few_shot_*.jsonl; SCROLLS metrics
  leval_toefl, leval_quality, leval_coursera, leval_sfiction, leval_gsm, leval_codeu, leval_topic_retrieval
      L-Eval's closed-ended tasks, from the Hub or from --data; its scores as published and corrected

Of the harness: `ruler` runs RULER's 13 tasks and reports their average and effective length (average above 85.6) too;
longbench, longbench2, infinitebench, babilong. Downloads are announced first; --essays DIR replaces RULER's.
Beside --out, OUT.predictions holds the answers in the formats of L-Eval's and SCROLLS' evaluators.

A prompt and its answer take at most --lengths tokens. Longer prompts are cut as in the paper: the document of the
few-shot set at its beginning, that of L-Eval at its end, others at their beginning. The result counts those cut.
"""
EPILOG = """\
examples:
  dca-hub evaluate llama-3-8b --tasks fewshot_qasper,fewshot_quality --data few-shot/data --lengths 16k --out f.jsonl
  dca-hub evaluate llama-3-8b-instruct --tasks leval_toefl,leval_coursera --lengths 16k --plain --out leval.jsonl
  dca-hub evaluate qwen2.5-7b-instruct --tasks niah_single_2,ruler_vt --lengths 8k,64k --limit 50 --out niah.jsonl
  dca-hub evaluate qwen2.5-7b-instruct --tasks infinitebench_passkey,longbench2_code --lengths 128k --limit 20
  dca-hub evaluate qwen2.5-7b-instruct --tasks ruler --lengths 4k,8k,16k,32k,64k,128k --plain --out ruler.jsonl
"""


def add(subparsers) -> None:
    parser = subparsers.add_parser(
        "evaluate", help=HELP, description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    measuring.add_measuring(parser, "16k")
    parser.add_argument("--tasks", type=measuring.words, required=True, metavar="NAME,...")
    parser.add_argument("--data", metavar="DIR", help="folder, or dataset on the Hub, with the files of our tasks")
    parser.add_argument(
        "--essays",
        type=Path,
        metavar="DIR",
        help="folder of .txt files in which RULER hides needles (default: the Hub's)",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="at most this many documents of each task")
    measuring.add_batch(parser)
    parser.add_argument(
        "--chat", action=argparse.BooleanOptionalAction, default=None,
        help="put prompts into the model's chat format (default: where it has one)",
    )  # fmt: skip
    parser.set_defaults(run=run)


def _spelled_out(name: str, tasks: tuple[str, ...]) -> tuple[str, ...]:
    return tasks if name == "ruler" else (name,)


def run(args: argparse.Namespace) -> int:
    from dca_hub.evaluation import harness, ruler

    if "ruler" in args.tasks:
        args.tasks = tuple(dict.fromkeys(name for one in args.tasks for name in _spelled_out(one, ruler.TASKS)))

    harness.task_manager(args.tasks, {})  # what is not there is said before a model is loaded
    for taken in harness.from_hub(args.tasks, args.data, args.essays):
        print(f"note: from the Hub: {taken}", file=sys.stderr)
    found = measuring.subject(args)
    with measuring.progress("evaluate") as update:
        measured = harness.measure_tasks(
            found, args.tasks, args.lengths, data=args.data, limit=args.limit, chat=args.chat,
            essays=args.essays, batch=args.batch, out=args.out, progress=update,
        )  # fmt: skip
    for number, one in enumerate(measured, 1):
        picture = args.out and args.out.with_name(f"{args.out.stem}-{one.task}-{number}.png")
        measuring.report(one, args.out, picture)
        if one.task == ruler.AVERAGE:
            print(f"\n{ruler.words(one)}")
        print()
    return 0
