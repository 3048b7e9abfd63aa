"""Packaging: what is in the folder, where the sizes come from, and what is refused or undone."""

import io
import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, Qwen3_5Config, Qwen3_5ForConditionalGeneration

from dca_hub import DcaHubError
from dca_hub.families import FAMILIES
from dca_hub.loading import load
from dca_hub.manifest import read as read_manifest
from dca_hub.packaging import package
from dca_hub.publishing.allowed import in_package
from dca_hub.verification import Outcome
from dca_hub.verification.checks import check_files
from support.tiny_checkpoints import byte_tokenizer, write_checkpoint
from support.tiny_models import tiny_config, tokens

SIZES = {"pretraining_length": 32, "chunk_size": 24, "local_size": 8}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("source") / "tiny")


def config_of(folder) -> dict:
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_package_is_complete_and_holds_nothing_else(family, tmp_path):
    source = write_checkpoint(tmp_path / "source", family)
    (source / ".env").write_text("TOKEN=secret")
    (source / "optimizer.pt").write_bytes(b"x")
    made = package(str(source), tmp_path / "out", **SIZES)
    names = {path.name for path in made.folder.iterdir()}
    code = {name for name in names if name.endswith(".py")}
    assert {f"modeling_dca_{family}.py", f"configuration_dca_{family}.py"} <= code
    assert not any(f"_dca_{other}.py" in name for name in code for other in FAMILIES if other != family)
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "README.md"} <= names
    assert names & {".env", "optimizer.pt"} == set()
    assert set(read_manifest(made.folder).files) == names - {"dca_package.json"}


def test_config_serves_both_worlds(checkpoint, tmp_path):
    config = config_of(package(str(checkpoint), tmp_path / "out", **SIZES, temperature=0.2).folder)
    assert config["architectures"] == ["DualChunkLlamaForCausalLM"] and config["model_type"] == "llama"
    assert config["attn_implementation"] == "dca"
    assert config["auto_map"]["AutoModelForCausalLM"] == "modeling_dca_llama.DualChunkLlamaForCausalLM"
    assert config["dual_chunk_attention_config"] == {
        "chunk_size": 24,
        "local_size": 8,
        "original_max_position_embeddings": 32,
        "temperature": 0.2,
    }
    assert config["max_position_embeddings"] == 8 * 32


@pytest.mark.parametrize("rope", [{"rope_type": "dynamic", "factor": 2.0}, {"rope_type": "yarn", "factor": 4.0}])
def test_a_scaling_that_reads_the_maximum_keeps_it(rope, tmp_path):
    source = write_checkpoint(tmp_path / "source", rope_parameters={"rope_theta": 10000.0, **rope})
    config = config_of(package(str(source), tmp_path / "out", **SIZES).folder)
    assert config["max_position_embeddings"] == 32


@pytest.mark.parametrize("family, local", [("llama", 8), ("mistral", 8), ("qwen2", 4), ("qwen3", 8)])
def test_sizes_by_the_rule_of_the_authors(family, local, tmp_path):
    source = write_checkpoint(tmp_path / "source", family, max_position_embeddings=64)
    made = package(str(source), tmp_path / "out", pretraining_length=64)
    assert (made.plan.geometry.chunk_size, made.plan.geometry.local_size) == (48, local)


def test_sizes_that_are_not_given_fit_those_that_are(checkpoint, tmp_path):
    """As `extend` chooses them: the rule's window of 4 does not fit chunks of 3."""
    made = package(str(checkpoint), tmp_path / "out", chunk_size=3)
    assert (made.plan.geometry.chunk_size, made.plan.geometry.local_size) == (3, 2)
    assert made.plan.sizes_from == "chosen at packaging"


def test_a_config_with_its_own_sizes_keeps_them(checkpoint, tmp_path):
    source = shutil.copytree(checkpoint, tmp_path / "own")
    own = {"chunk_size": 20, "local_size": 4, "original_max_position_embeddings": 30}
    (source / "config.json").write_text(json.dumps({**config_of(source), "dual_chunk_attention_config": own}))
    config = config_of(package(str(source), tmp_path / "out").folder)
    assert config["dual_chunk_attention_config"] == own


@pytest.mark.parametrize("mode", ["copy", "link"])
def test_weights_are_the_same_bytes(mode, tmp_path):
    source = write_checkpoint(tmp_path / "source", shards=True)
    told = []
    made = package(str(source), tmp_path / "out", **SIZES, weights=mode, progress=lambda *at: told.append(at))
    shards = sorted(source.glob("*.safetensors"))
    assert len(shards) > 1
    for shard in shards:
        assert (made.folder / shard.name).read_bytes() == shard.read_bytes()
        assert os.path.samefile(made.folder / shard.name, shard) == (mode == "link")
    done, total = zip(*told)
    assert done[-1] == total[-1] and list(done) == sorted(done)


def test_no_weights(checkpoint, tmp_path):
    made = package(str(checkpoint), tmp_path / "out", **SIZES, weights="reference")
    assert not list(made.folder.glob("*.safetensors"))
    assert read_manifest(made.folder).weights == "none"
    assert any("nobody can download the weights" in note for note in made.notes)


