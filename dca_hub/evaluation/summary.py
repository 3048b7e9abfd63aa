"""What a run comes to: a number for each variant and length, as measurements for a model card and as tables.

Needs neither torch nor transformers.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dca_hub import results
from dca_hub.evaluation import runs
from dca_hub.evaluation.metrics import mean_and_error, perplexity
from dca_hub.evaluation.runs import Run, Sample
from dca_hub.results import Measurement
from dca_hub.tables import Table

NEEDLES = ("passkey", "needle")
_MOST_DEPTHS = 21  # rows of a heat map or a table
_LARGEST = 100  # above it a perplexity says only that the model is lost; the authors' tables write ">100"


@dataclass(frozen=True)
class Number:
    """A measured value with its standard error, over `samples` samples."""

    value: float
    error: float | None
    samples: int


def metric(run: Run) -> str:
    """What the number of a run is."""
    if run.task == "perplexity":
        return "perplexity"
    return "accuracy" if run.task in NEEDLES else run.header["settings"]["metric"]


def number(run: Run, samples: Sequence[Sample]) -> Number:
    """The number of some samples: a perplexity, a mean, or what a task's own metric has made of its documents."""
    if len(samples) == 1 and "score" in samples[0]:
        return Number(samples[0]["score"], samples[0].get("error"), samples[0].get("samples", 1))
    if run.task == "perplexity":
        means = [sample["nats"] / sample["tokens"] for sample in samples]
        middle, error = mean_and_error(means)
        value = perplexity(middle)
        return Number(value, error * value if math.isfinite(value) else None, len(samples))
    return Number(*mean_and_error([float(sample["found"]) for sample in samples]), len(samples))


def numbers(run: Run) -> dict[str, dict[int, Number]]:
    """By variant and length."""
    return {
        name: {
            length: number(run, held)
            for length in run.lengths
            if (held := [sample for sample in run.of(name) if sample["length"] == length])
        }
        for name in run.variants
    }


def curves(run: Run) -> dict[str, list[tuple[int, float]]]:
    """(length, value) by variant, for a picture; what is no finite number is left out."""
    return {
        name: [(length, one.value) for length, one in found.items() if math.isfinite(one.value)]
        for name, found in numbers(run).items()
    }


def cells(run: Run) -> dict[str, dict[tuple[int, float], float]]:
    """The share of needles found, 0 to 1, by variant and (length, depth)."""
    found: dict[str, dict[tuple[int, float], list[bool]]] = {name: {} for name in run.variants}
    for sample in run.samples:
        found[sample["variant"]].setdefault((sample["length"], sample["depth"]), []).append(sample["found"])
    return {name: {cell: sum(all_) / len(all_) for cell, all_ in held.items()} for name, held in found.items()}


def is_map(run: Run) -> bool:
    """Whether a run's needles are shown depth by depth; at random depths they are shown by length alone."""
    depths = {sample["depth"] for sample in run.samples} if run.task in NEEDLES else set()
    return 0 < len(depths) <= _MOST_DEPTHS


def data(run: Run) -> str:
    """What a run was measured on, in words."""
    settings = run.header["settings"]
    if run.task == "perplexity":
        return settings["data"] + (", as the authors" if settings.get("definition") == "authors" else "")
    if run.task in NEEDLES:
        several = f", {settings['needles']} needles" if settings.get("needles", 1) > 1 else ""
        return "key-value pairs" if settings["haystack"] == "pairs" else f"{settings['haystack']}{several}"
    return settings.get("data", run.task)


def title(run: Run) -> str:
    """What a run was measured on, for people: without the hash that tells two texts of one name apart."""
    return re.sub(r" [0-9a-f]{8}(?=,|$)", "", data(run))


