"""RULER (Hsieh et al., arXiv 2404.06654) as the field reports it: the average of its 13 tasks at each length, and the
effective length, up to which that average stays above what Llama 2 7B reaches at 4k.

Needs neither torch nor transformers.
"""

from collections.abc import Sequence

from dca_hub.evaluation import summary
from dca_hub.evaluation.runs import Run, Sample

TASKS = (
    *("niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multikey_2", "niah_multikey_3"),
    *("niah_multivalue", "niah_multiquery", "ruler_vt", "ruler_cwe", "ruler_fwe", "ruler_qa_squad", "ruler_qa_hotpot"),
)
THRESHOLD = 0.856  # Llama 2 7B at 4,096 tokens: the paper's bar for an effective length
AVERAGE = "ruler_average"


def average(runs: Sequence[Run]) -> Run | None:
    """The average over RULER's tasks as a run of its own; None where not all 13 were measured."""
    found = {run.task: run for run in runs if run.task in TASKS}
    if len(found) < len(TASKS):
        return None
    first = found[TASKS[0]]
    numbers = {task: summary.numbers(run) for task, run in found.items()}
    samples: list[Sample] = []
    for variant in first.variants:
        for length in first.lengths:
            scores = [numbers[task].get(variant, {}).get(length) for task in TASKS]
            if None not in scores:
                value = sum(one.value for one in scores) / len(scores)
                count = sum(one.samples for one in scores)
                samples.append({"variant": variant, "length": length, "id": AVERAGE, "score": value, "samples": count})
    header = {**first.header, "task": AVERAGE}
    return Run(header, tuple(samples)) if samples else None


def effective_lengths(run: Run) -> dict[str, int | None]:
    """The greatest measured length, by variant, up to which every average is above THRESHOLD; None where none is."""
    found: dict[str, int | None] = {}
    for variant, by_length in summary.numbers(run).items():
        found[variant] = None
        for length, one in sorted(by_length.items()):
            if one.value <= THRESHOLD:
                break
            found[variant] = length
    return found


def words(run: Run) -> str:
    """The effective lengths as lines below the table."""
    lines = []
    for variant, length in effective_lengths(run).items():
        reached = f"{summary.short(length)} tokens" if length else "below the shortest length measured"
        lines.append(f"effective length, {variant}: {reached} (average above {100 * THRESHOLD:.1f})")
    return "\n".join(lines)
