"""Tasks of lm-evaluation-harness: ours and its own, cut, resumed, and what is refused."""

import copy
import json
from dataclasses import replace
from importlib.metadata import version

import pytest
import torch
import yaml
from transformers import AutoTokenizer

from dca_hub import cli, json_lines
from dca_hub.errors import DcaHubError
from dca_hub.evaluation import answering, harness, predictions, runs
from dca_hub.evaluation.answering import Reader, Request, answer
from dca_hub.evaluation.cutting import cut, marked, unmarked
from dca_hub.generation import PromptCache
from dca_hub.loading import load
from support.launching import launch
from support.tiny_checkpoints import byte_tokenizer

NEEDED = "needs the optional packages: pip install -r requirements-evaluate.txt"
FEW = ("narrative_qa", "qasper", "quality", "qmsum")
OURS = ["fewshot_narrativeqa", "fewshot_qasper", "fewshot_quality", "fewshot_qmsum",
        "leval_toefl", "leval_quality", "leval_coursera", "leval_sfiction",
        "leval_gsm", "leval_codeu", "leval_topic_retrieval"]  # fmt: skip
CORRECTED = ["leval_toefl", "leval_quality", "leval_coursera", "leval_gsm", "leval_codeu"]  # published scores beside it


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
    for name, answers in (
        ("gsm100", ["18", "5"]),
        ("codeU", ["[6 15]", "this"]),
        ("topic_retrieval_longchat", ["Art", "Food"]),
    ):
        write(name, [{**exam, "outputs": answers}])
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
    with pytest.raises(DcaHubError, match="4 tokens around its document, and 4 are left"):
        cut(tokenizer, left, 4, special=False)
    with pytest.raises(DcaHubError, match="leave no tokens for its prompts"):
        cut(tokenizer, "0123456789", 0, special=False)


@torch.no_grad()
def test_likelihoods_are_those_of_a_direct_computation(loaded):
    reader = Reader(loaded.tokenizer, chat=True)
    found = answer(loaded.model, reader, Request("loglikelihood", "The heron stood ", "by the"), 256)
    ids = loaded.tokenizer("The heron stood by the", add_special_tokens=False, return_tensors="pt")["input_ids"]
    scores = loaded.model(ids).logits[0].log_softmax(-1)
    expected = sum(scores[k - 1, ids[0, k]].item() for k in range(len("The heron stood"), ids.shape[1]))
    assert found["logprob"] == pytest.approx(expected, rel=1e-4) and found["cut"] == 0


@pytest.mark.parametrize("kind", ["generate_until", "loglikelihood"])
def test_what_two_prompts_share_is_read_once_and_changes_no_bit(loaded, kind, monkeypatch):
    monkeypatch.setattr(answering, "PIECE", 32)
    reader, cache, told = Reader(loaded.tokenizer, chat=True), PromptCache(loaded.model), []
    document = "The heron stood by the river, and the miller by the ferry. " * 3
    options = {"max_gen_toks": 6}
    for question in ("Who stood?", "Where was the miller?"):
        request = Request(kind, document + question, " A.", options)
        told.clear()
        found = answer(loaded.model, reader, request, 400, lambda done, _: told.append(done), cache)
        assert found == answer(loaded.model, reader, request, 400)
    shared = len(document) // 32 * 32
    assert told[0] <= 32 and (len(document) + len(question) - 1 - shared) in told, "the rest alone was read"


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
    assert "pip install -r requirements-evaluate.txt" in capsys.readouterr().err


def test_a_task_that_lacks_a_package_says_so(folder, data, capsys, monkeypatch):
    lm_eval = pytest.importorskip("lm_eval", reason=NEEDED)

    def lacking(**_):
        raise ImportError("Please install the `wonderwords` package")

    monkeypatch.setattr(lm_eval, "simple_evaluate", lacking)
    assert cli.main(["evaluate", str(folder), "--tasks", "leval_toefl", "--data", str(data)]) == 2
    error = capsys.readouterr().err
    assert "install the `wonderwords` package" in error and "pip install -r requirements-evaluate.txt" in error


