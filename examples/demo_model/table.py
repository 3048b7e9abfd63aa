"""Measure how surely the demo model finds a number, over ten wordings: python -m examples.demo_model.table --text FILE

Every wording is asked as a question in the model's own format and as a text that goes on, over prose as it is and over
prose with other numbers in it, with the key at eleven depths. Prints Markdown.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict

import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

from dca_hub import extend
from dca_hub.demo import MODEL_DIR, TRAINED_LENGTH
from dca_hub.errors import DcaHubError
from dca_hub.evaluation.texts import read_books
from examples.demo_model.asking import FORMS, Asker, Trial, batch_tokens, share
from examples.demo_model.wordings import MEASURED


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m examples.demo_model.table", description=__doc__)
    add = made.add_argument
    add("--text", required=True, help="text that the model was not trained on: a file or a folder")
    add("--model", default=str(MODEL_DIR), help="checkpoint folder (default: the one that comes with the package)")
    add("--lengths", default="512,1024,2048,4096,8192,16384", help="default: %(default)s")
    add("--sizes", default="511:255", help="C:w (default: %(default)s)")
    add("--temperature", type=float, default=0.14, help="default: %(default)s")
    add("--trials", type=int, default=11, help="prompts a cell, at evenly spread depths (default: %(default)s)")
    add("--seed", type=int, default=0)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--out", help="file to write the trials to, as JSON lines")
    return made


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        trials = measure(options)
    except DcaHubError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if options.out:
        with open(options.out, "w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(asdict(trial) | {"found": trial.found}) + "\n" for trial in trials)
    print(markdown(trials))
    return 0


def measure(options: argparse.Namespace) -> list[Trial]:
    """All trials."""
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    base = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).to(options.device).eval()
    c, w = (int(part) for part in options.sizes.split(":"))
    sizes = {"pretraining_length": TRAINED_LENGTH, "chunk_size": c, "local_size": w}
    model = extend(base, **sizes, temperature=options.temperature)
    asker = Asker(model, tokenizer, "\n\n".join(read_books(options.text)), batch_tokens(options.device))
    cells = asker.cells([int(part) for part in options.lengths.split(",")])
    with tqdm(total=len(cells) * options.trials, unit="prompt") as bar:
        return list(asker.run(cells, options.trials, options.seed, bar.update))


def markdown(trials: Iterable[Trial]) -> str:
    """Percentages by wording and length: asked / gone on to, and the same over texts with other numbers."""
    cells: dict[tuple, list[Trial]] = defaultdict(list)
    for trial in trials:
        cells[trial.wording, trial.length, trial.numbers, trial.form].append(trial)
        cells[None, trial.length, trial.numbers, trial.form].append(trial)
    lengths = sorted({length for _, length, _, _ in cells})
    kinds = [numbers for numbers in (False, True) if any(key[2] == numbers for key in cells)]
    head = [f"{length:,}{', numbers' if numbers else ''}" for numbers in kinds for length in lengths]
    lines = ["| wording | taught | " + " | ".join(head) + " |", "|---|---|" + "---:|" * len(head)]
    for number in (*range(len(MEASURED)), None):
        said = "**all**" if number is None else MEASURED[number].sentence.format(key="12345")
        taught = "" if number is None else "yes" if MEASURED[number].taught else "no"
        shares = [
            " / ".join(f"{100 * share(cells[number, length, numbers, form]):.0f}" for form in FORMS)
            for numbers in kinds
            for length in lengths
        ]
        lines.append(f"| {said} | {taught} | " + " | ".join(shares) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
