"""The page of all results, and results on their way into a package."""

import json
import shutil
from dataclasses import replace

import pytest

from dca_hub import card_text, cli
from dca_hub.errors import DcaHubError
from dca_hub.evaluation import plots, report, runs, summary
from dca_hub.packaging import package
from dca_hub.verification import Outcome, verify

SIZES = {"chunk_size": 96, "local_size": 16, "original_max_position_embeddings": 128}


def write_run(path, task, samples, **changes):
    header = {
        "run": runs.FORMAT, "task": task, "model": "tiny", "revision": None, "trained": 128, "dtype": "float32",
        "variants": {"DCA": {"dca": True, "dual_chunk_attention_config": SIZES}, "plain": {"dca": False},
                     "DCA, intra only": {"dca": True, "dual_chunk_attention_config": SIZES, "relations": "intra"}},
        "settings": {"data": "a <b>", "haystack": "grass"}, "versions": {"torch": "2"}, "command": "dca-hub x",
    }  # fmt: skip
    path.write_text("".join(json.dumps(one) + "\n" for one in ({**header, **changes}, *samples)))


@pytest.fixture
def folder(tmp_path):
    names = ("DCA", "plain", "DCA, intra only")
    ppl = [
        {"variant": v, "length": n, "document": 0, "end": 900 + k, "tokens": 10, "nats": 20.0 + k + 30 * (v == "plain")}
        for v in names for n in (128, 256) for k in (0, 1)
    ]  # fmt: skip
    found = [{"variant": v, "length": 256, "depth": d, "trial": 0, "found": v == "DCA"} for v in names for d in (0, 1)]
    write_run(tmp_path / "ppl.jsonl", "perplexity", ppl)
    write_run(tmp_path / "key.jsonl", "passkey", found)
    (tmp_path / "other.jsonl").write_text("{}\n")
    return tmp_path


def test_one_page_has_everything(folder, capsys):
    assert cli.main(["report", str(folder)]) == 0
    said = capsys.readouterr()
    assert "other.jsonl is not a results file" in said.err
    text, page = (folder / "report.md").read_text(), (folder / "report.html").read_text()
    assert "| tiny, DCA | 7.77 | 7.77 |" in text, "exp of the mean of 2.0 and 2.1"
    assert "| tiny, plain | >100 | >100 |" in text and "| 100 % | 100 |" in text
    assert page.count("data:image/png;base64,") == 2 and "a &lt;b&gt;" in page and "<b>" not in page
    assert text.count("](") == 2 and len(list(folder.glob("*.png"))) == 2


def test_results_go_into_a_package_that_still_passes(folder, tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    from support.tiny_checkpoints import write_checkpoint

    out = tmp_path_factory.mktemp("package") / "tiny-dca"
    package(str(write_checkpoint(source / "tiny", max_position_embeddings=128)), out)
    assert cli.main(["report", str(folder), "--package", str(out)]) == 0
    values, body = card_text.front_matter((out / "README.md").read_text())
    [index] = values["model-index"]
    assert {(e["dataset"]["type"], e["metrics"][0]["value"]) for e in index["results"]} >= {("passkey", 1.0)}
    assert len(index["results"]) == 3, "two lengths of perplexity and one of pass keys, of the DCA model alone"
    assert "## Measured results" in body and "dca-hub x" in body and "intra only" not in body
    assert not [one for one in verify(out, tokens=256) if one.outcome is Outcome.FAILED]
    other = {"DCA": {"dca": True, "dual_chunk_attention_config": {**SIZES, "chunk_size": 90}}}
    found = [{"variant": "DCA", "length": 8, "depth": 0, "trial": 0, "found": True}]
    write_run(folder / "other.jsonl", "passkey", found, variants=other)
    with pytest.raises(DcaHubError, match="measure it again"):
        report.into_package(out, summary.read(folder / "other.jsonl"))


def test_what_a_picture_shows_is_told_apart(folder, monkeypatch):
    monkeypatch.setattr(plots, "heat_map", lambda grids, lengths, depths, trained, title: (list(grids), title))
    key = runs.read(folder / "key.jsonl")[0]
    other = replace(key, header={**key.header, "settings": {"haystack": "prose"}})
    tuned = replace(key, header={**key.header, "model": "tuned"})
    assert plots.picture([key])[0] == ["DCA", "plain", "DCA, intra only"]
    names, title = plots.picture([key, other])
    assert names[0] == "DCA (grass)" and names[3] == "DCA (prose)" and "grass, prose" in title
    assert plots.picture([key, tuned])[0][::3] == ["tiny, DCA", "tuned, DCA"]
    assert plots.picture([key, key])[0][0] == "DCA (grass, 1)"


def test_scores_of_our_tasks_are_drawn_in_percent_as_their_tables_are(tmp_path, monkeypatch):
    scores = [{"variant": v, "length": 128, "id": "f1", "score": s} for v, s in (("DCA", 0.25), ("plain", 0.0))]
    write_run(tmp_path / "task.jsonl", "fewshot_qasper", scores, settings={"metric": "f1", "percent": True})
    [run] = runs.read(tmp_path / "task.jsonl")
    assert plots.picture([run]).startswith(b"\x89PNG")
    monkeypatch.setattr(plots, "perplexity_curve", lambda curves, trained, label, title: (curves, label))
    assert plots.picture([run]) == ({"DCA": [(128, 25.0)], "plain": [(128, 0.0)]}, "f1, %")
    shown = summary.table(run).markdown()
    assert "| fewshot_qasper: f1, % | 128 |" in shown and "| tiny, DCA | 25.0 |" in shown


def test_folders_without_results_are_named(tmp_path):
    for place, words in ((tmp_path, "holds no results"), (tmp_path / "none", "no folder")):
        with pytest.raises(DcaHubError, match=words):
            report.collect(place)


def test_runs_read_the_same_after_a_copy(folder, tmp_path):
    copy = tmp_path / "copy.jsonl"
    shutil.copyfile(folder / "ppl.jsonl", copy)
    assert runs.read(copy) == runs.read(folder / "ppl.jsonl")
