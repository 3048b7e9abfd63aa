"""Sizes and reach: whichever face is asked, a model has one geometry and one length."""

import json
import shlex

import pytest

from dca_hub import catalogue, cli, extend, manifest, sources
from dca_hub.errors import DcaHubError
from dca_hub.evaluation.experiments import Subject, header
from dca_hub.loading import load
from dca_hub.modeling.dual_chunk_config import CONFIG_KEY
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.packaging import package
from dca_hub.serving import engines
from dca_hub.serving.client import connect
from dca_hub.sizes import USUAL_REACH, Asked, geometry_of, may_change_length, reach_of, reach_of_entry, sized
from dca_hub.space.host import Host
from dca_hub.space.settings import Settings
from support.openai_server import serving
from support.tiny_checkpoints import write_checkpoint

QWEN_1M = {"chunk_size": 262144, "local_size": 8192, "original_max_position_embeddings": 262144}
LINEAR = {"rope_theta": 10000.0, "rope_type": "linear", "factor": 8.0}
DYNAMIC = {"rope_theta": 10000.0, "rope_type": "dynamic", "factor": 2.0}
# Catalogue name or "" for a folder, the config.json, and how many tokens the model may be given.
MODELS = {
    "mistral-7b-v0.2": ("mistral", {"max_position_embeddings": 32768}, 200_000),
    "qwen2.5-7b-instruct-1m": ("qwen2", {"max_position_embeddings": 1_010_000, CONFIG_KEY: QWEN_1M}, 1_000_000),
    "together-llama-2-7b-32k": ("llama", {"max_position_embeddings": 32768, "rope_parameters": LINEAR}, 200_000),
    "llama-3.1-8b": ("llama", {"max_position_embeddings": 131_072}, USUAL_REACH * 131_072),
    "plain folder": ("llama", {"max_position_embeddings": 512}, USUAL_REACH * 512),
    "folder whose rope depends on the length": (
        "llama",
        {"max_position_embeddings": 512, "rope_parameters": DYNAMIC},
        USUAL_REACH * 512,
    ),
    "folder with sizes of its own": ("qwen2", {"max_position_embeddings": 1_010_000, CONFIG_KEY: QWEN_1M}, 1_010_000),
}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Makes the model of a row, and whatever is downloaded is it; gives its name."""

    def made(row: str) -> str:
        family, changes, _ = MODELS[row]
        folder = write_checkpoint(tmp_path / "checkpoint", family, **changes)
        monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *args, **kwargs: str(folder))
        return row if catalogue.get(row) else str(folder)

    return made


def served_length(model: str, monkeypatch, capsys) -> int:
    """What `dca-hub serve` tells vLLM."""
    monkeypatch.setattr(engines, "choose", lambda asked=None: engines.Chosen("vllm", "a test"))
    monkeypatch.setattr("dca_hub.devices.free_bytes", lambda device: 1 << 40)
    assert cli.main(["serve", model, "--dry-run"]) == 0
    command = shlex.split(capsys.readouterr().err.splitlines()[-1])
    return int(command[command.index("--max-model-len") + 1])


def app_limit(model: str) -> int:
    host = Host(Settings(model=model, cache_mb=1 << 40))
    host.begin()
    host.memory_tokens = lambda held=0: 1 << 40
    return host.limit()


@pytest.mark.parametrize("row", MODELS)
def test_every_face_gives_a_model_the_same_length(row, hub, tmp_path, monkeypatch, capsys):
    name, (_, config, expected) = hub(row), MODELS[row]
    folder = package(name, tmp_path / "packaged").folder
    said = json.loads((folder / "config.json").read_text())
    loaded = load(name)
    found = {
        "load (ask)": loaded.context,
        "evaluate": Subject.of(loaded, []).loaded.context,
        "app": app_limit(name),
        "serve": served_length(name, monkeypatch, capsys),
        "package in its manifest": manifest.read(folder).context,
        "package, loaded": load(str(folder)).context,
        "package in the app": app_limit(str(folder)),
        "package, served": served_length(str(folder), monkeypatch, capsys),
        "package of the package": package(str(folder), tmp_path / "again").plan.context,
    }
    if may_change_length(config):
        found["package in its config"] = said["max_position_embeddings"]
        if not catalogue.get(row):  # extend is given a model, and knows no name
            found["extend"] = extend(loaded.base).config.max_position_embeddings
    if catalogue.get(row):
        found["catalogue"] = reach_of_entry(catalogue.find(row))
    with serving("x", model=name) as server:
        found["endpoint"] = connect(name, server.url).context
    with serving("x", model="packaged") as server:
        found["package behind an endpoint"] = connect(str(folder), server.url).context
    assert found == dict.fromkeys(found, expected)


@pytest.mark.parametrize("row", MODELS)
def test_every_face_gives_a_model_the_same_sizes(row, hub, tmp_path):
    name = hub(row)
    folder = package(name, tmp_path / "packaged").folder
    loaded = load(name)
    found = {
        "load": loaded.geometry,
        "package": geometry_of(sources.resolve(str(folder))).geometry,
        "package, loaded": load(str(folder)).geometry,
        "module": loaded.model.base_model.rotary_emb.geometry,
    }
    if catalogue.get(row):
        found["catalogue"] = catalogue.find(row).geometry
    else:
        found["extend"] = extend(loaded.base).base_model.rotary_emb.geometry
    with serving("x", model=name) as server:
        found["endpoint"] = connect(name, server.url).geometry
    assert len(set(found.values())) == 1, found


def test_a_config_that_only_names_its_length_is_a_packages(tmp_path):
    """Packages of earlier versions have no length in their manifest."""
    folder = package(str(write_checkpoint(tmp_path / "plain")), tmp_path / "packaged").folder
    held = json.loads((folder / manifest.NAME).read_text())
    (folder / manifest.NAME).write_text(json.dumps({k: v for k, v in held.items() if k != "context"}))
    source = sources.resolve(str(folder))
    assert reach_of(source, geometry_of(source).geometry) == USUAL_REACH * 32


def test_sizes_asked_for_come_before_the_configs_own_and_the_rule():
    """As Qwen2.5-1M publishes them, with the keys of its sparse attention."""
    own = {"chunk_size": 28, "local_size": 4, "original_max_position_embeddings": 30, "temperature": 0.1}
    config = {
        "model_type": "qwen2",
        "max_position_embeddings": 32,
        CONFIG_KEY: own | {"sparse_attention_enabled": True},
    }
    choose = lambda **asked: sized(config, None, Asked(**asked))
    assert choose().geometry == DualChunkGeometry(28, 4, 30, 0.1)
    assert choose().origin == "the checkpoint's own config"
    assert choose(pretraining_length=30, temperature=0.0).geometry == DualChunkGeometry(28, 4, 30, 0.0)
    assert choose(pretraining_length=64).geometry == DualChunkGeometry(48, 4, 64, 0.1)
    assert choose(chunk_size=16).geometry == DualChunkGeometry(16, 1, 30, 0.1)


def test_a_loaded_model_knows_its_source_and_revision(hub, tmp_path, monkeypatch):
    hub("mistral-7b-v0.2")
    commit = write_checkpoint(tmp_path / "snapshots" / "abc123", "mistral", max_position_embeddings=32768)
    asked = []

    def download(repository, revision=None, **kwargs):
        asked.append(revision)
        return str(commit)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    loaded = load("mistral-7b-v0.2", revision="branch")
    before = len(asked)
    about = header(Subject.of(loaded, []), "needle", {})
    assert (about["model"], about["revision"]) == ("mistral-community/Mistral-7B-v0.2", "abc123")
    assert loaded.source.folder == commit and loaded.entry.name == "mistral-7b-v0.2"
    assert set(asked) <= {"branch", "abc123"} and len(asked) == before, "the name is resolved once more, of no revision"


def test_a_checkpoint_without_a_length_is_refused(tmp_path):
    with pytest.raises(DcaHubError, match="give the pretraining_length"):
        sized({"model_type": "llama"})


@pytest.mark.parametrize("kind, may", [("default", True), ("linear", True), ("llama3", True), ("yarn", False),
                                       ("dynamic", False), ("longrope", False), ("unheard-of", False)])  # fmt: skip
def test_only_scalings_that_are_known_not_to_depend_on_the_length_are_stretched(kind, may):
    assert may_change_length({"rope_parameters": {"rope_type": kind}}) is may
    assert may_change_length({"rope_scaling": {"type": kind}}) is may
    assert may_change_length({})