def test_a_source_without_tokenizer_is_packaged_with_a_warning(tmp_path):
    source = write_checkpoint(tmp_path / "source", tokenizer=False)
    made = package(str(source), tmp_path / "out", **SIZES)
    assert any("no tokenizer" in note for note in made.notes)


CODE = """
import pathlib

from transformers import PreTrainedTokenizerFast

pathlib.Path({ran!r}).write_text("the checkpoint's code ran")


class Foo(PreTrainedTokenizerFast):
    pass
"""


def with_code(source, ran, tokenizer_class: str):
    """Gives a checkpoint's tokenizer code of its own, which leaves a file when it is run."""
    (source / "tokenization_foo.py").write_text(CODE.format(ran=str(ran)))
    path = source / "tokenizer_config.json"
    named = {"auto_map": {"AutoTokenizer": [None, "tokenization_foo.Foo"]}, "tokenizer_class": tokenizer_class}
    path.write_text(json.dumps({**json.loads(path.read_text()), **named}))
    return source


def test_a_tokenizer_with_code_and_a_class_of_the_library_is_packaged_without_the_code(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    source = with_code(write_checkpoint(tmp_path / "source"), tmp_path / "ran", "PreTrainedTokenizerFast")
    made = package(str(source), tmp_path / "out", **SIZES)
    assert any("code is left out" in note for note in made.notes)
    assert "auto_map" not in json.loads((made.folder / "tokenizer_config.json").read_text())
    assert not (tmp_path / "ran").exists()
    stranger = AutoTokenizer.from_pretrained(made.folder, trust_remote_code=True)
    held = read_manifest(made.folder).tokenizer
    assert held and all(stranger(text)["input_ids"] == ids for text, ids in held.items())


def test_a_tokenizer_that_needs_its_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    source = with_code(write_checkpoint(tmp_path / "source"), tmp_path / "ran", "Foo")
    with pytest.raises(DcaHubError, match="code of its own, which is never run here"):
        package(str(source), tmp_path / "out", **SIZES)
    with pytest.raises(DcaHubError, match="code of its own, which is never run here"):
        load(str(source), device="cpu")
    assert not (tmp_path / "ran").exists() and not (tmp_path / "out").exists()


def test_further_chat_templates_come_along_and_pass_verification(tmp_path):
    source = write_checkpoint(tmp_path / "source")
    (source / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    (source / "additional_chat_templates").mkdir()
    (source / "additional_chat_templates" / "tool_use.jinja").write_text("tools: {{ messages[0]['content'] }}")
    (source / "additional_chat_templates" / ".env").write_text("TOKEN=secret")
    made = package(str(source), tmp_path / "out", **SIZES)
    assert sorted(AutoTokenizer.from_pretrained(made.folder).chat_template) == ["default", "tool_use"]
    assert sorted(path.name for path in (made.folder / "additional_chat_templates").iterdir()) == ["tool_use.jinja"]
    assert check_files(made.folder, read_manifest(made.folder)).outcome is Outcome.PASSED
    assert all(in_package(name) for name in read_manifest(made.folder).files)


def test_an_adapter_is_not_dropped_in_silence(tmp_path):
    source = write_checkpoint(tmp_path / "source")
    (source / "adapter_config.json").write_text("{}")
    with pytest.raises(DcaHubError, match=r"holds an adapter .* merge it"):
        package(str(source), tmp_path / "out", **SIZES)
    (source / "config.json").unlink()
    with pytest.raises(DcaHubError, match="holds only an adapter"):
        package(str(source), tmp_path / "out", **SIZES)


@pytest.mark.parametrize("head", ["LlamaModel", "LlamaForSequenceClassification"])
def test_what_is_no_causal_language_model_is_refused(head, tmp_path):
    source = write_checkpoint(tmp_path / "source")
    (source / "config.json").write_text(json.dumps({**config_of(source), "architectures": [head]}))
    with pytest.raises(DcaHubError, match=f"{head}, not a causal language model"):
        package(str(source), tmp_path / "out", **SIZES)


def test_an_existing_folder_is_not_overwritten_without_force(checkpoint, tmp_path):
    out = tmp_path / "out"
    package(str(checkpoint), out, **SIZES)
    with pytest.raises(DcaHubError, match="force=True"):
        package(str(checkpoint), out, **SIZES)
    made = package(str(checkpoint), out, pretraining_length=32, chunk_size=20, local_size=4, force=True)
    assert config_of(made.folder)["dual_chunk_attention_config"]["chunk_size"] == 20
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_force_never_replaces_what_is_no_package(checkpoint, tmp_path):
    precious = tmp_path / "out"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    with pytest.raises(DcaHubError, match="not a package"):
        package(str(checkpoint), precious, **SIZES, force=True)
    assert (precious / "thesis.txt").read_text() == "years"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_nothing(stop, checkpoint, tmp_path):
    def interrupt(done, total):
        raise stop

    with pytest.raises(stop):
        package(str(checkpoint), tmp_path / "out", **SIZES, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said(checkpoint, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(DcaHubError, match="space"):
        package(str(checkpoint), tmp_path / "out", **SIZES)
    assert list(tmp_path.iterdir()) == []


def cut_short(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def no_header(folder):
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def no_config(folder):
    (folder / "config.json").unlink()


def broken_config(folder):
    (folder / "config.json").write_text("{")


def other_type(folder):
    change(folder, model_type="gpt2")


def window(folder):
    change(folder, model_type="mistral", sliding_window=16)


def wrong_sizes(folder):
    change(
        folder, dual_chunk_attention_config={"chunk_size": 24, "local_size": 30, "original_max_position_embeddings": 32}
    )


def unknown_size(folder):
    change(folder, dual_chunk_attention_config={"chunk_size": 24, "window": 3, "original_max_position_embeddings": 32})


def no_number(folder):
    change(folder, num_attention_heads="four")


def no_length(folder):
    change(folder, max_position_embeddings=None)


def unknown_rope(folder):
    change(folder, rope_parameters={"rope_type": "frobnicate", "rope_theta": 10000.0})


def broken_tokenizer_config(folder):
    (folder / "tokenizer_config.json").write_text("{")


def change(folder, **values):
    (folder / "config.json").write_text(json.dumps({**config_of(folder), **values}))


@pytest.mark.parametrize(
    "damage, words",
    [
        (cut_short, "not a valid safetensors file"),
        (no_header, "not a valid safetensors file"),
        (pickled, "pytorch_model.bin"),
        (no_weights, "no weights"),
        (no_config, "config.json"),
        (broken_config, "cannot be read"),
        (other_type, "gpt2"),
        (window, "sliding window"),
        (wrong_sizes, "local_size"),
        (unknown_size, "window"),
        (no_number, "num_attention_heads"),
        (no_length, "max_position_embeddings"),
        (unknown_rope, "does not serve rope_type 'frobnicate'"),
        (broken_tokenizer_config, "tokenizer_config.json in 'bad'"),
    ],
)
def test_a_source_that_will_not_do(damage, words, checkpoint, tmp_path):
    source = shutil.copytree(checkpoint, tmp_path / "bad")
    damage(source)
    with pytest.raises(DcaHubError, match=words) as raised:
        package(str(source), tmp_path / "out")
    assert str(tmp_path) not in str(raised.value) and "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_shard_that_is_missing(tmp_path):
    source = write_checkpoint(tmp_path / "source", shards=True)
    next(source.glob("*.safetensors")).unlink()
    with pytest.raises(DcaHubError, match=r"lacks model-.*download the checkpoint again"):
        package(str(source), tmp_path / "out", **SIZES)


def test_the_output_never_lies_in_the_source(checkpoint):
    with pytest.raises(DcaHubError, match="choose another out"):
        package(str(checkpoint), checkpoint / "out", **SIZES)


def test_a_name_that_nobody_knows():
    with pytest.raises(DcaHubError, match="demo"):
        package("demmo", "/nowhere/out")


def test_the_card_has_what_the_hub_reads(checkpoint, tmp_path):
    import yaml

    made = package(str(checkpoint), tmp_path / "out", **SIZES)
    front = yaml.safe_load((made.folder / "README.md").read_text().split("---")[1])
    assert front["library_name"] == "transformers" and front["pipeline_tag"] == "text-generation"
    assert {"custom_code", "long-context", "dual-chunk-attention", "arxiv:2402.17463"} <= set(front["tags"])


def test_golden_cases_through_a_package(shared, tmp_path):
    """Packaged, then loaded as a stranger would, in `test_verification`; here the packaged weights are the case's."""
    case = shared / "golden" / "qwen2-L64-w8-n170-m0-s2"
    made = package(str(case), tmp_path / "out", pretraining_length=64, chunk_size=48, local_size=8)
    ours, theirs = load_file(made.folder / "model.safetensors"), load_file(case / "model.safetensors")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@torch.no_grad()
def test_the_text_model_of_a_model_of_images_is_packaged_and_loaded(tmp_path):
    text = tiny_config("qwen3_5_text", vocab_size=300).to_dict()
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 64}
    torch.manual_seed(0)
    config = Qwen3_5Config(text_config=text, vision_config={**vision, "num_position_embeddings": 16})
    whole = Qwen3_5ForConditionalGeneration(config).eval()
    whole.save_pretrained(tmp_path / "base")
    byte_tokenizer().save_pretrained(tmp_path / "base")
    made = package(str(tmp_path / "base"), tmp_path / "out", **SIZES)
    assert config_of(made.folder)["model_type"] == "qwen3_5_text"
    short, long = tokens(16), tokens(60)
    for loaded in (load(str(made.folder)), load(str(tmp_path / "base"))):
        dca = loaded.model
        close = {"rtol": 0, "atol": 1e-4}
        torch.testing.assert_close(dca(short).logits, whole(short).logits, **close)
        if loaded.name == str(made.folder):
            beyond = dca(long).logits
            assert (beyond - whole(long).logits).abs().max() > 1e-2
