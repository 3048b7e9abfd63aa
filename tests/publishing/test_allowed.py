"""What may leave this machine."""

import json

import pytest

from dca_hub import manifest
from dca_hub.errors import DcaHubError
from dca_hub.publishing import allowed

TOKEN = b"hf_" + b"aB3" * 12


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "model.safetensors",
        "model-00001-of-00030.safetensors",
        "model.safetensors.index.json",
        "modeling_dca_qwen3_moe.py",
        "dual_chunk_attention.py",
        "LICENSE",
        "LICENSE.txt",
        "LICENSE.pdf",
        "tekken.json",
        "additional_chat_templates/tool_use.jinja",
        "Notice",
        "README.md",
        "dca_package.json",
    ],
)
def test_files_of_a_package(name):
    assert allowed.in_package(name)


@pytest.mark.parametrize(
    "name",
    [
        ".env",
        ".env.local",
        "prod.env",
        "id_rsa",
        "server.key",
        "LICENSE.pem",
        "credentials.json",
        "token.txt",
        "pytorch_model.bin",
        "training_args.bin",
        "train.py",
        "sub/config.json",
        "../config.json",
        "optimizer.safetensors",
        "events.out.tfevents.1",
        ".netrc",
    ],
)
def test_strays_of_a_package(name):
    assert not allowed.in_package(name)


@pytest.mark.parametrize(
    "path, may",
    [
        ("app.py", True),
        ("requirements.txt", True),
        ("dca_hub/demo/model/tokenizer.json", True),
        ("dca_hub/demo/model/model.safetensors", True),
        ("dca_hub/tokens.py", True),
        ("configs/demo.yaml", True),
        (".env", False),
        ("dca_hub/.env", False),
        ("secrets.toml", False),
        ("deploy.key", False),
        (".cache/huggingface/token", False),
        ("dca_hub/__pycache__/load.py", False),
        ("venv/lib/x.py", False),
        ("core.dump", False),
    ],
)
def test_files_of_a_space(path, may):
    assert allowed.in_space(path) is may


def test_a_secret_in_a_file_is_named_and_not_shown():
    with pytest.raises(DcaHubError, match=r"'config\.json' contains what looks like a Hub token") as raised:
        allowed.refuse_secrets("config.json", b'{"token": "' + TOKEN + b'"}')
    assert TOKEN.decode() not in str(raised.value)
    allowed.refuse_secrets("README.md", b"set HF_TOKEN to hf_... and go")


@pytest.mark.parametrize("stray", [".env", "id_rsa", "notes.txt"])
def test_a_manifest_that_names_strays_does_not_publish_them(stray, hub, package_folder, push):
    (package_folder / stray).write_text("x", encoding="utf-8")
    held = manifest.read(package_folder)
    held.files[stray] = {"sha256": manifest.digest(package_folder / stray), "size": 1}
    held.write(package_folder)
    said = push(package_folder, weights="copy", expect=1)
    assert f"{stray!r} does not belong in a model repository" in said["problem"]
    assert ("model", "me/tiny-dca") not in hub.repositories


def test_files_beside_the_manifest_stay_here(hub, package_folder, push):
    (package_folder / ".env").write_text("KEY=1", encoding="utf-8")
    push(package_folder, weights="copy")
    assert ".env" not in hub.model("me/tiny-dca").files


def test_a_token_in_a_config_stays_here(hub, package_folder, push):
    path = package_folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "auth": TOKEN.decode()}), encoding="utf-8")
    said = push(package_folder, weights="copy", expect=1)
    assert "looks like a Hub token" in said["problem"] and TOKEN.decode() not in said["problem"]
    assert ("model", "me/tiny-dca") not in hub.repositories
