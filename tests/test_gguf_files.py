"""GGUF files as models: what is refused, in words, and that a real one becomes an ordinary checkpoint."""

import pytest

from dca_hub import DcaHubError, gguf_files, sources, verify
from dca_hub.loading import load
from dca_hub.packaging import package
from dca_hub.space import run
from dca_hub.verification import Check, Outcome
from support.hub_server import Hub
from support.machines import ROOT, Machine
from support.tiny_checkpoints import write_checkpoint


def test_what_cannot_be_read_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("DCA_HUB_CACHE", str(tmp_path / "cache"))
    part = tmp_path / "model-00001-of-00003.gguf"
    part.write_bytes(b"GGUF")
    with pytest.raises(DcaHubError, match="one of 3 parts"):
        sources.resolve(str(part))
    other = tmp_path / "other.gguf"
    other.write_bytes(b"<html>not found</html>")
    with pytest.raises(DcaHubError, match="is not a GGUF file"):
        sources.resolve(str(other))
    with pytest.raises(DcaHubError, match="give the file"):
        sources.resolve(str(tmp_path))


def test_a_file_is_named_beside_a_folder_or_a_repository(tmp_path, monkeypatch):
    folder, file = tmp_path / "files", "tiny.Q4_1.gguf"
    folder.mkdir()
    (folder / file).write_bytes(b"GGUF")
    assert sources.gguf_path(str(folder), file) == str(folder / file)
    for wrong in ("other.gguf", "../files/tiny.Q4_1.gguf", "tiny"):
        with pytest.raises(DcaHubError, match=f"no GGUF file '{wrong}' in files"):
            sources.gguf_path(str(folder), wrong)
    checkpoint = write_checkpoint(tmp_path / "cached")
    monkeypatch.setattr(gguf_files, "as_checkpoint", lambda path: checkpoint)
    loaded = load(str(folder), gguf_file=file)
    assert loaded.source.folder == checkpoint
    made = package(str(folder), tmp_path / "out", pretraining_length=32, gguf_file=file)
    assert (made.folder / "config.json").is_file()


def test_of_a_repository_that_file_alone_is_fetched(tmp_path):
    with Hub().running() as hub:
        hub.add("org/packed", {"a.gguf": b"GGUF" + bytes(9), "b.gguf": b"GGUF", "README.md": b"# Packed"})
        (tmp_path / "home").mkdir()
        machine = Machine(tmp_path / "home", hub, token=None)
        said = machine.dca_hub(
            "ask", "org/packed", "What?", "--pdf", str(ROOT / "README.md"), "--gguf-file", "a.gguf", expect=2
        )
        assert "'a.gguf' could not be read" in said.stderr or "needs the package gguf" in said.stderr
        missing = machine.dca_hub("package", "org/packed", "--gguf-file", "c.gguf", "--out", "out", expect=2)
        assert "no GGUF file 'c.gguf' in org/packed" in missing.stderr
        fetched = [path.name for path in (tmp_path / "home").rglob("*.gguf")]
        assert fetched == ["a.gguf"]


def test_a_damaged_file_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    pytest.importorskip("gguf")
    monkeypatch.setenv("DCA_HUB_CACHE", str(tmp_path / "cache"))
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(DcaHubError, match="could not be read"):
        sources.resolve(str(damaged))
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_package_says_that_its_weights_were_dequantized(tmp_path, monkeypatch):
    folder = write_checkpoint(tmp_path / "cached")
    (folder / gguf_files.DEQUANTIZED_FROM).write_text("tiny.gguf\n")
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.setattr(gguf_files, "as_checkpoint", lambda path: folder)
    made = package(str(file), tmp_path / "out", pretraining_length=32)
    assert any("dequantized" in note for note in made.notes)
    assert not (made.folder / gguf_files.DEQUANTIZED_FROM).exists()


def test_verify_checks_what_package_makes_of_a_gguf_file(tmp_path, monkeypatch):
    folder, file = write_checkpoint(tmp_path / "cached"), tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.setattr(gguf_files, "as_checkpoint", lambda path: folder)
    for given in ({"folder": file}, {"folder": tmp_path, "gguf_file": "tiny.gguf"}):
        found = list(verify(**given, tokens=256))
        assert {finding.check for finding in found} == set(Check)
        assert not [finding for finding in found if finding.outcome is Outcome.FAILED], found
    with pytest.raises(DcaHubError, match=r"no GGUF file .other\.gguf"):
        list(verify(tmp_path, gguf_file="other.gguf"))


def test_the_app_begins_with_a_gguf_file(tmp_path, monkeypatch, capsys):
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")

    def build(settings):
        raise DcaHubError(f"begins with {settings.model}")

    monkeypatch.setattr("dca_hub.space.build.build", build)
    for name in ("tiny.gguf", "other.gguf"):
        monkeypatch.setattr("sys.argv", ["app.py", "--model", str(tmp_path), "--gguf-file", name])
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))  # a program sets it for all its life
        assert run.main(tmp_path) == 2
    begun, refused = capsys.readouterr().err.splitlines()
    assert begun.endswith(f"begins with {tmp_path / 'tiny.gguf'}") and "no GGUF file 'other.gguf'" in refused
