"""Tuning: what is tried, in which order, and that the numbers are the evaluation's own."""

import json
import math

import pytest

from dca_hub import DcaHubError, extend
from dca_hub.evaluation import needle, perplexity
from dca_hub.loading import load
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.tuning import candidates, tune
from support.tiny_checkpoints import write_checkpoint

TEXT = "A sentence of prose, which is followed by others of its kind. " * 40


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    source = write_checkpoint(tmp_path_factory.mktemp("tuning") / "tiny", max_position_embeddings=512)
    return load(str(source), device="cpu")


def test_the_authors_sizes_come_first_and_all_are_valid():
    found = candidates(DualChunkGeometry(6144, 1024, 8192, 0.2))
    assert found[0] == DualChunkGeometry(6144, 1024, 8192) and len(found) == len(set(found)) == 5
    assert DualChunkGeometry(7680, 512, 8192) in found and DualChunkGeometry(8191, 1024, 8192) in found


def test_temperatures_are_tried_with_the_best_sizes_and_numbers_are_the_evaluations(loaded):
    told = []
    tried = list(tune(loaded, [TEXT], times=2, windows=2, progress=lambda *at: told.append(at)))
    sizes = [one for one in tried if not one.geometry.temperature]
    best = min(sizes, key=lambda one: one.loss)
    later = [one.geometry for one in tried[len(sizes) :]]
    assert len(later) == 3 and {(one.chunk_size, one.local_size) for one in later} == {
        (best.geometry.chunk_size, best.geometry.local_size)
    }
    assert told[-1][0] == told[-1][1] and told == sorted(told)
    first = tried[0]
    model = extend(loaded.base, 512, chunk_size=first.geometry.chunk_size, local_size=first.geometry.local_size)
    ids = loaded.tokenizer(TEXT)["input_ids"]
    ends = [window.end for window in perplexity.windows_of_documents([len(ids)], 1024, 256, 2)]
    nats = sum(perplexity.nats(model, ids, end, 1024, scored=256) for end in ends)
    assert first.at[1024] == pytest.approx(math.exp(nats / 512), rel=1e-5)


def test_keys_decide_where_they_are_asked_for(loaded, monkeypatch):
    """A model that finds those in the first half with C = 256 alone: sizes with it are the best, and warmed last."""
    told = []

    def run(model, tokenizer, grid, *, name, dca, text, progress):
        assert text.startswith("A sentence of prose") and grid.lengths == (512, 1024)
        for length, depth, trial in grid.trial_keys():
            progress(length // 2, length)
            right = model.config.dual_chunk_attention_config["chunk_size"] == 256 and depth < 0.5
            yield needle.Trial(name, dca, grid.haystack, 0, length, depth, trial, "12345", "", right, "", 0.0)

    monkeypatch.setattr(needle, "run", run)
    tried = list(tune(loaded, [TEXT], by="keys", times=2, progress=lambda *at: told.append(at)))
    best = min(tried, key=lambda one: one.loss)
    assert best.geometry.chunk_size == 256 and best.at == {512: 0.4, 1024: 0.4} and best.loss == pytest.approx(0.6)
    assert {one.geometry.chunk_size for one in tried[-3:]} == {256} and tried[0].loss == 1
    assert json.loads(best.to_line())["keys"] == {"512": 0.4, "1024": 0.4}
    assert told == sorted(told) and told[-1][0] == told[-1][1]


def test_where_no_key_is_found_the_sizes_are_not_chosen_by_keys(loaded):
    tried = tune(loaded, [TEXT], by="keys", times=2)
    first = next(tried)
    assert first.at == {512: 0.0, 1024: 0.0} and first.loss == 1, "a model of random weights finds nothing"
    with pytest.raises(DcaHubError, match="No sizes make this model find a pass key"):
        list(tried)


def test_a_text_that_is_too_short_is_refused(loaded):
    with pytest.raises(DcaHubError, match="longest text"):
        list(tune(loaded, ["short"], times=2))
