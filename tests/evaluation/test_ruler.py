"""RULER's average and effective length, from the scores of its 13 tasks; and its prompts, at any length."""

import pytest

from dca_hub import cli
from dca_hub.demo import MODEL_DIR
from dca_hub.errors import DcaHubError
from dca_hub.evaluation import harness, ruler, ruler_tasks, runs, summary
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


NEEDED = "needs the optional packages: pip install -r requirements-evaluate.txt"


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """What RULER needs, and rules for sentences that know no abbreviations, in place of those that are downloaded."""
    for name in ("lm_eval", "wonderwords"):
        pytest.importorskip(name, reason=NEEDED)
    import nltk

    place = tmp_path / "nltk" / "tokenizers" / "punkt_tab" / "english"
    place.mkdir(parents=True)
    for name in ("collocations.tab", "sent_starters.txt", "abbrev_types.txt", "ortho_context.tab"):
        (place / name).write_text("")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "nltk")])


@pytest.fixture
def essays(tmp_path):
    folder = tmp_path / "essays"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / f"{name}.txt").write_text(f"Essay {name} is about herons. " * 60)
    return folder


def prompts(folder, name, length, limit, essays=None):
    tasks = harness.build_tasks([name], {"tokenizer": str(folder)}, length, limit, False, essays)
    return list(tasks.built[0].test_docs())


def test_prompts_are_as_long_and_as_many_as_asked_for(packages, folder, loaded):
    found = prompts(folder, "niah_single_1", 1500, 3)
    assert len(found) == 3 and found == prompts(folder, "niah_single_1", 1500, 3), "the same each time"
    for doc in found:
        tokens = len(loaded.tokenizer(doc["input"])["input_ids"])
        assert 800 < tokens <= 1500 - 128 and doc["outputs"][0] in doc["input"] and "grass is green" in doc["input"]


def test_chains_of_variables_are_the_same_each_time(packages):
    found = prompts(MODEL_DIR, "ruler_vt", 1500, 3)
    assert len({doc["input"] for doc in found}) == 3 and found == prompts(MODEL_DIR, "ruler_vt", 1500, 3)


def test_needles_are_hidden_in_essays_of_a_folder(packages, folder, essays, tmp_path):
    [doc] = prompts(folder, "niah_multivalue", 6000, 1, essays)
    assert "Essay one is about herons." in doc["input"] and len(doc["outputs"]) == 4
    assert all(value in doc["input"] for value in doc["outputs"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DcaHubError, match="'empty' holds no text"):
        prompts(folder, "niah_single_2", 6000, 1, tmp_path / "empty")


def test_one_of_several_right_answers_is_enough_for_questions_and_a_share_elsewhere(packages):
    doc, answer = {"outputs": ["Denver Broncos", "the Broncos"]}, ["It was Denver Broncos.\x00"]
    scores = {name: ruler_tasks.config(name, 4096)["process_results"](doc, answer) for name in ruler.TASKS}
    assert scores["ruler_qa_squad"] == scores["ruler_qa_hotpot"] == {"accuracy": 1}
    assert all(score == {"accuracy": 0.5} for name, score in scores.items() if "_qa_" not in name)
    with pytest.raises(DcaHubError, match="not a RULER task"):
        ruler_tasks.config("niah_single_9", 4096)


def test_ruler_runs_at_a_length_that_the_harness_does_not_know(packages, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(harness, "answer", lambda model, reader, request, *_: {
        "answer": request.context.partition("is: ")[2].partition(".")[0], "cut": 0})  # fmt: skip
    out = tmp_path / "ruler.jsonl"
    command = ["evaluate", str(folder), "--tasks", "niah_single_1", "--lengths", "1500,1700", "--limit", "2"]
    assert cli.main([*command, "--out", str(out)]) == 0
    [run] = runs.read(out)
    assert [(one["length"], one["score"], one["samples"]) for one in run.samples] == [(1500, 1.0, 2), (1700, 1.0, 2)]