def test_numbers_are_told_from_names_and_errors():
    values = {"alias": "vt", "accuracy,none": 0.5, "accuracy_stderr,none": 0.1}
    results = {"results": {"ruler_vt": values, "other": {"acc,none": 0.25, "acc_stderr,none": "N/A", "f1,get": 1}},
               "n-samples": {"ruler_vt": {"effective": 7}}}  # fmt: skip
    assert harness._numbers(results) == {
        ("ruler_vt", "accuracy"): (0.5, 0.1, 7),
        ("other", "acc"): (0.25, None, 0),
        ("other", "f1 (get)"): (1.0, None, 0),
    }


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
    command = ["evaluate", str(folder), "--data", str(data), "--lengths", "500", "--limit", "1", "--plain"]
    command += ["--out", str(out)]
    monkeypatch.setattr(Request, "room", 16)  # the answers of a random model are of no interest
    assert cli.main([*command, "--tasks", ",".join(OURS)]) == 0
    said = capsys.readouterr().out
    found = {run.task: run for run in runs.read(out)}
    assert sorted(found) == sorted(OURS)
    place = tmp_path / "tasks.predictions" / "DCA-500"
    [exam] = json_lines.parse((place / "coursera.jsonl").read_text(), "coursera", "")
    assert exam[1].keys() == {"query", "gt", "tiny_pred", "evaluation"} and exam[1]["gt"] == "A"
    assert exam[1]["query"] == "Which?" and exam[1]["evaluation"] == "exam"
    [judged] = json_lines.parse((place / "sci_fi.jsonl").read_text(), "sci_fi", "")
    assert judged[1]["gt"] == "True [fact: False]"
    assert list(json.loads((place / "few_shot_quality.json").read_text())) == ["q0"]
    assert (tmp_path / "tasks.predictions" / "plain-500" / "tpo.jsonl").is_file()
    settings = found["fewshot_qmsum"].header["settings"]
    assert settings["metric"] == "rouge_geometric_mean" and settings["lm_eval"] == version("lm_eval")
    assert said.count("1 of 1 prompts were cut to 500 tokens") == len(OURS) + len(CORRECTED), (
        "once a table, though two models were asked"
    )
    answers = out.with_name("tasks.answers.jsonl")
    before = answers.read_bytes()
    assert cli.main([*command, "--tasks", ",".join(OURS)]) == 0
    assert answers.read_bytes() == before, "nothing was asked again"
    assert {run.task: run.samples for run in runs.read(out)} == {task: run.samples for task, run in found.items()}


def test_other_words_are_asked_again(folder, data, tmp_path, monkeypatch):
    """An answer that is there already is none to a document that has changed since."""
    pytest.importorskip("lm_eval", reason=NEEDED)
    asked = []
    monkeypatch.setattr(
        harness, "answer", lambda model, reader, request, *_: asked.append(request) or {"answer": "A", "cut": 7}
    )
    place, out = tmp_path / "data", tmp_path / "tasks.jsonl"
    place.mkdir()
    command = ["evaluate", str(folder), "--tasks", "leval_toefl", "--data", str(place), "--lengths", "900"]
    text = (data / "tpo.jsonl").read_text()
    for held, count in ((text, 2), (text, 2), (text.replace("And?", "Or?"), 3)):
        (place / "tpo.jsonl").write_text(held)
        assert cli.main([*command, "--out", str(out)]) == 0
        assert len(asked) == count
        assert runs.read(out)[0].samples[0]["cut"] == runs.read(out)[0].samples[0]["samples"] == 2
    assert "Or?" in asked[-1].context


def test_batches_answer_what_one_prompt_after_another_does(folder, tmp_path, monkeypatch):
    """Prompts of like length go together; questions about one document do not, since it is read once for them."""
    pytest.importorskip("lm_eval", reason=NEEDED)
    place, together = tmp_path / "data", []
    place.mkdir()
    few = {"query": "What?", "query_examples": ["Who?"], "output_examples": [" me"], "output": "this"}
    entries = [{**few, "id": f"q{k}", "input": f"Document {k}. " * (12 + k % 3)} for k in range(5)]
    (place / "few_shot_quality.jsonl").write_text("".join(json.dumps(one) + "\n" for one in entries))
    exam = {"input": "A text. " * 20, "instructions": ["Which?", "And?"], "outputs": ["A", "B"]}
    (place / "tpo.jsonl").write_text(json.dumps(exam) + "\n")
    monkeypatch.setattr(Request, "room", 12)
    monkeypatch.setattr(
        harness, "answer_together", lambda *args: together.append(len(args[2])) or answering.answer_together(*args)
    )
    found = []
    for batch in ("1", "3"):
        out = tmp_path / f"{batch}.jsonl"
        command = ["evaluate", str(folder), "--tasks", "fewshot_quality,leval_toefl", "--data", str(place), "--plain"]
        assert cli.main([*command, "--lengths", "900,1000", "--batch", batch, "--out", str(out)]) == 0
        found.append(runs.read(out.with_name(f"{batch}.answers.jsonl"))[0].samples)
        assert bool(together) is (batch == "3")
    assert found[0] == found[1] and len(found[0]) == 2 * 2 * 7
    assert set(together) <= {2, 3} and sum(together) >= 12


