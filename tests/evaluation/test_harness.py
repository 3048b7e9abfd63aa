"""Tasks of lm-evaluation-harness: ours and its own, cut, resumed, and what is refused."""

import json

import pytest
import torch
import yaml
from tiny_checkpoints import byte_tokenizer

from dca_hub import cli
from dca_hub.errors import UserError
from dca_hub.evaluation import harness, runs
from dca_hub.evaluation.answering import Reader, Request, answer
from dca_hub.evaluation.cutting import cut, marked, unmarked

NEEDED = 'needs the optional packages: pip install "dca-hub[evaluate]"'
FEW = ("narrative_qa", "qasper", "quality", "qmsum")
OURS = ["fewshot_narrativeqa", "fewshot_qasper", "fewshot_quality", "fewshot_qmsum",
        "leval_toefl", "leval_quality", "leval_coursera", "leval_sfiction"]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two documents for every task of ours, in the authors' formats; one question has two right answers."""
    place = tmp_path_factory.mktemp("data")

    def write(name, entries):
        (place / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in entries))

    for name in FEW:
        entries = [
            {"id": f"q{k}", "pid": "p", "input": f"Document {k}. " * 40, "query": "What?", "output": "this",
             "query_examples": ["Who?"], "output_examples": [" me"]}
            for k in (0, 1)
        ]  # fmt: skip
        write(f"few_shot_{name}", [*entries, {**entries[0], "output": "that"}])
    exam = {"input": "A text. " * 60, "instructions": ["Which?", "And?"], "outputs": ["A", "AB"], "evaluation": "exam"}
    for name in ("tpo", "quality", "coursera"):
        write(name, [exam])
    so = "Is it so, based on the world described in the document."
    write("sci_fi", [{**exam, "instructions": [so], "outputs": ["True [fact: False]"]}])
    return place


def test_documents_are_cut_at_the_side_that_is_marked():
    tokenizer = byte_tokenizer()
    text = lambda found: tokenizer.decode(found.ids, skip_special_tokens=True)
    left, right = ("ab" + marked("0123456789", side) + "yz" for side in ("left", "right"))
    assert text(cut(tokenizer, left, 9, special=False)) == "ab56789yz"
    assert text(cut(tokenizer, right, 9, special=False)) == "ab01234yz"
    assert (
        cut(tokenizer, right, 9, special=False).removed == 5 and cut(tokenizer, right, 14, special=False).removed == 0
    )
    assert text(cut(tokenizer, "0123456789", 4, special=False)) == "6789"
    assert unmarked(left) == "ab0123456789yz"
    with pytest.raises(UserError, match="around its document"):
        cut(tokenizer, left, 4, special=False)


@torch.no_grad()
def test_likelihoods_are_those_of_a_direct_computation(loaded):
    reader = Reader(loaded.tokenizer, chat=True)
    found = answer(loaded.model, reader, Request("loglikelihood", "The heron stood ", "by the"), 256)
    ids = loaded.tokenizer("The heron stood by the", add_special_tokens=False, return_tensors="pt")["input_ids"]
    scores = loaded.model(ids).logits[0].log_softmax(-1)
    expected = sum(scores[k - 1, ids[0, k]].item() for k in range(len("The heron stood"), ids.shape[1]))
    assert found["logprob"] == pytest.approx(expected, rel=1e-4) and found["cut"] == 0


def test_text_ends_where_a_task_wants_it_to(loaded):
    reader = Reader(loaded.tokenizer, chat=True)
    whole = answer(loaded.model, reader, Request("generate_until", "The heron ", options={"max_gen_toks": 12}), 64)
    stop = whole["answer"][3]
    options = {"max_gen_toks": 12, "until": [stop]}
    cut_off = answer(loaded.model, reader, Request("generate_until", "The heron ", options=options), 64)
    assert cut_off["answer"] == whole["answer"][: whole["answer"].index(stop)]


