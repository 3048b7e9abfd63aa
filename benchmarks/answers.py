"""Whether the answers of a real model are cited with the pages that they come from.

`python benchmarks/answers.py ask MODEL FOLDER` asks the questions of benchmarks/answers/questions.jsonl about the PDFs
in FOLDER, each about the three or four pages of its document that hold all answers, as `dca-hub ask` does, and writes
answers.jsonl beside them. Whether an answer is right is then marked in that file by hand: "right": true or false.

`python benchmarks/answers.py score FOLDER` cites those answers again and reports precision and recall, against the
three or four pages, and against the whole document. A citation is right when it supports the answer and names one of
the question's pages. Precision: right ones among all citations. Recall: answers that have a right one. The same is
reported of right answers in other words than the document's, which were written by hand for every question.

The PDFs are in Debian's packages doc-debian, debian-policy, bzip2-doc, valgrind and shared-mime-info.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from dca_hub import json_lines
from dca_hub.documents import Citation, Document, cite, parse_pages, read_document

_FOLDER = Path(__file__).with_name("answers")
QUESTIONS, ANSWERS = (_FOLDER / name for name in ("questions.jsonl", "answers.jsonl"))
_SECTIONS = {
    "debian-faq.en.pdf": "9-11",
    "fhs-3.0.pdf": "9-12",
    "manual.pdf": "6-9",
    "valgrind_manual.pdf": "15-17",
    "shared-mime-info-spec.pdf": "3-5",
}
_LONGEST = 48  # tokens of an answer


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in json_lines.split(path.read_text("utf-8")) if line]


def part(document: Document, pages: str) -> Document:
    numbers = parse_pages(pages, document.page_count)
    return replace(document, pages=tuple(page for page in document.pages if page.number in numbers))


def ask(model: str, folder: Path) -> None:
    """Asks every question that answers.jsonl does not have yet."""
    from dca_hub.conversation import Answered, Conversation
    from dca_hub.generation import Sampling
    from dca_hub.loading import load

    known = {(row["file"], row["question"]) for row in rows(ANSWERS)} if ANSWERS.is_file() else set()
    loaded = load(model)
    asked = [row for row in rows(QUESTIONS) if (row["file"], row["question"]) not in known]
    with ANSWERS.open("a", encoding="utf-8") as out:
        for file, group in groupby(asked, key=lambda row: row["file"]):
            conversation = Conversation(loaded, [read_document(folder / file, pages=_SECTIONS[file])])
            for row in group:
                *_, answered = conversation.ask(row["question"], Sampling(_LONGEST, 0.0))
                assert isinstance(answered, Answered)
                conversation.clear()
                told = {"file": file, "question": row["question"], "expected": row["expected"], "pages": row["pages"]}
                told |= {"model": Path(model).name, "answer": answered.text, "right": None}
                print(json.dumps(told, ensure_ascii=False), file=out, flush=True)


def score(folder: Path, every: bool) -> None:
    read = cache(lambda file: read_document(folder / file))
    judged = rows(ANSWERS)
    right = [row for row in judged if row["right"]]
    written = [{**row, "answer": row["in_other_words"]} for row in rows(QUESTIONS)]
    print(f"{len(judged)} questions, {len(right)} right answers of the model\n")
    print("| answers | cited from | precision | recall |\n|---|---|--:|--:|")
    for name, answers in ((f"the model's {len(right)}", right), (f"{len(written)} written by hand", written)):
        scored = _scored(answers, lambda row: part(read(row["file"]), _SECTIONS[row["file"]]), every)
        print(f"| {name} | three or four pages | {scored} |")
        print(f"| {name} | whole document | {_scored(answers, lambda row: read(row['file']), every)} |")


def _scored(answers: list[dict[str, Any]], document: Callable[[dict], Document], every: bool) -> str:
    citations = hits = found = 0
    for row in answers:
        cited = [c for c in cite(row["answer"], document(row), row["question"]) if c.supports]
        correct = [c for c in cited if c.page in row["pages"]]
        citations, hits, found = citations + len(cited), hits + len(correct), found + bool(correct)
        if every and len(correct) != max(1, len(cited)):
            print(f"{_told(cited)}, expected {row['pages']}: {row['question']} {row['answer']!r}")
    return f"{hits / max(1, citations):.2f} | {found / max(1, len(answers)):.2f}"


def _told(cited: list[Citation]) -> str:
    return ", ".join(f"page {c.page} {c.grade.value} {c.score}" for c in cited) or "no page"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    asking = commands.add_parser("ask", help="ask a model")
    asking.add_argument("model")
    scoring = commands.add_parser("score", help="cite the marked answers")
    scoring.add_argument("--every", action="store_true", help="print the answers that are cited otherwise")
    for command in (asking, scoring):
        command.add_argument("folder", type=Path, help="where the PDFs are")
    args = parser.parse_args()
    if args.command == "ask":
        ask(args.model, args.folder)
    else:
        score(args.folder, args.every)


if __name__ == "__main__":
    main()