def test_two_processes_answer_what_one_does(folder, data, tmp_path):
    pytest.importorskip("lm_eval", reason=NEEDED)
    files = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    tasks = ["--tasks", "fewshot_narrativeqa,fewshot_quality", "--data", str(data), "--lengths", "300"]
    for file, processes in zip(files, (1, 2)):
        done = launch(processes, "-m", "dca_hub", "evaluate", str(folder), *tasks, "--out", str(file))
        assert done.returncode == 0, done.stderr
    one, two = (
        [run for name in (file, file.with_name(f"{file.stem}.answers.jsonl")) for run in runs.read(name)]
        for file in files
    )
    assert [run.task for run in two] == ["fewshot_narrativeqa", "fewshot_quality", "answers"]
    assert [run.samples for run in two] == [run.samples for run in one] and len(two[-1].samples) == 4
    assert two[0].header["processes"] == 2 and not list(tmp_path.glob("*part*"))


def test_statements_that_are_asked_twice_are_one_prediction():
    docs = [{"by_document": by, "question": "So?", "gt": "True [fact: False]"} for by in (True, False)]
    [(_, row)] = json_lines.parse(predictions.leval(list(zip(docs, ("True\n", "No, false"))), "m_pred"), "f", "")
    assert row == {"query": "So?", "gt": "True [fact: False]", "m_pred": "True [fact: No, false]", "evaluation": "exam"}


