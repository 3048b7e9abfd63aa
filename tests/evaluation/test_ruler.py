"""RULER's average and effective length, from the scores of its 13 tasks."""

import pytest

from dca_hub.evaluation import ruler, runs, summary
from dca_hub.evaluation.runs import Run


def made(scores):
    """Runs of all tasks; `scores` by variant and length, the first task 13 points of a hundred above the others."""

    def run(task, more):
        samples = [
            {"variant": name, "length": n, "id": "accuracy", "score": value + more, "samples": 10}
            for name, by_length in scores.items()
            for n, value in by_length.items()
        ]
        settings = {"metric": "accuracy", "percent": True}
        header = {
            "run": runs.FORMAT, "task": task, "model": "m", "trained": 4096,
            "variants": {name: {"dca": name == "DCA"} for name in scores}, "settings": settings,
        }  # fmt: skip
        return Run(header, tuple(samples))

    return [run(task, 0.13 if task == ruler.TASKS[0] else 0.0) for task in ruler.TASKS]


def test_the_average_is_over_all_13_tasks_and_lengths_count_up_to_the_first_that_fails():
    found = made({"DCA": {4096: 0.86, 8192: 0.85, 16384: 0.80, 32768: 0.87}, "plain": {4096: 0.5}})
    average = ruler.average(found)
    numbers = summary.numbers(average)
    assert numbers["DCA"][4096].value == pytest.approx(0.87) and numbers["DCA"][4096].samples == 130
    assert ruler.effective_lengths(average) == {"DCA": 8192, "plain": None}
    assert "| m, DCA | 87.0 | 86.0 | 81.0 | 88.0 |" in summary.table(average).markdown()
    assert "DCA: 8k tokens" in ruler.words(average) and "below the shortest" in ruler.words(average)


def test_without_all_tasks_there_is_no_average():
    assert ruler.average(made({"DCA": {4096: 0.9}})[1:]) is None
