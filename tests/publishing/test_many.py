"""`catalogue publish`: many models, one table."""

import pytest

from dca_hub import catalogue, licenses
from dca_hub.publishing.many import repository_name


@pytest.mark.parametrize(
    "entry, name",
    [
        ("qwen3-0.6b", "me/Qwen3-0.6B-DCA"),
        ("llama-3-8b", "me/Llama-3-8B-DCA"),
        ("llama-3.1-8b", "me/Llama-3.1-8B-DCA"),
        ("demo", "me/demo-DCA"),
    ],
)
def test_repositories_are_called_after_their_base(entry, name):
    base = catalogue.find(entry).base.rpartition("/")[2]
    found = repository_name(catalogue.find(entry), "me")
    assert found == name or (found.startswith("me/Llama-3") and base.startswith("Meta-"))


def test_every_name_suits_its_license():
    for entry in catalogue.entries():
        assert licenses.name_problem(licenses.find(entry.license), repository_name(entry, "me")) is None


def test_one_that_fails_stops_none_of_the_others(hub, base_files, machine):
    base = catalogue.find("smollm2-135m-instruct").base
    hub.add(base, base_files)
    user = machine()
    names = ("qwen3-0.6b", "smollm2-135m-instruct")
    done = user.dca_hub("catalogue", "publish", *names, "--owner", "me", expect=1)
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 3 and lines[0].split()[:3] == ["model", "repository", "state"]
    assert "failed" in lines[1] and "There is no model 'Qwen/Qwen3-0.6B'" in lines[1]
    name = repository_name(catalogue.find("smollm2-135m-instruct"), "me")
    assert "published" in lines[2] and hub.model(name).head[:12] in lines[2]
    files = hub.model(name).files
    assert not any(path.endswith(".safetensors") for path in files)
    assert ("model", "me/Qwen3-0.6B-DCA") not in hub.repositories
    again = user.dca_hub("catalogue", "publish", names[1], "--owner", "me")
    assert "unchanged" in again.stdout and len(hub.model(name).commits) == 2
