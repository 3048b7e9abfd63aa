"""Measurements on their way into a model card."""

import json

import pytest
import yaml

from dca_hub import card_text, results
from dca_hub.errors import DcaHubError
from support.machines import BASE

SIZES = {"chunk_size": 48, "local_size": 8, "original_max_position_embeddings": 64}


def line(**changes) -> dict:
    value = {
        "task": "passkey",
        "metric": "accuracy",
        "value": 0.96,
        "length": 512,
        "dca": True,
        "model": BASE,
        "dual_chunk_attention_config": SIZES,
        "samples": 50,
        "by": "the tests",
        "date": "2026-11-23",
        "command": "dca-hub evaluate passkey DIR",
    }
    return {key: held for key, held in {**value, **changes}.items() if held is not None}


def write(path, *lines: dict):
    path.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    return path


def test_results_reach_the_card_of_the_repository(hub, package_folder, push, tmp_path):
    plain = line(dca=False, value=0.02, dual_chunk_attention_config=None)
    file = write(tmp_path / "r.jsonl", line(), plain, line(task="perplexity", metric="perplexity", value=12.5))
    push(package_folder, weights="copy", results=[str(file)])
    files = hub.model("me/tiny-dca").files
    assert files["results.jsonl"] == file.read_bytes()
    text = files["README.md"].decode()
    values, body = card_text.front_matter(text)
    [index] = values["model-index"]
    found = {entry["dataset"]["type"]: entry["metrics"][0]["value"] for entry in index["results"]}
    assert found == {"passkey": 0.96, "perplexity": 12.5}
    assert index["results"][0]["source"]["url"].endswith("me/tiny-dca/blob/main/results.jsonl")
    assert "| Pass key found (accuracy) | - | 512 | 0.96 | 0.02 | 50 | the tests, 2026-11-23 |" in body
    assert body.count("dca-hub evaluate passkey DIR") == 1
    assert body.index("## Measured results") < body.index("## How to reproduce it") < body.index("## Limits")
    from huggingface_hub import ModelCard

    assert ModelCard(text).data.eval_results[0].metric_value == 0.96


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"model": "org/another"}, "The results are of 'org/another'"),
        ({"dual_chunk_attention_config": {**SIZES, "local_size": 4}}, "measure it again"),
    ],
)
def test_foreign_results_are_refused(changes, words, hub, package_folder, push, tmp_path):
    file = write(tmp_path / "r.jsonl", line(**changes))
    assert words in push(package_folder, weights="copy", results=[str(file)], expect=1)["problem"]
    assert ("model", "me/tiny-dca") not in hub.repositories


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"value": None}, "line 1: the key value is missing"),
        ({"value": "0.9"}, "value must be a number, not '0.9'"),
        ({"value": True}, "value must be a number, not True"),
        ({"value": float("nan")}, "finite"),
        ({"length": 0}, "positive"),
        ({"dual_chunk_attention_config": None}, "dual_chunk_attention_config.*is missing"),
    ],
)
def test_damaged_results_are_named(changes, words, tmp_path):
    with pytest.raises(DcaHubError, match=words):
        results.read(write(tmp_path / "r.jsonl", line(**changes)))


def test_sections_are_replaced_and_nothing_else():
    body = "# A\n\n## One\n\nold\n\n## Two\n\nkept\n"
    new = card_text.replace_section(body, "One", "new")
    assert new == "# A\n\n## One\n\nnew\n\n## Two\n\nkept\n"
    assert card_text.replace_section(new, "Half", "x", before="Two").index("## Half") < new.index("## Two") + 10
    assert card_text.replace_section(body, "Three", "end").endswith("## Three\n\nend\n")


def test_front_matter_survives(package_folder):
    values, body = card_text.front_matter((package_folder / "README.md").read_text(encoding="utf-8"))
    assert card_text.front_matter(card_text.with_front_matter(values, body)) == (values, body)
    assert values["license"] == "apache-2.0" and "dual-chunk-attention" in values["tags"]
    assert yaml.safe_load(yaml.safe_dump(values)) == values
