"""Saved DCA models loaded again by strangers: the same model, and an error, never a plain model, without trust."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoModelForTokenClassification

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from support.tiny_models import FAMILIES, VOCABULARY, as_dca, tiny_config, tiny_dca, tiny_model, tokens

WARM = DualChunkGeometry(24, 8, 32, temperature=0.2)
IDS = tokens(60)


def stranger(script: Path, *arguments, home: Path) -> str:
    """What a script prints in a process without network, without this repository and with caches of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
    env = kept | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "HF_MODULES_CACHE": str(home / "modules")}
    run = subprocess.run(
        [sys.executable, "-P", script, *map(str, arguments)],
        env=env,
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    return run.stdout


def save(model, folder: Path, auto_class: str) -> None:
    model.save_pretrained(folder)
    (folder / "auto_class").write_text(auto_class)
    with torch.no_grad():
        out = model(IDS)
    torch.save(out.last_hidden_state if hasattr(out, "last_hidden_state") else out.logits, folder / "expected.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    for family in FAMILIES:
        save(tiny_dca(family, WARM), folder / family, "AutoModelForCausalLM")
    torch.manual_seed(0)
    head = AutoModelForSequenceClassification.from_config(tiny_config("qwen2", num_labels=3)).eval()
    save(as_dca(head, WARM), folder / "classifier", "AutoModelForSequenceClassification")
    save(as_dca(head.base_model, WARM), folder / "bare", "AutoModel")
    head = AutoModelForTokenClassification.from_config(tiny_config("mixtral", num_labels=3)).eval()
    save(as_dca(head, WARM), folder / "tagger", "AutoModelForTokenClassification")
    torch.save(IDS, folder / "ids.pt")
    return folder


@pytest.fixture(scope="module")
def found(folder, tmp_path_factory):
    script = Path(__file__).with_name("stranger.py")
    return json.loads(stranger(script, folder, home=tmp_path_factory.mktemp("home")))


@pytest.mark.parametrize("name", [*FAMILIES, "classifier", "bare", "tagger"])
def test_a_stranger_loads_the_same_model(found, name):
    assert not found["dca_hub was imported"]
    model = found[name]
    assert model["problems"] == [], "no missing, unexpected or mismatched weights"
    assert model["class"].startswith("DualChunk") and model["loader's config"].startswith("DualChunk")
    assert model["equal"] and model["equal again"]
    assert model["config kept"] is True
    assert model["files kept"]


@pytest.mark.parametrize("name", [*FAMILIES, "classifier", "bare", "tagger"])
def test_a_stranger_without_trust_gets_an_error(found, name):
    assert found[name]["untrusted"], "a plain model came back"
    assert "trust_remote_code" in found[name]["untrusted"] or "dca" in found[name]["untrusted"]


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe"])
def test_a_stranger_runs_the_experts_as_the_base_model_does(found, name):
    """Not one by one in a loop, as transformers does for classes in whose source it finds no other way."""
    assert found[name]["experts"] == tiny_model(name).config._experts_implementation == "grouped_mm"


@pytest.mark.parametrize("name", FAMILIES)
def test_flash_attention_at_load_is_refused(found, name):
    assert "DCA model cannot run attn_implementation='flash_attention_2'" in found[name]["refused attention"]
    assert found[name]["served attention"] is None


@pytest.mark.parametrize("name", FAMILIES)
def test_a_stranger_generates_and_loads_other_heads(found, name):
    with torch.no_grad():
        out = tiny_dca(name, WARM).generate(IDS, max_new_tokens=5, do_sample=False, pad_token_id=0)
    assert found[name]["generated"] == out[0, 60:].tolist()
    assert found[name]["other heads equal"] == [True, True]
    bare, classifier = found[name]["other heads"]
    assert bare.startswith("DualChunk") and bare.endswith("Model")
    assert classifier.startswith("DualChunk") and classifier.endswith("ForSequenceClassification")


@pytest.mark.parametrize("name", FAMILIES)
def test_without_trust_it_is_an_error_here_too_where_the_modeling_files_are_imported(folder, name):
    """In this process the attention is registered; a plain model would run it, or plain attention, without a word."""
    with pytest.raises((ValueError, ImportError)):
        AutoModelForCausalLM.from_pretrained(folder / name, local_files_only=True, trust_remote_code=False)


@pytest.mark.parametrize("name", FAMILIES)
def test_config_serves_both_worlds(folder, name):
    config = json.loads((folder / name / "config.json").read_text())
    assert config["model_type"] == name
    assert [a.startswith("DualChunk") for a in config["architectures"]] == [True]
    assert config["attn_implementation"] == "dca"
    assert config["dual_chunk_attention_config"] == {
        "chunk_size": 24,
        "local_size": 8,
        "original_max_position_embeddings": 32,
        "temperature": 0.2,
    }
    classes = {value.partition(".")[0] for value in config["auto_map"].values()}
    assert classes == {f"configuration_dca_{name}", f"modeling_dca_{name}"}
    files = {path.stem for path in (folder / name).glob("*.py")}
    assert classes < files
    assert not any("_dca_" in file and not file.endswith(f"_dca_{name}") for file in files), "files of another family"
    assert config["vocab_size"] == VOCABULARY


@pytest.mark.parametrize("name", FAMILIES)
def test_saving_does_not_change_the_model(folder, name):
    """The model that was saved still runs as before."""
    model = tiny_dca(name, WARM)
    with torch.no_grad():
        before = model(IDS).logits
        assert torch.equal(before, torch.load(folder / name / "expected.pt", weights_only=True))
