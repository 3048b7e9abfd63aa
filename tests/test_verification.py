"""Verification: a good package passes, and each way of being bad is found by the check that is for it."""

import importlib.util
import json
import re
import shutil
import sys
from dataclasses import replace
from importlib.resources import files

import pytest
import torch
from safetensors.torch import load_file, save_file

from dca_hub import DcaHubError
from dca_hub.manifest import digest
from dca_hub.manifest import read as read_manifest
from dca_hub.modeling.dual_chunk_config import config_from_geometry
from dca_hub.packaging import package
from dca_hub.verification import Check, Outcome, verify
from support.tiny_checkpoints import write_checkpoint
from support.tiny_models import GEOMETRY, MIXED, tiny_dca, tiny_model, tokens


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages")
    source = write_checkpoint(folder / "source", "qwen2")
    return package(str(source), folder / "good", pretraining_length=32, chunk_size=24, local_size=8).folder


def outcomes(folder, **options) -> dict[Check, Outcome]:
    return {finding.check: finding.outcome for finding in verify(folder, **options)}


def sealed_again(folder):
    """Writes the manifest anew, as somebody who changes a package on purpose would."""
    held = read_manifest(folder)
    files = {
        path.name: {"sha256": digest(path), "size": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.name != "dca_package.json"
    }
    replace(held, files=files).write(folder)


def test_a_good_package_passes_every_check(good):
    found = list(verify(good))
    assert [finding.check for finding in found] == list(Check)
    assert {finding.outcome for finding in found} == {Outcome.PASSED}, found


def test_a_long_context_that_is_not_tried_is_said_to_be_skipped(good):
    assert outcomes(good, tokens=48)[Check.LONG_CONTEXT] is Outcome.SKIPPED


def test_weights_that_the_config_asks_for_in_vain_are_found(good, tmp_path):
    bad = shutil.copytree(good, tmp_path / "bad")
    config = json.loads((bad / "config.json").read_text())
    layers = {"num_hidden_layers": 3, "layer_types": ["full_attention"] * 3, "max_window_layers": 3}
    (bad / "config.json").write_text(json.dumps({**config, **layers}))
    sealed_again(bad)
    found = {finding.check: finding for finding in verify(bad, tokens=64)}
    assert found[Check.LOADS].outcome is Outcome.FAILED
    assert "do not hold model.layers.2" in found[Check.LOADS].detail


def test_a_package_that_nobody_can_complete_says_so(tmp_path):
    source = write_checkpoint(tmp_path / "source")
    folder = package(str(source), tmp_path / "light", pretraining_length=32, weights="reference").folder
    found = {finding.check: finding for finding in verify(folder)}
    assert found[Check.LOADS].outcome is Outcome.SKIPPED and "names no base model" in found[Check.LOADS].detail


@pytest.fixture(scope="module")
def coarse(tmp_path_factory):
    """A package in bfloat16 whose plain base already differs from itself by more than any fixed bound would allow."""
    folder = tmp_path_factory.mktemp("coarse")
    source = write_checkpoint(folder / "source", "qwen2", num_hidden_layers=8, initializer_range=0.2, dtype="bfloat16")
    return package(str(source), folder / "coarse", pretraining_length=32, chunk_size=24, local_size=8).folder


def test_a_right_package_passes_in_its_own_precision(coarse):
    found = {finding.check: finding for finding in verify(coarse, precision="own")}
    assert {finding.outcome for finding in found.values()} == {Outcome.PASSED}, found
    assert "bfloat16" in found[Check.LOADS].detail
    noise = float(re.search(r"the plain base from itself: ([\d.e+-]+)", found[Check.DEFINITION].detail).group(1))
    assert noise > 3e-2
    assert "first 2 layers in float32" in found[Check.DECODES].detail


def test_a_right_package_with_large_keys_passes_in_float32(tmp_path):
    """As the biases of Qwen2.5's keys make them: float32 rounds there by more than the usual bound."""
    source = write_checkpoint(tmp_path / "source", "qwen2")
    weights = load_file(source / "model.safetensors")
    for name, bias in weights.items():
        if name.endswith(("k_proj.bias", "q_proj.bias")):
            slowest = bias.view(-1, 16)[:, 7]  # of the rotation's pairs: it hardly tells positions apart
            slowest.fill_(4000.0 if "k_proj" in name else 10.0)
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    folder = package(str(source), tmp_path / "large", pretraining_length=32, chunk_size=24, local_size=8).folder
    found = {finding.check: finding for finding in verify(folder)}
    assert {finding.outcome for finding in found.values()} == {Outcome.PASSED}, found
    assert "the plain base from itself" in found[Check.DEFINITION].detail, "the usual bound would have done"


@pytest.mark.parametrize("name", ["model.safetensors", "modeling_dca_qwen2.py", "tokenizer.json"])
def test_a_changed_file_is_found(name, good, tmp_path):
    bad = shutil.copytree(good, tmp_path / "bad")
    content = bytearray((bad / name).read_bytes())
    content[-2] ^= 1
    (bad / name).write_bytes(content)
    found = outcomes(bad)
    assert found[Check.FILES] is Outcome.FAILED and found[Check.LOADS] is Outcome.SKIPPED


def test_stray_and_missing_files_are_found(good, tmp_path):
    bad = shutil.copytree(good, tmp_path / "bad")
    (bad / ".env").write_text("TOKEN=secret")
    (bad / "generation_config.json").unlink()
    detail = next(iter(verify(bad))).detail
    assert ".env is not part of the package" in detail and "generation_config.json is missing" in detail


def test_a_package_that_loads_plain_without_trust_is_found(good, tmp_path):
    bad = shutil.copytree(good, tmp_path / "bad")
    config = json.loads((bad / "config.json").read_text())
    del config["attn_implementation"]
    (bad / "config.json").write_text(json.dumps(config))
    sealed_again(bad)
    assert outcomes(bad)[Check.CONFIG] is Outcome.FAILED


@pytest.mark.parametrize(
    "file, good_code, bad_code, check",
    [
        ("dual_chunk_rotary.py", "position_ids % self.geometry.chunk_length", "position_ids", Check.DEFINITION),
        (
            "dual_chunk_model.py",
            "    base.register_forward_pre_hook(lay_out_call, with_kwargs=True)\n",
            "",
            Check.EQUALS_BASE,
        ),
        ("dual_chunk_rotation.py", "full_like(in_chunk, end)", "full_like(in_chunk, end + 1)", Check.DEFINITION),
    ],
)
@pytest.mark.parametrize("precision", ["auto", "own"])
def test_broken_modeling_code_is_found(file, good_code, bad_code, check, precision, good, coarse, tmp_path):
    """Sealed again, so that the files are in order and only behaviour can tell."""
    bad = shutil.copytree(good if precision == "auto" else coarse, tmp_path / "bad")
    text = (bad / file).read_text()
    assert good_code in text
    (bad / file).write_text(text.replace(good_code, bad_code))
    sealed_again(bad)
    found = outcomes(bad, precision=precision)
    assert found[Check.FILES] is Outcome.PASSED
    assert found[check] is Outcome.FAILED, found


def test_a_tokenizer_that_gives_other_tokens_is_found(good, tmp_path):
    bad = shutil.copytree(good, tmp_path / "bad")
    values = json.loads((bad / "tokenizer.json").read_text())
    vocabulary = values["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (bad / "tokenizer.json").write_text(json.dumps(values))
    sealed_again(bad)
    found = {finding.check: finding for finding in verify(bad, tokens=64)}
    assert found[Check.TOKENIZER].outcome is Outcome.FAILED
    assert "other tokens" in found[Check.TOKENIZER].detail
    assert found[Check.EQUALS_BASE].outcome is Outcome.PASSED


def test_a_package_without_weights_is_checked_as_far_as_it_goes(good, tmp_path):
    made = package(str(good), tmp_path / "light", weights="reference")
    found = outcomes(made.folder)
    assert found[Check.FILES] is Outcome.PASSED and found[Check.LOADS] is Outcome.SKIPPED


def test_what_is_no_package_is_refused(tmp_path):
    with pytest.raises(DcaHubError, match=r"dca_package\.json"):
        list(verify(tmp_path))
    with pytest.raises(DcaHubError, match="no folder"):
        list(verify(tmp_path / "nothing"))


def test_a_package_of_several_kinds_of_layers_passes_every_check(tmp_path):
    """Windows, sinks and full attention in turn."""
    source = write_checkpoint(tmp_path / "source", "gpt_oss")
    folder = package(str(source), tmp_path / "good", pretraining_length=32, chunk_size=24, local_size=8).folder
    found = list(verify(folder))
    assert {finding.outcome for finding in found} == {Outcome.PASSED}, found


def test_a_layer_taken_for_another_kind_is_found(tmp_path):
    """A layer without rotary positions that is treated as one with them is right up to the chunk, and wrong beyond."""
    source = write_checkpoint(tmp_path / "source", "smollm3")
    bad = package(str(source), tmp_path / "bad", pretraining_length=32, chunk_size=24, local_size=8).folder
    layers = bad / "dual_chunk_layers.py"
    code = layers.read_text(encoding="utf-8")
    assert 'getattr(module, "use_rope", True)' in code
    layers.write_text(code.replace('getattr(module, "use_rope", True)', "True"), encoding="utf-8")
    sealed_again(bad)
    found = outcomes(bad, tokens=80)
    assert found[Check.EQUALS_BASE] is Outcome.PASSED and found[Check.DEFINITION] is Outcome.FAILED


@pytest.fixture(scope="module")
def isolated():
    """The script of the checks, as a module."""
    path = sys.path.copy()
    spec = importlib.util.spec_from_file_location("isolated_check", files("dca_hub.verification") / "isolated_check.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)  # it takes its own folder off the path
    sys.path[:] = path
    yield module
    del sys.modules[spec.name]


@torch.no_grad()
@pytest.mark.parametrize("family", MIXED)
def test_the_definition_knows_every_kind_of_layer(family, isolated):
    """Attention from the definition gives the DCA model's logits, and those of the base where chunks never end."""
    base, ids = tiny_model(family), tokens(60)
    dca = tiny_dca(family)
    sizes = config_from_geometry(GEOMETRY)
    wanted, plain = isolated.logits(dca, ids), isolated.logits(base, ids)
    close = {"rtol": 0, "atol": 1e-4 * plain.std().item()}
    torch.testing.assert_close(isolated.by_definition(base, ids, sizes), wanted, **close)
    unchunked = {**sizes, "chunk_size": 128, "local_size": 0}
    torch.testing.assert_close(isolated.by_definition(base, ids, unchunked), plain, **close)
    assert (wanted - plain).abs().max() > 100 * close["atol"]


@pytest.mark.parametrize(
    "settings, layers",
    [
        ({}, 2),
        ({"layer_types": ["sliding_attention"] * 5 + ["full_attention"]}, 6),
        ({"layer_types": ["linear_attention"] * 3 + ["full_attention"]}, 4),
    ],
)
def test_the_short_comparison_reaches_full_attention(settings, layers, isolated):
    assert isolated.first_layers(settings) == layers
