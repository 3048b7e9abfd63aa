"""Downloads of weights: watched while they go on, ended at once, and gone on with later. The Hub is one on loopback."""

import anyio
import pytest

from support.hub_server import Hub
from support.machines import Machine
from support.tiny_checkpoints import write_checkpoint

_WATCH = """
import json, time
from dca_hub import loading

class GivenUp(Exception):
    pass

told, begun = [], 0.0

def report(progress):
    global begun
    told.append((progress.stage, progress.done, progress.total))
    if {stop} and progress.total:
        begun = time.monotonic()
        raise GivenUp

try:
    loading.fetch("org/tiny", progress=report)
except GivenUp:
    pass
print(json.dumps({{"told": told, "ending": time.monotonic() - begun}}))
"""


class SlowHub(Hub):
    """Takes its time before it gives weights."""

    seconds = 0.0

    async def resolve(self, request):
        if request.method == "GET" and request.path_params["path"].endswith(".safetensors"):
            await anyio.sleep(self.seconds)
        return await super().resolve(request)


@pytest.fixture
def hub():
    with SlowHub().running() as running:
        yield running


@pytest.fixture
def machine(tmp_path, hub):
    folder = write_checkpoint(tmp_path / "tiny", shards=True)
    hub.add("org/tiny", {path.name: path.read_bytes() for path in folder.iterdir()})
    home = tmp_path / "home"
    home.mkdir()
    return Machine(home, hub)


def test_a_download_is_told_in_bytes_and_leaves_the_model_here(machine, hub):
    hub.seconds = 0.6
    found = machine.json(_WATCH.format(stop=False))
    assert {stage for stage, _, _ in found["told"]} == {"downloading"}
    total = found["told"][-1][2]
    weights = [done for _, done, of in found["told"] if of == total]  # config and tokenizer came before, on their own
    assert total > 50_000 and len(weights) > 3 and weights == sorted(weights) and 0 <= weights[0] < weights[-1] <= total
    hub.requests.clear()
    machine.json("from dca_hub import loading\nloading.load('org/tiny')\nprint('{}')")
    assert not any("GET" in asked and asked.endswith(".safetensors") for asked in hub.requests)


def test_a_download_that_is_given_up_ends_at_once(machine, hub):
    hub.seconds = 30
    found = machine.json(_WATCH.format(stop=True))
    assert found["ending"] < 1.0