def test_an_answer_that_the_chat_format_begins_is_not_begun_twice(loaded):
    pytest.importorskip("lm_eval", reason=NEEDED)
    asked = [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": "Answer:"}]
    demo = load("demo")
    text = harness._answering_model(demo, None, "demo").apply_chat_template(asked, add_generation_prompt=False)
    assert text.endswith("Which?\nAnswer:") and text.count("Answer:") == 1
    other = copy.deepcopy(demo.tokenizer)
    other.chat_template = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    model = harness._answering_model(replace(demo, tokenizer=other), None, "demo")
    assert model.apply_chat_template(asked, add_generation_prompt=False) == "<user>Which?<assistant>Answer:"


def test_what_is_so_in_the_world_is_not_asked_by_the_document(loaded, folder, data):
    pytest.importorskip("lm_eval", reason=NEEDED)
    from dca_hub.evaluation import variants
    from dca_hub.evaluation.experiments import Subject

    subject = Subject.of(loaded, variants.build(loaded))
    tasks = harness.build_tasks(["leval_sfiction"], {"data": str(data)}, 900, None, False, None)
    by_document, by_world = harness._collect(subject, tasks).values()
    assert "Answer by the evidence in the document" in by_document.context and "A text." in by_document.context
    assert (
        by_world.context == "Is it so, based on the real-world knowledge and facts up until your last training Please "
        "directly answer without any additional output or explanation. Answer:"
    )


def test_scores_are_those_of_the_answers(loaded, folder, data, monkeypatch):
    """Answers that are known beforehand, through the harness and back."""
    pytest.importorskip("lm_eval", reason=NEEDED)
    from dca_hub.evaluation import variants
    from dca_hub.evaluation.experiments import Subject

    said = {"fewshot_qasper": iter(["\n\nthis\nQuestion: more", "something this"]), "leval_coursera": iter(["A", "A"]),
            "leval_sfiction": iter(["True.", "It is true"]), "leval_gsm": iter(["It is 18 eggs.", "The answer is 5.5"]),
            "leval_codeu": iter(["It prints [6, 15].", "this"]),
            "leval_topic_retrieval": iter(["art", "Space"])}  # fmt: skip
    words = {"fewshot_qasper": "Who?", "leval_gsm": "End the response with", "leval_codeu": "code base",
             "leval_topic_retrieval": "record of our conversation", "leval_coursera": "multiple-choice",
             "leval_sfiction": "Is it so"}  # fmt: skip
    asked = lambda request: next(name for name, said_there in words.items() if said_there in request.context)
    monkeypatch.setattr(
        harness, "answer", lambda model, reader, request, *_: {"answer": next(said[asked(request)]), "cut": 0}
    )
    subject = Subject.of(loaded, variants.build(loaded))
    names = list(said)
    found = harness.measure_tasks(subject, names, [900], data=str(data))
    scores = {run.task: run.samples[0]["score"] for run in found if "published" not in run.samples[0]["id"]}
    published = {run.task: run.samples[0]["score"] for run in found if "published" in run.samples[0]["id"]}
    assert scores["fewshot_qasper"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["leval_coursera"] == pytest.approx((1 + 0.25) / 2)
    assert scores["leval_sfiction"] == pytest.approx(0.5)
    assert scores["leval_gsm"] == 0.5 and published["leval_gsm"] == 1, "5.5 is published as 5"
    assert scores["leval_codeu"] == 1 and published["leval_codeu"] == 0.5 and scores["leval_topic_retrieval"] == 0.5
    assert all(run.samples[0]["samples"] == 2 for run in found)


@pytest.mark.parametrize(
    "args, words",
    [
        (("--tasks", "leval_tofl"), "did you mean leval_toefl"),
        (("--tasks", "fewshot_qasper"), "give --data"),
        (("--tasks", "fewshot_qasper", "--data", "{empty}"), "There is no few_shot_qasper.jsonl"),
        (("--tasks", "leval_toefl", "--data", "{broken}"), "line 1 is not JSON"),
        (("--tasks", "leval_coursera", "--data", "{broken}"), "lacks instructions"),
        (("--tasks", "leval_sfiction", "--data", "{broken}"), "names no fact"),
        (("--tasks", "leval_quality", "--data", "{broken}"), "has 'y' as instructions, which must be a list of texts"),
        (("--tasks", "fewshot_qmsum", "--data", "{broken}"), "has None as query_examples"),
        (("--tasks", "fewshot_quality", "--data", "{broken}"), "holds no documents"),
        (("--tasks", "leval_toefl", "--data", "{nowhere}"), "There is no folder 'nowhere'"),
        (("--tasks", "leval_toefl", "--data", "{data}", "--lengths", "512"), "give longer --lengths"),
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
    (broken / "quality.jsonl").write_text('{"input": "x", "instructions": "y", "outputs": ["A"]}\n')
    few = {"id": "q", "input": "x", "query": "y", "output": "z", "query_examples": None, "output_examples": []}
    (broken / "few_shot_qmsum.jsonl").write_text(json.dumps(few))
    (broken / "few_shot_quality.jsonl").write_text("")
    known = {"{empty}": empty, "{broken}": broken, "{data}": data, "{nowhere}": tmp_path / "nowhere"}
    command = ["evaluate", str(folder), *(str(known.get(one, one)) for one in args), "--limit", "1"]
    assert cli.main(command) == 2
    error = capsys.readouterr().err.strip()
    assert words in error and len(error.splitlines()) == 1


def test_no_code_of_a_tokenizer_is_within_reach_of_the_harness(loaded, tmp_path):
    """RULER loads the tokenizer by itself, and trusts it."""
    pointing = copy.deepcopy(loaded.tokenizer)
    pointing.init_kwargs["auto_map"] = {"AutoTokenizer": [None, "tokenization_foo.Foo"]}
    folder = harness._plain_tokenizer(replace(loaded, tokenizer=pointing), tmp_path)
    assert not [path for path in tmp_path.glob("*") if "auto_map" in path.read_text(encoding="utf-8")]
    text = "The heron stood."
    assert AutoTokenizer.from_pretrained(folder)(text)["input_ids"] == loaded.tokenizer(text)["input_ids"]


def test_what_comes_from_the_network_is_said_first(tmp_path):
    names = ["niah_single_1", "niah_single_2", "ruler_qa_squad", "leval_toefl", "longbench_narrativeqa"]
    essays, questions, files, other = harness.from_hub(names, None, None)
    assert "--essays DIR" in essays and essays.endswith("niah_single_2") and questions.endswith("ruler_qa_squad")
    assert "--data DIR" in files and other.endswith("longbench_narrativeqa")
    assert harness.from_hub(names[:2], None, tmp_path) == harness.from_hub(["leval_toefl"], "data", None) == []