def test_without_the_harness_it_says_what_to_install(monkeypatch, folder, capsys):
    import builtins

    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("lm_eval"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert cli.main(["evaluate", str(folder), "--tasks", "leval_toefl"]) == 2
    assert 'pip install "dca-hub[evaluate]"' in capsys.readouterr().err


def test_the_task_files_are_whole():
    files = sorted(harness.OURS.glob("*.yaml"))
    assert sorted(path.stem for path in files) == sorted(OURS)
    for path in files:
        text = path.read_text()
        assert yaml.safe_load(text.replace("!function ", ""))["task"] == path.stem


def test_our_tasks_run_resume_and_say_what_was_cut(folder, data, tmp_path, capsys, monkeypatch):
    pytest.importorskip("lm_eval", reason=NEEDED)
    pytest.importorskip("rouge_score", reason=NEEDED)
    out = tmp_path / "tasks.jsonl"
    command = ["evaluate", str(folder), "--data", str(data), "--lengths", "500", "--limit", "1", "--out", str(out)]
    monkeypatch.setattr(Request, "room", 16)  # the answers of a random model are of no interest
    assert cli.main([*command, "--tasks", ",".join(OURS)]) == 0
    said = capsys.readouterr().out
    found = {run.task: run for run in runs.read(out)}
    assert sorted(found) == sorted(OURS)
    assert found["fewshot_qmsum"].header["settings"]["metric"] == "rouge_geometric_mean"
    assert "1 of 1 prompts were cut to 500 tokens for DCA" in said
    answers = out.with_name("tasks.answers.jsonl")
    before = answers.read_bytes()
    assert cli.main([*command, "--tasks", ",".join(OURS)]) == 0
    assert answers.read_bytes() == before, "nothing was asked again"
    assert {run.task: run.samples for run in runs.read(out)} == {task: run.samples for task, run in found.items()}


def test_scores_are_those_of_the_answers(loaded, folder, data, monkeypatch):
    """Answers that are known beforehand, through the harness and back."""
    pytest.importorskip("lm_eval", reason=NEEDED)
    from dca_hub.evaluation import variants
    from dca_hub.evaluation.experiments import Subject

    said = {"fewshot_qasper": iter(["\n\nthis\nQuestion: more", "something this"]), "leval_coursera": iter(["A", "A"]),
            "leval_sfiction": iter(["True.", "It is true"])}  # fmt: skip
    monkeypatch.setattr(harness, "answer", lambda model, reader, request, length, tell: {
        "answer": next(said["fewshot_qasper" if "Who?" in request.context else "leval_coursera"
                            if "Which?" in request.context or "And?" in request.context else "leval_sfiction"]),
        "cut": 0})  # fmt: skip
    subject = Subject.of(loaded, variants.build(loaded), str(folder))
    names = list(said)
    found = harness.measure_tasks(subject, names, [900], name=str(folder), data=str(data))
    scores = {run.task: run.samples[0]["score"] for run in found}
    assert scores["fewshot_qasper"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["leval_coursera"] == pytest.approx((1 + 0.25) / 2)
    assert scores["leval_sfiction"] == pytest.approx(0.5)
    assert all(run.samples[0]["samples"] == 2 for run in found)


@pytest.mark.parametrize(
    "args, words",
    [
        (("--tasks", "leval_tofl"), "did you mean leval_toefl"),
        (("--tasks", "fewshot_qasper"), "give --data"),
        (("--tasks", "fewshot_qasper", "--data", "{empty}"), "There is no few_shot_qasper.jsonl"),
        (("--tasks", "leval_toefl", "--data", "{broken}"), "not JSON lines"),
        (("--tasks", "leval_coursera", "--data", "{broken}"), "lacks instructions"),
        (("--tasks", "leval_sfiction", "--data", "{broken}"), "names no fact"),
        (("--tasks", "leval_toefl", "--data", "{data}", "--chat"), "no chat format"),
    ],
)
def test_what_cannot_be_evaluated_has_its_sentence(args, words, folder, data, tmp_path, capsys, monkeypatch):
    pytest.importorskip("lm_eval", reason=NEEDED)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.mkdir()
    broken.mkdir()
    (broken / "tpo.jsonl").write_text("nonsense\n")
    (broken / "coursera.jsonl").write_text('{"input": "x"}\n')
    (broken / "sci_fi.jsonl").write_text('{"input": "x", "instructions": ["y"], "outputs": ["True"]}\n')
    known = {"{empty}": empty, "{broken}": broken, "{data}": data}
    command = ["evaluate", str(folder), *(str(known.get(one, one)) for one in args), "--limit", "1"]
    assert cli.main(command) == 2
    assert words in capsys.readouterr().err
