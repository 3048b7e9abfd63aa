"""Answers as files that a person can read and the published evaluators take: question, reference, answer.

L-Eval's `Evaluation/auto_eval.py` takes JSON lines of `query`, `gt`, `MODEL_pred` and `evaluation`, in a file that is
called as the task's own; the SCROLLS evaluator takes one JSON object of answers by id.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dca_hub import json_lines

_LEVAL = {
    "leval_toefl": "tpo",
    "leval_quality": "quality",
    "leval_coursera": "coursera",
    "leval_sfiction": "sci_fi",
    "leval_gsm": "gsm100",
    "leval_codeu": "codeU",
    "leval_topic_retrieval": "topic_retrieval_longchat",
}
_FEW_SHOT = {
    "fewshot_narrativeqa": "few_shot_narrative_qa",
    "fewshot_qasper": "few_shot_qasper",
    "fewshot_quality": "few_shot_quality",
    "fewshot_qmsum": "few_shot_qmsum",
}
FOLDER = ".predictions"  # behind the name of the results beside which they are


def write(out: Path, variant: str, length: int, model: str, samples: Mapping[str, Iterable[dict[str, Any]]]) -> None:
    """Writes the answers of the authors' tasks to `OUT.predictions/VARIANT-LENGTH/`.

    samples: what the harness keeps of each task: `doc`, and the answers as `filtered_resps`.
    """
    folder = out.with_name(out.stem + FOLDER) / f"{_plain(variant)}-{length}"
    for task, held in samples.items():
        answers = [(one["doc"], str(one["filtered_resps"][0])) for one in held]
        if task in _LEVAL:
            name, content = f"{_LEVAL[task]}.jsonl", leval(answers, f"{_plain(model)}_pred")
        elif task in _FEW_SHOT:
            by_id = {doc["id"]: answer for doc, answer in answers}
            name, content = f"{_FEW_SHOT[task]}.json", json.dumps(by_id, indent=1, ensure_ascii=False) + "\n"
        else:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")


def leval(answers: list[tuple[dict[str, Any], str]], key: str) -> str:
    """The lines of an L-Eval prediction file; a statement of its science fiction, asked twice here, is one line."""
    rows: list[dict[str, Any]] = []
    for doc, answer in answers:
        if doc.get("by_document") is False:
            rows[-1][key] = f"{rows[-1][key]} [fact: {' '.join(answer.split())}]"
            continue
        answer = " ".join(answer.split()) if "by_document" in doc else answer
        rows.append({"query": doc["question"], "gt": doc["gt"], key: answer, "evaluation": "exam"})
    return "".join(map(json_lines.line, rows))


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")
