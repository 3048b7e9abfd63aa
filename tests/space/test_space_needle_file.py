"""The needle lab's file of results: what was to be measured comes back with it, and what is no such file is refused."""

import json
from dataclasses import asdict, replace

import pytest

from dca_hub.errors import DcaHubError
from dca_hub.evaluation import runs
from dca_hub.evaluation.grid import Grid
from dca_hub.evaluation.needle import Trial
from dca_hub.space import needle_file

_GRID = Grid((256, 512, 1024), (0.0, 0.5, 1.0), 2)
_RESULT = Trial(
    model="demo", dca=True, haystack="prose", seed=0, length=256, depth=0.5, trial=0, key="12345", answer="12345",
    found=True, around="12345", seconds=0.1,
)  # fmt: skip


_HEADER = {"run": runs.FORMAT, "task": "needle", "model": "demo", "trained": 512, "variants": {}, "settings": {}}


def _write(tmp_path, *results, header=None):
    lines = [*([header] if header else []), *({"variant": "DCA", **asdict(result)} for result in results)]
    path = tmp_path / "needle.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_a_stopped_run_goes_on_from_its_file(space, tmp_path):
    path = tmp_path / "stopped.jsonl"
    path.write_bytes(needle_file.content([_RESULT], _GRID, "both", space.context.host.loaded))
    saved = needle_file.read(str(path))
    assert (saved.results, saved.grid, saved.mode) == ([_RESULT], _GRID, "both")


@pytest.mark.parametrize(
    "planned",
    [None, 5, {}, {"lengths": "all", "depths": [0.5], "trials": 1, "mode": "dca"},
     {"lengths": [512], "depths": [7], "trials": 1, "mode": "dca"},
     {"lengths": [1e999], "depths": [0.5], "trials": 1, "mode": "dca"},
     {"lengths": [512], "depths": [0.5], "trials": 1, "mode": "all"}],
)  # fmt: skip
def test_a_file_that_does_not_say_what_was_planned_holds_its_results(tmp_path, planned):
    other = replace(_RESULT, dca=False, length=2048, trial=1)
    saved = needle_file.read(_write(tmp_path, _RESULT, other, header={**_HEADER, "planned": planned}))
    assert saved.grid == Grid((256, 2048), (0.5,), 2) and saved.mode == "both"
    assert needle_file.read(_write(tmp_path, _RESULT)).mode == "dca"


def test_a_file_of_an_older_format_is_refused(tmp_path):
    with pytest.raises(DcaHubError, match=r"format 1 .* measure again"):
        needle_file.read(_write(tmp_path, _RESULT, header={**_HEADER, "run": 1}))


def test_a_grid_that_no_map_can_show_is_refused(tmp_path):
    with pytest.raises(DcaHubError, match="10,000"):
        needle_file.read(_write(tmp_path, replace(_RESULT, trial=10**9)))
    many = [replace(_RESULT, length=200 + n, depth=n / 200) for n in range(150)]
    with pytest.raises(DcaHubError, match="10,000"):
        needle_file.read(_write(tmp_path, *many))


def test_results_of_two_runs_are_refused(tmp_path):
    with pytest.raises(DcaHubError, match="one run"):
        needle_file.read(_write(tmp_path, _RESULT, replace(_RESULT, model="other")))
