"""Perplexity: against a direct computation, over the same tokens at every length, stoppable anywhere."""

import math

import numpy as np
import pytest
import torch

from dca_hub import cli
from dca_hub.errors import DcaHubError
from dca_hub.evaluation import perplexity, summary, texts, variants
from dca_hub.evaluation.experiments import Subject, measure_perplexity
from dca_hub.evaluation.perplexity import Window
from dca_hub.loading import load
from support.tiny_models import tiny_dca, tokens

TEXT = "".join(f"In the year {1700 + k} the heron of number {k * 37 % 101} came down the river. " for k in range(60))


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
    assert perplexity.windows_of_documents([100, 40, 64], 64, 16, 0) == [
        Window(0, 64), Window(0, 80), Window(0, 96), Window(2, 64)
    ]  # fmt: skip
    assert perplexity.windows_of_documents([100, 40, 64], 64, 16, 2) == [Window(0, 64), Window(2, 64)]
    with pytest.raises(DcaHubError, match="100 tokens and the longest context 128"):
        perplexity.windows_of_documents([100], 128, 16, 0)


def test_a_text_that_is_too_short_is_named(model):
    with pytest.raises(DcaHubError, match="at most the text's 50 tokens"):
        perplexity.measure(model, tokens(50)[0].tolist(), [60], scored=16)


def test_a_hopeless_model_has_an_infinite_perplexity_and_no_error():
    assert perplexity.mean(64, [1000.0 * 16], 16).value == math.inf


def test_the_authors_windows_begin_every_stride_of_one_stream():
    assert perplexity.windows_of_stream(100, 64, 16, 0) == [Window(0, 65), Window(0, 81), Window(0, 97)]
    assert perplexity.windows_of_stream(100, 64, 16, 2) == [Window(0, 65), Window(0, 97)]
    with pytest.raises(DcaHubError, match="64 tokens and the longest context 64"):
        perplexity.windows_of_stream(64, 64, 16, 0)


@torch.no_grad()
def test_the_authors_definition_scores_every_token_of_a_window(loaded, text_file):
    """As the loss that transformers gives for the labels of each window, no token put before it."""
    books = text_file.read_text().split("\f")
    subject = Subject(loaded, tuple(variants.build(loaded)), "tiny", None)
    run = measure_perplexity(subject, books, [100], data="text", definition="authors", stride=40, windows=0)
    ids = torch.tensor([loaded.tokenizer.encode("".join(books), add_special_tokens=False)])
    starts = range(0, ids.shape[1] - 100, 40)
    assert [sample["end"] for sample in run.samples] == [start + 101 for start in starts]
    for sample, start in zip(run.samples[:4], starts[:4], strict=True):
        logits = loaded.model(ids[:, start : start + 100]).logits[0]
        loss = torch.nn.functional.cross_entropy(logits, ids[0, start + 1 : start + 101])
        assert sample["tokens"] == 100 and sample["nats"] / 100 == pytest.approx(loss.item(), rel=1e-4)
    assert run.header["settings"]["definition"] == "authors" and "as the authors" in summary.data(run)
    last = measure_perplexity(subject, books, [100], data="text", stride=40, windows=0)
    assert last.samples[0]["tokens"] == 40 and last.header["settings"]["definition"] == "last"


@pytest.mark.parametrize("kind, dtype", [(None, "<u2"), ("uint16", "<u2"), ("uint32", "<u4")])
def test_tokens_of_the_authors_are_read_as_tokens(loaded, tmp_path, kind, dtype):
    ids = loaded.tokenizer.encode(TEXT, add_special_tokens=False)
    path = tmp_path / "pg19.validation.bin"
    path.write_bytes(np.array(ids, dtype).tobytes())
    found, name = texts.read_tokens(str(path), loaded.tokenizer, kind)
    assert found == ids and name.startswith("pg19.validation.bin ")


def test_tokens_that_are_not_this_tokenizers_are_refused(loaded, folder, tmp_path, capsys):
    ids = loaded.tokenizer.encode(TEXT, add_special_tokens=False)
    path = tmp_path / "other.bin"
    for wrong in (np.array(ids, "<u4"), np.array(ids, "<u2") + 300):
        path.write_bytes(wrong.tobytes())
        with pytest.raises(DcaHubError, match="does not hold uint16 tokens of this model's tokenizer"):
            texts.read_tokens(str(path), loaded.tokenizer, "uint16")
    demo = load("demo").tokenizer
    others = np.random.default_rng(0).integers(3, len(demo), 3000).astype("<u2")  # valid ids, and not a text's
    path.write_bytes(others.tobytes())
    with pytest.raises(DcaHubError, match="of this model's tokenizer"):
        texts.read_tokens(str(path), demo, None)
    path.write_bytes(b"abc")
    with pytest.raises(DcaHubError, match="not whole ids"):
        texts.read_tokens(str(path), loaded.tokenizer, None)
    path.write_bytes(np.array(ids, "<u2").tobytes())
    (tmp_path / "other.txt").write_bytes(path.read_bytes())
    (tmp_path / "latin.txt").write_bytes("Ein größerer Fluß über Höhen. ".encode("latin-1") * 20)
    for name in ("other.txt", "latin.txt"):
        with pytest.raises(DcaHubError, match=r"is not UTF-8 text"):
            texts.read(str(tmp_path / name))
    command = ["perplexity", str(folder), "--lengths", "64", "--stride", "32", "--windows", "2"]
    assert cli.main([*command, "--text", str(path), "--definition", "authors"]) == 0
    assert "definition authors" in capsys.readouterr().out
