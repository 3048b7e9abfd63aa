"""A package on its way to a stranger: the commands as a user gives them, and the model as somebody else loads it."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from dca_hub import extend
from support.hub_server import OWNER_TOKEN, READER_TOKEN
from support.machines import BASE

IDS = torch.arange(3, 103).remainder(15).add(3)[None]  # 100 tokens, past the trained 64 and over two chunks of 40

# What a stranger types, with a revision to fill in: the model, the bare model, the tokenizer; the logits go to a file.
LOADING = """
import json, torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer
options = dict(revision={revision!r}, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained({name!r}, **options)
model = AutoModelForCausalLM.from_pretrained({name!r}, **options)
bare = AutoModel.from_pretrained({name!r}, **options)
ids = torch.tensor({ids})
with torch.inference_mode():
    logits = model(ids, use_cache=False).logits
    hidden = model.lm_head(bare(ids, use_cache=False).last_hidden_state)
save_file(dict(logits=logits, hidden=hidden), "logits.safetensors")
tokens = tokenizer("the pass key")["input_ids"]
print(json.dumps(dict(model=type(model).__name__, bare=type(bare).__name__, tokens=tokens)))
"""
# The same through this project, which runs no code of the repository.
OURS = f"""
import torch
from safetensors.torch import save_file
from dca_hub.loading import load
with torch.inference_mode():
    logits = load({{name!r}}, revision={{revision!r}}).model(torch.tensor({IDS.tolist()}), use_cache=False).logits
save_file(dict(logits=logits.clone()), "ours.safetensors")
"""


@pytest.fixture(scope="module")
def wanted(base_folder) -> torch.Tensor:
    """The logits of the base with DCA, by the definition's other way in: `extend`."""
    base = AutoModelForCausalLM.from_pretrained(base_folder)
    model = extend(base.eval(), 64)
    with torch.inference_mode():
        return model(IDS, use_cache=False).logits


def load(user, name: str, revision: str, wanted: torch.Tensor, also: str = "", **environment) -> dict:
    code = also + LOADING.format(name=name, revision=revision, ids=IDS.tolist())
    said = user.json(code, **environment)
    held = load_file(user.home / "logits.safetensors")
    torch.testing.assert_close(held["logits"], wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(held["hidden"], wanted, atol=1e-5, rtol=1e-5)
    assert said["model"] == "DualChunkLlamaForCausalLM" and said["bare"] == "DualChunkLlamaModel"
    assert len(said["tokens"]) == 3
    return said


def test_from_a_checkpoint_to_a_stranger(hub, on_hub, machine, wanted):
    publisher, name = machine(), "me/Tiny-DCA"
    publisher.dca_hub("package", BASE, "--out", "tiny-dca", "--weights", "link")
    done = publisher.dca_hub("publish", "tiny-dca", name, "--weights", "copy")
    commit = hub.model(name).head
    assert f"published: {name} at {commit}" in done.stdout
    assert "loaded back from the Hub: DualChunkLlamaForCausalLM, the package's tokenizer, logits within" in done.stdout
    assert len(hub.model(name).commits) == 2

    stranger = machine("stranger", token=None)
    snippet = re.search(r"from transformers import.*?\n\)\n", done.stdout, re.DOTALL)[0]
    assert snippet.count(commit) == 2
    load(stranger, name, commit, wanted)
    stranger.python(snippet + "assert type(model).__name__ == 'DualChunkLlamaForCausalLM'", HF_HUB_OFFLINE="1")
    [tag] = hub.model(name).tags
    card = hub.model(name).files["README.md"].decode()
    assert f'revision="{tag}"' in card and hub.model(name).tags[tag] == commit

    sent = len(hub.requests)
    again = publisher.dca_hub("publish", "tiny-dca", name, "--weights", "copy", "--json")
    assert json.loads(again.stdout)["new"] is False and hub.model(name).head == commit
    assert all(asked.startswith(("GET", "HEAD")) for asked in hub.requests[sent:])
    everything = done.stdout + done.stderr + again.stdout + again.stderr
    assert OWNER_TOKEN not in everything
    assert not any(OWNER_TOKEN.encode() in data for data in hub.model(name).files.values())
    written = (path for path in publisher.home.rglob("*") if path.is_file() and path.stat().st_size < 1_000_000)
    assert not any(OWNER_TOKEN.encode() in path.read_bytes() for path in written)


def test_a_reference_loads_the_weights_of_a_gated_base(hub, on_hub, machine, wanted):
    on_hub.gated, on_hub.readers = "manual", frozenset({"me", "reader"})
    publisher, name = machine(), "me/Tiny-reference"
    publisher.dca_hub("package", BASE, "--out", "tiny-dca", "--weights", "reference")
    done = publisher.dca_hub("publish", "tiny-dca", name)
    assert "weights: reference, since org/tiny-llama is gated" in done.stdout
    assert "passed   equals the base up to the chunk length" in done.stdout, "verified with the base's weights"
    assert "logits within" in done.stdout
    files, commit = hub.model(name).files, hub.model(name).head
    assert not any(path.endswith(".safetensors") for path in files) and sum(map(len, files.values())) < 300_000
    assert json.loads(files["config.json"])["weights_of_base"] == {"repository": BASE, "revision": on_hub.head}

    reader = machine("reader", READER_TOKEN)
    pinned = on_hub.head
    on_hub.commit({})  # the base moves on, and the pinned revision stays
    ours = OURS.format(name=name, revision=commit)
    load(reader, name, commit, wanted, also=ours)
    offline = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    load(reader, name, commit, wanted, also=ours, **offline)
    by_us = load_file(reader.home / "ours.safetensors")["logits"]
    torch.testing.assert_close(by_us, wanted, atol=1e-5, rtol=1e-5)

    reader.python(f"from huggingface_hub import snapshot_download as get; get({name!r}, local_dir='downloaded')")
    said = reader.dca_hub("verify", "downloaded").stdout
    assert f"skipped  loads with remote code: the weights are with the base model, {BASE}: `fetch` gets them" in said
    said = reader.dca_hub("verify", "downloaded", "--fetch").stdout
    assert said.count("passed") >= 8 and "failed" not in said

    stranger = machine("stranger", token=None)
    line = f"from transformers import AutoModelForCausalLM as A; A.from_pretrained({name!r}, trust_remote_code=True)"
    said = stranger.python(line, expect=1).stderr.strip().splitlines()[-1]
    assert f"they are those of {BASE} (revision {pinned}), which is gated" in said and "hf auth login" in said
    said = stranger.python(line, expect=1, HF_HUB_OFFLINE="1").stderr.strip().splitlines()[-1]
    assert "not in the cache, and the Hub cannot be reached" in said


def test_from_python_in_one_call(hub, on_hub, machine):
    publisher, name = machine(), "me/Tiny-Python"
    publisher.dca_hub("package", BASE, "--out", "tiny-dca", "--weights", "link")
    code = "import json\nfrom dca_hub import publish\nlines = []\n"
    code += f"done = publish('tiny-dca', {name!r}, on_message=lines.append)\n"
    code += "print(json.dumps(dict(commit=done.commit.commit, back=done.loaded_back, new=done.new, lines=len(lines))))"
    said = publisher.json(code)
    assert said["commit"] == hub.model(name).head and said["new"] and said["lines"] > 2
    assert said["back"].startswith("DualChunkLlamaForCausalLM")


def test_a_copy_by_the_hub_sends_no_weights(hub, package_folder, push):
    done = push(package_folder)
    assert done["weights"] == "server-copy" and "may be redistributed" in done["why"]
    assert not any(asked.startswith("PUT /lfs/") for asked in hub.requests)
    held, base = hub.model("me/tiny-dca").files, hub.model(BASE).files
    shards = [name for name in base if name.endswith((".safetensors", ".index.json"))]
    assert len(shards) > 2 and all(held[name] == base[name] for name in shards)
    assert push(package_folder)["new"] is False


def test_a_private_repository_is_not_there_for_others(hub, package_folder, push, machine):
    push(package_folder, weights="copy", private=True)
    assert hub.model("me/tiny-dca").private
    stranger = machine("stranger", token=None)
    said = stranger.python("from dca_hub.sources import resolve; resolve('me/tiny-dca')", expect=1).stderr
    assert "There is no model 'me/tiny-dca' on the Hub, or it is private" in said
    hub.model("me/tiny-dca").private = False
    said = push(package_folder, weights="copy", private=True, expect=1)
    assert "exists already and is public" in said["problem"]


def test_a_pull_request_leaves_main_alone(hub, package_folder, push):
    first = push(package_folder, weights="copy")
    done = push(package_folder, weights="reference", pull_request=True)
    repository = hub.model("me/tiny-dca")
    assert repository.head == first["commit"] and repository.refs["refs/pr/1"] == done["commit"]
    assert done["pull_request"].endswith("/discussions/1") and done["tag"] is None
    assert done["commit"] in done["snippet"]


def test_a_branch_and_a_tag(hub, package_folder, push):
    done = push(package_folder, weights="reference", branch="dev", tag="v1.0")
    repository = hub.model("me/tiny-dca")
    assert repository.refs["dev"] == done["commit"] and set(repository.files) == {".gitattributes"}
    assert repository.tags == {"v1.0": done["commit"]}
    said = push(package_folder, weights="copy", branch="dev", tag="v1.0", expect=1)
    assert "has a tag 'v1.0' on another revision" in said["problem"]


def test_a_dry_run_changes_nothing(hub, package_folder, machine):
    user = machine()
    done = user.dca_hub("publish", str(package_folder), "me/tiny-dca", "--dry-run", "--json")
    said = json.loads(done.stdout)
    assert said["dry_run"] and "config.json" in said["added"]
    assert ("model", "me/tiny-dca") not in hub.repositories
    assert all(asked.startswith(("GET", "HEAD")) for asked in hub.requests)


def test_a_package_that_fails_its_verification_stays_here(hub, package_folder, machine):
    modeling = package_folder / "modeling_dca_llama.py"
    modeling.write_text(modeling.read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8")
    said = machine().dca_hub("publish", str(package_folder), "me/tiny-dca", expect=2)
    assert "fails its verification (files: modeling_dca_llama.py has changed)" in said.stderr
    assert ("model", "me/tiny-dca") not in hub.repositories
