"""Measurements as model cards have them: a file of JSON lines, one measurement a line.

Every line is an object with these keys; others are left alone. `dca_hub.evaluation.summary.read` takes the files of
runs (a header and samples) too, as what they come to.

| key | value |
|---|---|
| `task` | what was measured: `perplexity`, `passkey`, `needle`, or the name of another task |
| `metric` | how: `perplexity`, `accuracy`, ... |
| `value` | the number; accuracies from 0 to 1 |
| `length` | tokens of context |
| `dca` | true for the DCA model, false for the plain base model beside it |
| `model` | the base that was measured: its Hub id, or the catalogue's name |
| `dual_chunk_attention_config` | the sizes it was measured with, as in config.json; needed where `dca` is true |
| `data` | optional: the text it was measured on |
| `samples` | optional: how many prompts, windows or questions |
| `error` | optional: the standard error of `value` |
| `by`, `date` | optional: who measured, and when (YYYY-MM-DD) |
| `command` | optional: the command line that gives the number again |
"""

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dca_hub import json_lines
from dca_hub.errors import DcaHubError

_FIX = "give a file that the evaluation wrote"
FILE = "results.jsonl"  # what a package and its repository call the measurements beside the card
_NUMBER = (int, float)
_TYPES = {
    "task": str,
    "metric": str,
    "value": _NUMBER,
    "length": int,
    "dca": bool,
    "model": str,
    "dual_chunk_attention_config": dict,
    "data": str,
    "samples": int,
    "error": _NUMBER,
    "by": str,
    "date": str,
    "command": str,
}
_NAMES = {
    "perplexity": "Perplexity",
    "passkey": "Pass key found",
    "needle": "Needle found",
}


@dataclass(frozen=True)
class Measurement:
    """One measurement; see the table of this module."""

    task: str
    metric: str
    value: float
    length: int
    dca: bool
    model: str
    dual_chunk_attention_config: dict[str, Any] | None = None
    data: str | None = None
    samples: int | None = None
    error: float | None = None
    by: str | None = None
    date: str | None = None
    command: str | None = None

    @property
    def name(self) -> str:
        """The task in words."""
        return _NAMES.get(self.task, self.task)


def read(path: Path) -> list[Measurement]:
    """The measurements in a file of them; DcaHubError naming the line that is not one."""
    text = json_lines.read_text(path, "results")
    found = [_result(value, where) for where, value in json_lines.parse(text, path.name, _FIX)]
    if not found:
        raise DcaHubError(f"{path.name!r} holds no results: give a file that the evaluation wrote.")
    return found


def _result(value: dict[str, Any], where: str) -> Measurement:
    for key in ("task", "metric", "value", "length", "dca", "model"):
        if key not in value:
            raise DcaHubError(f"{where} lacks {key!r}: give a file that the evaluation wrote.")
    known = {field.name: value[field.name] for field in fields(Measurement) if value.get(field.name) is not None}
    for key, held in known.items():
        # bool is an int to Python: without the second test `length: true` would pass as 1.
        if not isinstance(held, _TYPES[key]) or (isinstance(held, bool) and _TYPES[key] is not bool):
            raise DcaHubError(f"{where}: {key!r} cannot be {held!r}.")
    if not math.isfinite(known["value"]) or known["length"] < 1:
        raise DcaHubError(f"{where}: value must be a finite number and length positive.")
    if known["dca"] and "dual_chunk_attention_config" not in known:
        raise DcaHubError(f"{where} says nothing of the sizes it was measured with (dual_chunk_attention_config).")
    return Measurement(**known)


def refuse_foreign(results: list[Measurement], names: set[str], sizes: dict[str, Any]) -> None:
    """DcaHubError unless every measurement is of this base, and of these sizes where it is one of DCA.

    Args:
        names: what the base is called: its Hub id, its catalogue name; empty where it has no name that others know.
        sizes: the package's `dual_chunk_attention_config`.
    """
    accepted = {name.lower() for name in names}
    for result in results:
        if accepted and result.model.lower() not in accepted:
            raise DcaHubError(
                f"The results are of {result.model!r} and the package is of {' or '.join(sorted(names))}: "
                "give the results of this model."
            )
        measured = result.dual_chunk_attention_config
        if result.dca and measured != sizes:
            raise DcaHubError(
                f"The results were measured with {measured} and the package has {sizes}: measure it again."
            )


def model_index(results: list[Measurement], name: str, source: str | None) -> list[dict[str, Any]]:
    """The `model-index` of a model card, DCA results only: those of the base are not of this model.

    Args:
        name: what the model is called.
        source: the address of the file that the numbers come from, or None.
    """
    entries = []
    for result in sorted((r for r in results if r.dca), key=lambda r: (r.task, r.data or "", r.length)):
        about = f"{result.name} at {result.length:,} tokens"
        entry: dict[str, Any] = {
            "task": {"type": "text-generation", "name": "Text generation"},
            "dataset": {"type": result.task, "name": f"{result.data or result.name} ({result.length:,} tokens)"},
            "metrics": [{"type": result.metric, "value": result.value, "name": about}],
        }
        if source:
            entry["source"] = {"name": result.by or "dca_hub evaluation", "url": source}
        entries.append(entry)
    return [{"name": name, "results": entries}] if entries else []


def table(results: list[Measurement]) -> str:
    """The measurements as a Markdown table, DCA and base side by side."""
    cells: dict[tuple, dict[bool, Measurement]] = {}
    for result in results:
        cells.setdefault((result.task, result.metric, result.data or "", result.length), {})[result.dca] = result
    lines = ["| task | data | tokens | with DCA | base model | samples | by |", "|---|---|---:|---:|---:|---:|---|"]
    for key in sorted(cells):
        with_dca, base = cells[key].get(True), cells[key].get(False)
        one = with_dca or base
        by = ", ".join(part for part in (one.by, one.date) if part) or "-"
        measured = f"{_cell(with_dca)} | {_cell(base)} | {one.samples if one.samples is not None else '-'}"
        lines.append(f"| {one.name} ({one.metric}) | {one.data or '-'} | {one.length:,} | {measured} | {by} |")
    return "\n".join(lines)


def to_lines(results: list[Measurement]) -> str:
    """A file of measurements: what `read` reads again."""
    lines = [{key: value for key, value in asdict(result).items() if value is not None} for result in results]
    return "".join(map(json_lines.line, lines))


def commands(results: list[Measurement]) -> list[str]:
    """The command lines that give the numbers again, each once."""
    return list(dict.fromkeys(result.command for result in results if result.command))


def _cell(result: Measurement | None) -> str:
    if result is None:
        return "-"
    spread = f" ± {result.error:.2g}" if result.error is not None else ""
    return f"{result.value:.4g}{spread}"