def measurements(run: Run) -> list[Measurement]:
    """What a model card says of a run: the DCA model and the plain base, and no ablations or scalings."""
    header, found = run.header, []
    for name, by_length in numbers(run).items():
        if name not in ("DCA", "plain"):
            continue
        about: dict[str, Any] = header["variants"][name]
        for length, one in by_length.items():
            if math.isfinite(one.value):
                found.append(
                    Measurement(
                        task=run.task,
                        metric=metric(run),
                        value=round(one.value, 6),
                        length=length,
                        dca=bool(about["dca"]),
                        model=header["model"],
                        dual_chunk_attention_config=about.get("dual_chunk_attention_config"),
                        data=data(run),
                        samples=one.samples,
                        error=None if one.error is None else round(one.error, 6),
                        date=header.get("date"),
                        command=header.get("command"),
                    )
                )
    return found


def read(path: Path) -> list[Measurement]:
    """The measurements in a file: of one or more runs, or of ready ones.

    Raises DcaHubError naming the line that is neither.
    """
    if not runs.is_run(path):
        return results.read(path)
    return [result for run in runs.read(path) for result in measurements(run)]


def table(run: Run) -> Table:
    """The table of a run: a row for each variant, a column for each length, as in the authors' README."""
    rows = [
        (f"{run.header['model']}, {name}", *(_cell(run, by_length.get(length)) for length in run.lengths))
        for name, by_length in numbers(run).items()
    ]
    return Table((_heading(run), *map(short, run.lengths)), rows)


def _heading(run: Run) -> str:
    if run.task == "perplexity":
        return run.task
    return f"{run.task}: {metric(run)}{', %' if in_percent(run) else ''}"


def in_percent(run: Run) -> bool:
    """Whether a number is known to be a share of 1; the metrics of others are shown as they are."""
    return run.task in NEEDLES or bool(run.header["settings"].get("percent"))


def _cell(run: Run, one: Number | None) -> str:
    if one is None:
        return "-"
    if run.task == "perplexity":
        return f"{one.value:.2f}" if one.value <= _LARGEST else f">{_LARGEST}"
    if run.task in NEEDLES:
        return f"{100 * one.value:.0f}"
    return f"{100 * one.value:.1f}" if in_percent(run) else f"{one.value:.4g}"


def depth_table(run: Run, variant: str) -> Table:
    """The needles found at each depth of each length, in percent: depths down, lengths across."""
    found = cells(run)[variant]
    percent = lambda share: "-" if share is None else f"{100 * share:.0f}"
    rows = [
        (f"{100 * depth:.0f} %", *(percent(found.get((length, depth))) for length in run.lengths))
        for depth in sorted({depth for _, depth in found})
    ]
    return Table((f"{variant}: depth", *map(short, run.lengths)), rows)


def tables(run: Run) -> list[Table]:
    """The table of a run, and where its needles are shown depth by depth those of its variants."""
    return [table(run), *(depth_table(run, name) for name in run.variants if is_map(run))]


def short(length: int) -> str:
    """A length as tables have it: 4k for 4,096."""
    return f"{length // 1024}k" if length % 1024 == 0 else f"{length:,}"


def conditions(run: Run) -> str:
    """What a run was measured with, in a line."""
    header, settings = run.header, run.header["settings"]
    said = ", ".join(
        f"{key} {value}" for key, value in settings.items() if value not in (None, "", [], {}) and key != "percent"
    )
    versions = ", ".join(f"{name} {version}" for name, version in header.get("versions", {}).items())
    on = ", ".join(str(header[key]) for key in ("dtype", "device", "date") if header.get(key))
    shown = sum(sample.get("samples", 1) for sample in run.samples)
    cut = dict.fromkeys(  # once, since all variants were given the same
        f"; {one['cut']:,} of {one['samples']:,} prompts were cut to {one['length']:,} tokens"
        for one in run.samples
        if one.get("cut")
    )
    return f"{shown:,} sample{'' if shown == 1 else 's'}; {said}; {on}; {versions}{''.join(cut)}"
