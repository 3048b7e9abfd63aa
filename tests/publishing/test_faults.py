"""What goes wrong on the way to the Hub: it is tried again or told, and no repository is ever half of anything."""

import json
import subprocess
import sys
import time

import pytest

from dca_hub.publishing.hub import _TRIES
from support.hub_server import OWNER_TOKEN, READER_TOKEN, Blob, Fault
from support.machines import BASE

NAME = "me/tiny-dca"


def complete(hub, package_folder) -> bool:
    """Whether the repository holds the whole package at its head."""
    held = hub.model(NAME).files
    return {path.name for path in package_folder.iterdir()} <= set(held)


def untouched(hub) -> bool:
    return ("model", NAME) not in hub.repositories or len(hub.model(NAME).commits) == 1


@pytest.mark.parametrize("place", ["/api/models/org/tiny-llama", "/api/repos/create", "preupload", "/commit/", "/tag/"])
def test_passing_errors_are_tried_again(place, hub, package_folder, push):
    hub.faults = [Fault(place, status=503), Fault(place, cut=True)]
    assert push(package_folder, weights="copy")["new"]
    assert complete(hub, package_folder)
    assert len(hub.model(NAME).commits) == 2
    assert not any(fault.times for fault in hub.faults)


def test_a_lost_answer_makes_no_second_revision(hub, package_folder, push):
    hub.faults = [Fault("POST .*/commit/", cut=True, after=True)]
    done = push(package_folder, weights="copy")
    assert done["commit"] == hub.model(NAME).head
    assert len(hub.model(NAME).commits) == 2
    assert sum("/commit/" in asked for asked in hub.requests) == 1


def test_silence_ends(hub, package_folder, push):
    hub.faults = [Fault("POST .*/commit/", seconds=60)]
    started = time.monotonic()
    assert push(package_folder, weights="copy", silence=1.0)["new"]
    assert time.monotonic() - started < 60
    assert complete(hub, package_folder)


def test_lasting_errors_are_told_and_leave_nothing(hub, package_folder, push):
    hub.faults = [Fault("POST .*/commit/", status=500, times=99)]
    said = push(package_folder, weights="copy", expect=1)
    assert "returned 500" in said["problem"] and "run the same command again" in said["problem"]
    assert untouched(hub)
    assert sum("/commit/" in asked for asked in hub.requests) == _TRIES


def test_an_interrupted_upload_goes_on_where_it_stopped(hub, package_folder, push, machine):
    user = machine()
    hub.faults = [Fault("PUT /lfs/", seconds=60, skip=3, times=9)]
    code = (
        "from dca_hub.publishing import model as m\n"
        f"m.upload(m.plan({str(package_folder)!r}, {NAME!r}, m.Options(weights='copy')))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env=user.environment(), stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while len(hub.requests) < 1 or len(getattr(hub.repositories.get(("model", NAME)), "large", ())) < 3:
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert untouched(hub)
    arrived, sent = set(hub.model(NAME).large), len(hub.requests)
    hub.faults = []
    push(package_folder, weights="copy", on=user)
    again = [asked for asked in hub.requests[sent:] if asked.startswith("PUT /lfs/")]
    shards = list(package_folder.glob("*.safetensors"))
    assert len(arrived) == 3 and len(again) == len(shards) - 3
    assert not any(oid in asked for asked in again for oid in arrived)
    assert complete(hub, package_folder)


def test_a_concurrent_push_is_never_overwritten(hub, package_folder, push):
    def somebody_else(repository):
        hub.before_commit = None
        repository.commit({**repository.commits[repository.head], "notes.md": Blob(b"mine", False)})

    hub.before_commit = somebody_else
    said = push(package_folder, weights="copy", expect=1)
    assert said["kind"] == "Concurrent" and "Somebody else pushed" in said["problem"]
    assert set(hub.model(NAME).files) == {".gitattributes", "notes.md"}
    assert push(package_folder, weights="copy")["new"]
    assert complete(hub, package_folder) and hub.model(NAME).files["notes.md"] == b"mine"


def test_a_new_version_replaces_the_old_one_whole(hub, package_folder, push):
    first = push(package_folder, weights="copy")
    second = push(package_folder, weights="reference")
    files = hub.model(NAME).files
    assert not any(name.endswith(".safetensors") for name in files)
    assert "weights_of_base" in json.loads(files["config.json"])
    assert first["commit"] != second["commit"] and first["tag"] != second["tag"]
    assert hub.model(NAME).tags == {first["tag"]: first["commit"], second["tag"]: second["commit"]}
    third = push(package_folder, weights="copy")
    assert "weights_of_base" not in json.loads(hub.model(NAME).files["config.json"])
    assert third["tag"] == first["tag"], "the same contents have the same name"


@pytest.mark.parametrize(
    "fault, words",
    [
        (
            Fault("objects/batch", status=403, message="Private storage limit reached, upgrade", times=9),
            "no storage left",
        ),
        (Fault("PUT /lfs/", status=507, message="full", times=9), "no storage left"),
        (Fault("/commit/", status=429, message="too many", times=9), "limited your rate of requests"),
    ],
)
def test_the_hub_refuses(fault, words, hub, package_folder, push):
    hub.faults = [fault]
    said = push(package_folder, weights="copy", expect=1)
    assert words in said["problem"] and "\n" not in said["problem"]
    assert untouched(hub)


@pytest.mark.parametrize(
    "token, repository, words",
    [
        (None, NAME, "There is no Hub token"),
        ("hf_WrongWrongWrongWrongWrongWrongWrong", NAME, "does not accept your token"),
        (READER_TOKEN, NAME, "may not write to me/tiny-dca"),
        (OWNER_TOKEN, "tiny-dca", "it must be owner/name"),
        (OWNER_TOKEN, "me/tiny dca", "it must be owner/name"),
        (OWNER_TOKEN, "somebody/tiny-dca", "may not write to somebody/tiny-dca"),
    ],
)
def test_who_may_not_publish_is_told_why(token, repository, words, hub, package_folder, push, machine):
    user = machine("other", token)
    said = push(package_folder, repository, weights="copy", on=user, expect=1)
    assert words in said["problem"] and "\n" not in said["problem"]
    assert untouched(hub) and set(hub.repositories) == {("model", BASE)}


def test_a_token_without_write_access_to_a_repository_that_exists(hub, package_folder, push, machine):
    push(package_folder, weights="copy")
    (package_folder / "README.md").write_text("changed", encoding="utf-8")
    said = push(package_folder, weights="reference", on=machine("other", READER_TOKEN), expect=1)
    assert "may not write" in said["problem"]
    assert len(hub.model(NAME).commits) == 2


def test_no_network(package_folder, push, machine):
    said = push(package_folder, environment={"HF_ENDPOINT": "http://127.0.0.1:9"}, expect=1)
    assert "could not be reached" in said["problem"]
    said = push(package_folder, environment={"HF_HUB_OFFLINE": "1"}, expect=1)
    assert "HF_HUB_OFFLINE" in said["problem"]


def test_something_else_is_never_replaced(hub, package_folder, push):
    hub.add(NAME, {"pytorch_model.bin": b"precious"})
    said = push(package_folder, weights="copy", expect=1)
    assert "already holds other files (pytorch_model.bin)" in said["problem"]
    assert untouched(hub)
