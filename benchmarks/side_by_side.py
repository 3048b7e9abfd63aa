"""Questions about one document, answered by a DCA model and by the plain one with the same weights, side by side.

    python benchmarks/side_by_side.py MODEL DOCUMENT OUT "QUESTION" ["QUESTION" ...] [--pages 1-22] [--tokens 120]

Each side reads the document once, whatever the number of questions. OUT.jsonl holds an answer a line, and is gone on
from; OUT.md is the transcript as a table.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from dca_hub.cli.measuring import progress
from dca_hub.cli.options import quiet
from dca_hub.cli.text import read
from dca_hub.conversation import Answered, Conversation, Reading
from dca_hub.errors import DcaHubError
from dca_hub.generation import Sampling
from dca_hub.json_lines import line
from dca_hub.loading import load

SIDES = (("DCA", True), ("plain", False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("document")
    parser.add_argument("out", type=Path)
    parser.add_argument("questions", nargs="+")
    parser.add_argument("--pages")
    parser.add_argument("--tokens", type=int, default=120, help="of an answer, at most")
    parser.add_argument("--side", choices=[name for name, _ in SIDES], help="ask this one only")
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    args = parser.parse_args()
    quiet()
    document = read(args.document, args.pages)
    path = args.out.with_suffix(".jsonl")
    known = [json.loads(one) for one in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    asked = {(one["side"], one["question"]) for one in known}
    loaded = None
    for side, dca in SIDES:
        left = [question for question in args.questions if (side, question) not in asked]
        if not left or args.side not in (None, side):
            continue
        loaded = loaded or load(args.model, device=args.device, dtype=args.dtype)
        with path.open("a", encoding="utf-8") as file:
            for answered in _answers(loaded, document, dca, left, Sampling(args.tokens)):
                known.append({"side": side, **answered})
                file.write(line(known[-1]))
                file.flush()
    transcript = _transcript(known, args.questions)
    args.out.with_suffix(".md").write_text(transcript, encoding="utf-8")
    print(transcript)


def _answers(loaded, document, dca: bool, questions: list[str], sampling: Sampling):
    conversation = Conversation(loaded, [document], dca, max_context=loaded.context)
    started = time.monotonic()
    with progress("reading") as tell:
        for event in conversation.read_documents():
            tell(event.done, event.total)
    seconds = time.monotonic() - started
    for question in questions:
        said = conversation.fork()
        with progress("answering") as tell:
            for event in said.ask(question, sampling):
                if isinstance(event, Reading):
                    tell(event.done, event.total)
                if isinstance(event, Answered):
                    yield {
                        "question": question,
                        "answer": event.text,
                        "pages": [citation.page for citation in event.citations if citation.supports],
                        "document": document.name,
                        "document_pages": len(document.pages),
                        "tokens": event.stats.prompt_tokens,
                        "trained": loaded.trained,
                        "model": Path(loaded.name).name,
                        "reading_seconds": round(seconds, 1),
                        "device": str(loaded.device),
                        "dtype": str(loaded.model.dtype).removeprefix("torch."),
                    }


def _transcript(known: list[dict], questions: list[str]) -> str:
    first = known[0]
    times = first["tokens"] / first["trained"]
    lines = [
        f"{first['document']}, {first['document_pages']} pages: {first['tokens']:,} tokens with the question, "
        f"{times:.1f} times the {first['trained']:,} that {first['model']} was trained at.",
        "",
        "| question | with DCA | plain |",
        "|---|---|---|",
    ]
    for question in questions:
        said = {one["side"]: one for one in known if one["question"] == question}
        cells = [_cell(said[side]) if side in said else "" for side, _ in SIDES]
        lines.append(f"| {question} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n"


def _cell(one: dict) -> str:
    text = " ".join(one["answer"].split()).replace("|", "\\|") or "(nothing)"
    pages = ", ".join(str(page) for page in dict.fromkeys(one["pages"]))
    return f"{text} *(page {pages})*" if pages else text


if __name__ == "__main__":
    try:
        main()
    except DcaHubError as error:
        sys.exit(f"side_by_side.py: {error}")
