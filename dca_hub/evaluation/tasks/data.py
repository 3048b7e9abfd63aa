"""Documents of our tasks in the authors' formats, and their scores; lm-evaluation-harness finds these by name."""

import re
from pathlib import Path
from typing import Any

from datasets import Dataset

from dca_hub import json_lines
from dca_hub.errors import DcaHubError, Fix
from dca_hub.evaluation import metrics
from dca_hub.evaluation.cutting import Side, marked

LEVAL = "L4NLP/LEval"
_FEW_SHOT = "the authors' few-shot data (few-shot/data of their repository)"
_FEW_SHOT_KEYS = {"id": str, "input": str, "query": str, "output": str, "query_examples": list, "output_examples": list}
_LEVAL_KEYS = {"input": str, "instructions": list, "outputs": list}
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_WORDS = {str: "text", list: "a list of texts"}


def _lines(name: str, data: str | None, default: str | None, what: str) -> list[dict[str, Any]]:
    """The JSON lines of the file of that name, in a folder or a data set of the Hub."""
    path = _find(f"{name}.jsonl", data or default, what)
    text = json_lines.read_text(path, "data")
    found = [value for _, value in json_lines.parse(text, path.name, f"it must be {what}")]
    if not found:
        raise DcaHubError(f"{path.name} holds no documents: it must be {what}.")
    return found


def _find(name: str, given: str | None, what: str) -> Path:
    if given is None:
        raise DcaHubError(f"{name} is not on the Hub", Fix(f"give {{}}, the folder that holds {what}", "data"))
    folder = Path(given).expanduser()
    if not folder.is_dir() and not _HUB_NAME.fullmatch(given):
        raise DcaHubError(f"There is no folder {folder.name!r}: give the folder of {what}.")
    if folder.is_dir():
        found = next(iter(sorted(folder.rglob(name))), None)
        if found is None:
            raise DcaHubError(f"There is no {name} in {folder.name!r}: give the folder of {what}.")
        return found
    from huggingface_hub import hf_hub_download, list_repo_files

    folder_given = Fix(f"give {{}}, the folder of {what}", "data")

    try:
        files = [file for file in list_repo_files(given, repo_type="dataset") if file.rpartition("/")[2] == name]
        if files:
            return Path(hf_hub_download(given, files[0], repo_type="dataset"))
    except Exception as error:  # the client raises what its transport does
        raise DcaHubError(
            f"{given} could not be downloaded from the Hub ({type(error).__name__})",
            "connect to the network",
            folder_given,
        ) from None
    raise DcaHubError(f"The data set {given} holds no {name}", folder_given)


def _want(entry: dict, kinds: dict[str, type], name: str) -> None:
    wrong = f"{name}.jsonl is not in the authors' format: an entry"
    missing = [key for key in kinds if key not in entry]
    if missing:
        raise DcaHubError(f"{wrong} lacks {', '.join(missing)}.")
    for key, kind in kinds.items():
        held = entry[key] if kind is list else [entry[key]]
        if not isinstance(held, list) or not all(isinstance(one, str) for one in held):
            raise DcaHubError(f"{wrong} has {entry[key]!r:.40} as {key}, which must be {_WORDS[kind]}.")


def few_shot(name: str, data: str | None = None, **_: Any) -> dict[str, Dataset]:
    """Their few-shot set: a document, some questions with answers, and the question. Entries of one id are one
    question with several right answers."""
    found: dict[str, dict[str, Any]] = {}
    for entry in _lines(f"few_shot_{name}", data, None, _FEW_SHOT):
        _want(entry, _FEW_SHOT_KEYS, f"few_shot_{name}")
        known = found.get(entry["id"])
        if known:
            known["references"] += [entry["output"]] * (entry["output"] not in known["references"])
            continue
        if len(entry["query_examples"]) != len(entry["output_examples"]):
            raise DcaHubError(f"few_shot_{name}.jsonl: {entry['id']} has unequal numbers of queries and outputs.")
        shots = "".join(
            f"\n\nQuestion: {query} \nAnswer:{answer}"
            for query, answer in zip(entry["query_examples"], entry["output_examples"], strict=True)
        )
        asked = f"{shots}\n\nQuestion: {entry['query']} \nAnswer:"
        prompt = marked(entry["input"], "left") + asked
        found[entry["id"]] = {"id": entry["id"], "prompt": prompt, "references": [entry["output"]]}
    return {"test": Dataset.from_list(list(found.values()))}


def narrative_qa(**kwargs):
    return few_shot("narrative_qa", **kwargs)


def qasper(**kwargs):
    return few_shot("qasper", **kwargs)


def quality(**kwargs):
    return few_shot("quality", **kwargs)


def qmsum(**kwargs):
    return few_shot("qmsum", **kwargs)


def _answer(text: str) -> str:
    """What the authors take for the answer: the first part with something in it before a model asks itself on."""
    parts = text.split("Question:")
    return next((part for part in parts if len(part.replace("\n", "")) > 1), text).strip()


