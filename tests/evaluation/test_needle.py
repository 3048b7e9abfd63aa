"""The needle grid: the same prompts every time, results that survive a stop, scores and pictures."""

import io
from dataclasses import asdict

import pytest
from PIL import Image

from dca_hub import json_lines
from dca_hub.errors import DcaHubError
from dca_hub.evaluation import needle, plots
from dca_hub.evaluation.grid import Grid, spread
from dca_hub.evaluation.needle import Trial
from dca_hub.loading import load


@pytest.fixture(scope="module")
def demo():
    return load("demo")


@pytest.fixture(scope="module")
def grid():
    return Grid((1024, 256), (1.0, 0.0, 0.5), 1, "prose", 3)


@pytest.fixture(scope="module")
def results(demo, grid):
    return list(needle.run(demo.model, demo.tokenizer, grid, name="demo", dca=True))


def _result(**changes) -> Trial:
    values = {
        "model": "m", "dca": True, "haystack": "prose", "seed": 0, "length": 256, "depth": 0.5, "trial": 0,
        "key": "12345", "answer": "12345", "found": True, "around": "is 12345.", "seconds": 0.1,
    }  # fmt: skip
    return Trial(**{**values, **changes})


def test_the_grid_is_sorted_and_checked():
    assert Grid((512, 256, 512), (1.0, 0.0)).lengths == (256, 512)
    assert list(Grid((256,), (0.0, 1.0), 2).trial_keys())[:2] == [(256, 0.0, 0), (256, 0.0, 1)]
    for wrong in (((), (0.5,)), ((256,), ()), ((256,), (1.5,)), ((0,), (0.5,))):
        with pytest.raises(DcaHubError):
            Grid(*wrong)
    assert spread(5) == (0.0, 0.25, 0.5, 0.75, 1.0) and spread(1) == (0.5,)


def test_the_demo_model_finds_the_keys_and_the_prompts_hold_them(results, grid):
    assert [r.trial_key for r in results] == list(grid.trial_keys())
    assert sum(r.found for r in results) >= 5
    assert all(r.key in r.around and len(r.key) == 5 for r in results)


def test_both_models_are_asked_the_same(demo, grid, results):
    plain = list(needle.run(demo.base, demo.tokenizer, grid, name="demo", dca=False))
    assert [r.key for r in plain] == [r.key for r in results]
    assert [r.found for r in plain if r.length == 1024] == [False] * 3


def test_a_stopped_run_goes_on(demo, grid, results):
    known = needle.from_text("".join(json_lines.line(asdict(trial)) for trial in results[:2]))
    assert known == results[:2]
    rest = list(needle.run(demo.model, demo.tokenizer, grid, name="demo", dca=True, done=known))
    assert [(r.identity, r.key, r.answer) for r in [*known, *rest]] == [(r.identity, r.key, r.answer) for r in results]


def test_progress_can_stop_a_prompt_while_it_is_read(demo):
    class Enough(Exception):
        pass

    told = []

    def progress(done, total):
        told.append((done, total))
        if len(told) == 2:
            raise Enough

    with pytest.raises(Enough):
        list(needle.run(demo.model, demo.tokenizer, Grid((4096,), (0.5,)), name="d", dca=True, progress=progress))
    assert told[0][0] < told[1][0] < told[1][1] <= 4096


def test_grass_and_ones_own_text_serve_as_haystacks(demo):
    for kind, text in (("grass", ""), ("own", "A heron stood. " * 20)):
        grid = Grid((256,), (0.5,), 1, kind)
        (result,) = needle.run(demo.model, demo.tokenizer, grid, name="demo", dca=True, text=text)
        assert ("grass is green" if kind == "grass" else "heron") in result.around
    with pytest.raises(DcaHubError, match="empty"):
        needle.haystack_text("own", "  ")
    assert "pass key" not in needle.haystack_text("prose")


def test_lines_that_are_no_results_are_refused():
    line = json_lines.line(asdict(_result(around="one\u2028two\x85three")))
    assert needle.from_text(line + "\n" + line[:20]) == [_result(around="one\u2028two\x85three")]
    for bad in ("{}", line + "nonsense\n" + line, "[]\n" + line, line.replace("256", '"256"') + line):
        with pytest.raises(DcaHubError, match=r"line [12](:| is not).*: give the file"):
            needle.from_text(bad)
    with pytest.raises(DcaHubError, match="format 1"):
        needle.from_text('{"run": 1, "task": "needle"}\n' + line)


def test_scores_are_shares_by_cell():
    found = [_result(trial=0), _result(trial=1, found=False), _result(length=512)]
    assert needle.scores(found) == {(256, 0.5): 0.5, (512, 0.5): 1.0}
    assert [r.trial for r in needle.cell(list(reversed(found)), 256, 0.5)] == [0, 1]


def test_pictures_are_drawn_and_their_inks_can_be_read():
    png = plots.heat_map({"DCA": {(256, 0.0): 1.0}, "plain": {}}, [256, 512], [0.0, 1.0], 256, "title")
    assert Image.open(io.BytesIO(png)).width > 500
    curve = {"DCA": [(256, 30.0), (512, 28.0)], "plain": [(256, 30.0), (512, 300.0)]}
    svg = plots.perplexity_curve(curve, 256, kind="svg")
    assert b"<svg" in svg and b"300" in svg and svg == plots.perplexity_curve(curve, 256, kind="svg")
    for step in range(11):
        fill, ink = plots.shade(step / 10)
        light = sorted(_luminance(colour) for colour in (fill, ink))
        assert (light[1] + 0.05) / (light[0] + 0.05) >= 4.5


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
