"""Perplexity: against a direct computation, over the same tokens at every length, stoppable anywhere."""

import math

import pytest
import torch
from tiny_models import tiny_dca, tokens

from dca_hub.errors import DcaHubError
from dca_hub.evaluation import perplexity
from dca_hub.evaluation.perplexity import Window


@pytest.fixture(scope="module")
def model():
    return tiny_dca("llama")


@torch.no_grad()
def direct(model, window, scored):
    """By the logits of one forward over the whole window."""
    logits = model(torch.tensor([window])).logits[0].double().log_softmax(-1)
    return -sum(logits[k - 1, window[k]].item() for k in range(len(window) - scored, len(window)))


@pytest.mark.parametrize("bos", [None, 1])
@pytest.mark.parametrize("piece", [7, 2048])
@pytest.mark.parametrize("scored", [1, 20, 150])
def test_nats_are_those_of_a_direct_computation(model, bos, piece, scored):
    ids = tokens(240)[0].tolist()
    context, end = 200, 230
    window = ids[end - context : end] if bos is None else [bos, *ids[end - context + 1 : end]]
    found = perplexity.nats(model, ids, end, context, bos=bos, scored=scored, piece=piece)
    assert found == pytest.approx(direct(model, window, scored), rel=1e-4)


def test_measure_is_the_mean_of_its_windows_and_scores_the_same_tokens(model):
    ids = tokens(300)[0].tolist()
    short, long = perplexity.measure(model, ids, [60, 120], scored=16, windows=4)
    ends = [120, 180, 240, 300]
    means = [direct(model, ids[end - 120 : end], 16) / 16 for end in ends]
    assert long.nats == pytest.approx(sum(means) / 4, rel=1e-4) and long.tokens == short.tokens == 64
    spread = torch.tensor(means, dtype=torch.float64).std().item() / 2
    assert long.error == pytest.approx(spread, rel=1e-2)
    assert long.value == pytest.approx(math.exp(sum(means) / 4), rel=1e-3)


def test_progress_tells_every_piece_and_can_stop_within_a_window(model):
    told, ids = [], tokens(300)[0].tolist()
    perplexity.measure(model, ids, [60, 120], scored=16, windows=2, piece=25, progress=lambda *one: told.append(one))
    assert told[-1] == (360, 360) and {total for _, total in told} == {360}
    assert [done for done, _ in told] == sorted({done for done, _ in told}) and len(told) >= 2 * (2 + 4)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        perplexity.measure(model, ids, [120], scored=16, piece=25, progress=stop)


def test_no_logits_but_those_that_are_needed_exist(model, monkeypatch):
    """Memory stays bounded: no forward gives logits for more positions than are scored in one piece."""
    sizes, forward = [], model.lm_head.forward
    monkeypatch.setattr(model.lm_head, "forward", lambda x: sizes.append(x.shape[1]) or forward(x))
    perplexity.nats(model, tokens(900)[0].tolist(), 900, 900, scored=300)
    assert max(sizes) <= perplexity.LOGITS_AT_ONCE


def test_windows_lie_within_documents_at_even_distances():
    assert perplexity.places([100, 40, 64], 64, 16, 0) == [
        Window(0, 64), Window(0, 80), Window(0, 96), Window(2, 64)
    ]  # fmt: skip
    assert perplexity.places([100, 40, 64], 64, 16, 2) == [Window(0, 64), Window(2, 64)]
    with pytest.raises(DcaHubError, match="100 tokens and the longest context 128"):
        perplexity.places([100], 128, 16, 0)


def test_a_text_that_is_too_short_is_named(model):
    with pytest.raises(DcaHubError, match="at most the text's 50 tokens"):
        perplexity.measure(model, tokens(50)[0].tolist(), [60], scored=16)


def test_a_hopeless_model_has_an_infinite_perplexity_and_no_error():
    assert perplexity.mean(64, [1000.0 * 16], 16).value == math.inf