def score_f1(doc: dict, results: list[str]) -> dict[str, float]:
    return {"f1": metrics.best(metrics.f1, _answer(results[0]), doc["references"])}


def score_exact_match(doc: dict, results: list[str]) -> dict[str, float]:
    return {"exact_match": metrics.best(metrics.exact_match, _answer(results[0]), doc["references"])}


def score_rouge(doc: dict, results: list[str]) -> dict[str, tuple]:
    return {"rouge_geometric_mean": metrics.rouge(_answer(results[0]), doc["references"])}


def geometric_mean(items: list[tuple]) -> float:
    return metrics.geometric_mean(items)


def _leval(name: str, data: str | None) -> list[tuple[str, str, str]]:
    """(document, question, answer) of a file of L-Eval."""
    found = []
    for entry in _lines(name, data, LEVAL, f"L-Eval's closed-ended tasks ({name}.jsonl)"):
        _want(entry, _LEVAL_KEYS, name)
        if len(entry["instructions"]) != len(entry["outputs"]):
            raise DcaHubError(f"{name}.jsonl has a document with unequal numbers of instructions and outputs.")
        found += [
            (entry["input"], question, answer)
            for question, answer in zip(entry["instructions"], entry["outputs"], strict=True)
        ]
    return found


def _exam(name: str, several: bool, data: str | None) -> dict[str, Dataset]:
    rows = [
        {
            "prompt": _with_document(document, question),
            "reference": answer,
            "several": several,
            "question": question,
            "gt": answer,
        }
        for document, question, answer in _leval(name, data)
    ]
    return {"test": Dataset.from_list(rows)}


def _with_document(document: str, question: str) -> str:
    asked = "Please directly give answer without any additional output or explanation"
    return f"Document is as follows. {marked(document, 'right')} \nQuestion: {question}. {asked} "


def tpo(data: str | None = None, **_):
    return _exam("tpo", False, data)


def leval_quality(data: str | None = None, **_):
    return _exam("quality", False, data)


def coursera(data: str | None = None, **_):
    return _exam("coursera", True, data)


def _followed(name: str, side: Side, data: str | None) -> dict[str, Dataset]:
    """Questions that follow their document as they are, without a word about it."""
    rows = [
        {"prompt": f"{marked(document, side)}\n\n{question}", "reference": answer, "question": question, "gt": answer}
        for document, question, answer in _leval(name, data)
    ]
    return {"test": Dataset.from_list(rows)}


def gsm100(data: str | None = None, **_):
    return _followed("gsm100", "right", data)


def code_u(data: str | None = None, **_):
    return _followed("codeU", "left", data)  # what is called stands at the end


def topic_retrieval(data: str | None = None, **_):
    return _followed("topic_retrieval_longchat", "right", data)


def sci_fi(data: str | None = None, **_):
    """Each statement twice: by the document, and by what is so in the world, as the reference "True [fact: False]" has
    it; the score is the mean of both."""
    rows, world = [], "based on the real-world knowledge and facts up until your last training"
    for document, question, reference in _leval("sci_fi", data):
        by_document, found, fact = reference.lower().partition("[fact:")
        if not found:
            raise DcaHubError(
                f"sci_fi.jsonl: {reference!r:.60} names no fact: get L-Eval's file of October 2023 or later."
            )
        asked = question.replace("based on the world described in the document.", world)
        # What is so in the world is asked without the instruction to go by the document.
        alone = f"{asked} Please directly answer without any additional output or explanation. "
        for by, prompt, answer in ((True, _with_document(document, question), by_document), (False, alone, fact)):
            row = {"prompt": prompt, "reference": metrics.judged(answer), "by_document": by}
            rows.append({**row, "question": question, "gt": reference})
    return {"test": Dataset.from_list(rows)}


def score_exam(doc: dict, results: list[str]) -> dict[str, float]:
    asked = results[0], doc["reference"], doc["several"]
    return {"exam": metrics.exam(*asked), "exam_as_published": metrics.published_exam(*asked)}


def score_judged(doc: dict, results: list[str]) -> dict[str, float]:
    return {"accuracy": float(metrics.judged(results[0]) == doc["reference"])}


def score_solved(doc: dict, results: list[str]) -> dict[str, float]:
    asked = results[0], doc["reference"]
    return {"exact_match": metrics.solved(*asked), "exact_match_as_published": metrics.published_solved(*asked)}


def score_printed(doc: dict, results: list[str]) -> dict[str, float]:
    asked = results[0], doc["reference"]
    return {
        "exact_match": metrics.printed(*asked),
        "exact_match_as_published": metrics.printed(*asked, published=True),
    }


def score_topic(doc: dict, results: list[str]) -> dict[str, float]:
    return {"exact_match": metrics.holds(results[0], doc["reference"])}
