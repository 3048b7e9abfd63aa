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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dca_hub import json_lines
from dca_hub.errors import DcaHubError
from dca_hub.schema import build
from dca_hub.tables import Table

_FIX = "give a file that the evaluation wrote"
FILE = "results.jsonl"  # what a package and its repository call the measurements beside the card
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

    def __post_init__(self):
        if not math.isfinite(self.value) or self.length < 1:
            raise ValueError("value must be a finite number and length positive")
        if self.dca and self.dual_chunk_attention_config is None:
            raise ValueError("dual_chunk_attention_config, the sizes it was measured with, is missing")

    @property
    def name(self) -> str:
        """The task in words."""
        return _NAMES.get(self.task, self.task)


def read(path: Path) -> list[Measurement]:
    """The measurements in a file of them; DcaHubError naming the line that is not one."""
    text = json_lines.read_text(path, "results")
    found = [
        build(Measurement, value, where, lenient=True, fix=_FIX)
        for where, value in json_lines.parse(text, path.name, _FIX)
    ]
    if not found:
        raise DcaHubError(f"{path.name!r} holds no results: give a file that the evaluation wrote.")
    return found


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
    rows = []
    for key in sorted(cells):
        with_dca, base = cells[key].get(True), cells[key].get(False)
        one = with_dca or cells[key][False]
        by = ", ".join(part for part in (one.by, one.date) if part) or "-"
        samples = "-" if one.samples is None else str(one.samples)
        measured = (_cell(with_dca), _cell(base), samples)
        rows.append((f"{one.name} ({one.metric})", one.data or "-", f"{one.length:,}", *measured, by))
    return Table(
        ("task", "data", "tokens", "with DCA", "base model", "samples", "by"), rows, numbers=range(2, 6)
    ).markdown()


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
