"""A Hub on loopback, a tiny base model on it, and commands run against it as a user runs them."""

import itertools
import json
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from dca_hub import manifest
from support.hub_server import OWNER_TOKEN, Hub
from support.machines import BASE, Machine

_numbers = itertools.count()
WORDS = ["the", "a", "pass", "key", "is", "model", "reads", "long", "text", "and", "no", "more", "one", "two", "three"]


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory) -> Path:
    """A plain tiny Llama with a tokenizer, a card and a license, as it would lie in a repository."""
    folder = tmp_path_factory.mktemp("base") / "tiny-llama"
    vocabulary = {word: index for index, word in enumerate(["<unk>", "<s>", "</s>", *WORDS])}
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=64,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="60KB")
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\nlanguage: en\n---\n# Tiny\n", encoding="utf-8")
    (folder / "LICENSE").write_text("Apache License, Version 2.0 (of the tests)\n", encoding="utf-8")
    return folder


@pytest.fixture
def base_files(base_folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in base_folder.iterdir()}


@pytest.fixture
def hub():
    with Hub().running() as running:
        yield running


@pytest.fixture
def machine(tmp_path, hub):
    """Gives machines by name, each new."""

    def make(name: str = "publisher", token: str | None = OWNER_TOKEN) -> Machine:
        home = tmp_path / name
        home.mkdir()
        return Machine(home, hub, token)

    return make


@pytest.fixture
def on_hub(hub, base_files):
    """The base model's repository on the Hub."""
    return hub.add(BASE, base_files)


@pytest.fixture(scope="session")
def made_package(base_folder, tmp_path_factory) -> Path:
    """A package of the base model with its weights, made once."""
    from dca_hub.packaging import package

    return package(str(base_folder), tmp_path_factory.mktemp("package") / "tiny-dca").folder


@pytest.fixture
def package_folder(made_package, tmp_path, on_hub) -> Path:
    """A package of its own for each test, whose manifest says that it was made from the base on the Hub."""
    folder = tmp_path / "tiny-dca"
    shutil.copytree(made_package, folder)
    held = manifest.read(folder)
    manifest.Manifest(BASE, on_hub.head, "copy", held.files).write(folder)
    return folder


@pytest.fixture
def push(machine):
    """Publishes without the checks that load the model, and gives what came of it: a commit, or the sentence."""

    def run(
        folder: Path,
        repository: str = "me/tiny-dca",
        *,
        on: Machine | None = None,
        expect: int = 0,
        environment: dict[str, str] | None = None,
        **options,
    ) -> dict:
        code = (
            "import json, sys\n"
            "from dca_hub.errors import DcaHubError\n"
            "from dca_hub.publishing import hub, model\n"
            "hub._PAUSE = 0.05\n"
            f"options = model.Options(**{options!r})\n"
            "try:\n"
            f"    done = model.upload(model.plan({str(folder)!r}, {repository!r}, options))\n"
            "    model.tag(done)\n"
            "    said = {'commit': done.commit.commit, 'new': done.new, 'weights': done.plan.choice.mode,\n"
            "            'why': done.plan.choice.why, 'tag': done.plan.prepared.tag, 'snippet': done.snippet,\n"
            "            'pull_request': done.commit.pull_request}\n"
            "except DcaHubError as error:\n"
            "    said = {'problem': str(error), 'kind': type(error).__name__}\n"
            "print(json.dumps(said))\n"
            "sys.exit('problem' in said)\n"
        )
        user = on or machine(f"machine-{next(_numbers)}")
        done = user.python(code, expect=None, **(environment or {}))
        assert done.returncode == expect, done.stdout + done.stderr
        assert OWNER_TOKEN not in done.stdout + done.stderr
        return json.loads(done.stdout.strip().splitlines()[-1])

    return run
