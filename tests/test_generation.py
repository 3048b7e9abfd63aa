"""Every answer of the product is the one that transformers' `generate` gives, token by token, whole and in pieces."""

import copy
import os
import random

import pytest
import torch

from dca_hub import generation
from dca_hub.demo import MODEL_DIR
from dca_hub.evaluation import needle
from dca_hub.evaluation.answering import Reader, Request, answer
from dca_hub.generation import PromptCache, Sampling, can_pad, decode, generate_together
from dca_hub.loading import load

WRITTEN = 24
REAL = os.environ.get("DCA_HUB_TEST_MODEL")  # a folder, such as one of SmolLM2-135M-Instruct


@pytest.fixture(scope="module", params=["demo", "real"])
def loaded(request):
    if request.param == "real" and not REAL:
        pytest.skip("no real model: set DCA_HUB_TEST_MODEL to the folder of one")
    return load(str(MODEL_DIR) if request.param == "demo" else REAL, dtype="float32")


@pytest.fixture(params=["DCA", "plain"])
def model(request, loaded):
    return loaded.model if request.param == "DCA" else loaded.base


@pytest.fixture(scope="module")
def prose(loaded):
    """Three hundred tokens of a novel: what follows is different at every token."""
    ids = loaded.tokenizer.encode(needle.haystack_text("prose"), add_special_tokens=False)
    return ids[:300]


@torch.no_grad()
def generated(model, prompt: list[int], tokens: int = WRITTEN) -> list[int]:
    """What a user of transformers gets."""
    ids = torch.tensor([prompt])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False)
    return out[0, len(prompt) :].tolist()


def read(cache: PromptCache, prompt: list[int], piece: int | None = None) -> None:
    for _ in cache.read(prompt, piece):
        pass


def test_an_answer_is_that_of_generate_whole_and_in_pieces(model, prose):
    wanted = generated(model, prose)
    assert len(set(wanted)) > WRITTEN // 2, "a degenerate answer would tell a skipped token from a repeated one badly"
    for piece in (None, 7, 100, 2048):
        cache = PromptCache(model)
        read(cache, prose, piece)
        assert cache.tokens == prose[:-1]
        assert cache.generate(prose, Sampling(WRITTEN)) == wanted
    assert PromptCache(model).generate(prose, Sampling(WRITTEN)) == wanted, "nothing read beforehand"


def test_a_batch_gives_what_each_prompt_gives_alone(model, prose):
    """Of unequal lengths, in pieces, with answers that end by themselves and such that are ended."""
    prompts, told = [prose, prose[:120], prose[40:90]], []
    wanted = [PromptCache(model).generate(prompt, Sampling(WRITTEN)) for prompt in prompts]
    for piece in (32, 2048):
        found = generate_together(
            model, prompts, Sampling(WRITTEN), piece=piece, progress=lambda done, of: told.append((done, of))
        )
        assert found == wanted
    assert told[0] == (32, 300) and told[-1] == (299, 300)
    ends = [lambda written, most=most: len(written) >= most for most in (5, 99, 1)]
    found = generate_together(model, prompts, Sampling(WRITTEN), are_enough=ends)
    assert found == [wanted[0][:5], wanted[1], wanted[2][:1]]


def test_evaluation_answers_what_generate_does(loaded, model, prose):
    reader = Reader(loaded.tokenizer, chat=True)
    text = loaded.tokenizer.decode(prose)
    ids = loaded.tokenizer.encode(text, add_special_tokens=False)
    request = Request("generate_until", text, options={"max_gen_toks": WRITTEN})
    assert answer(model, reader, request, 4096)["answer"] == decode(model, loaded.tokenizer, generated(model, ids))


def test_a_needle_test_answers_what_generate_does(loaded, model):
    maker = needle.build_haystack(loaded.tokenizer, needle.haystack_text("prose"), 256)
    prompt = maker.prompt(256, 0.5, random.Random("0 256 0.5 0"))
    wanted = decode(model, loaded.tokenizer, generated(model, prompt.ids)).strip()
    assert needle.ask(model, maker, 0, (256, 0.5, 0), piece=50).answer == wanted


def test_what_is_shared_with_the_last_prompt_is_not_read_again(model, prose):
    cache, other = PromptCache(model), [*prose[:250], *prose[:20]]
    read(cache, prose)
    cache.generate(prose, Sampling(4))
    assert cache.missing(other) == 19
    assert list(cache.read(other, 2048)) == [19]
    assert cache.generate(other, Sampling(WRITTEN)) == generated(model, other)
    assert cache.missing(other) == 0


def test_processes_that_share_a_model_read_the_same_pieces(model, prose, monkeypatch):
    """Each has a clock of its own, and a layer that is computed by all waits for all."""
    monkeypatch.setattr(generation, "PIECE", 100)
    monkeypatch.setattr(generation, "shares_work", lambda: True)
    assert list(PromptCache(model).read(prose)) == [100, 200, 299]


def test_the_work_stops_between_pieces_and_tokens(model, prose):
    cache = PromptCache(model)
    pieces = cache.read(prose, 50)
    assert next(pieces) == 50
    pieces.close()
    assert cache.tokens == prose[:50]
    assert list(cache.read(prose, 100)) == [100, 200, 249]
    stopped = cache.generate(prose, Sampling(WRITTEN), is_enough=lambda written: len(written) == 5)
    assert stopped == generated(model, prose, 5)
    assert cache.generate(prose, Sampling(WRITTEN)) == generated(model, prose)


def test_an_error_in_the_model_empties_a_cache_that_may_be_torn(model, prose):
    cache = PromptCache(model)
    read(cache, prose)

    def fail(written):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.generate(prose, Sampling(WRITTEN), is_enough=fail)
    assert cache.tokens == []
    assert cache.generate(prose, Sampling(WRITTEN)) == generated(model, prose)


def test_sampling_draws_what_generate_draws(model, prose):
    torch.manual_seed(3)
    drawn = PromptCache(model).generate(prose, Sampling(12, temperature=0.8, top_p=0.9))
    torch.manual_seed(3)
    ids = torch.tensor([prose])
    with torch.no_grad():
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=True, temperature=0.8, top_p=0.9
        )
    assert drawn == out[0, len(prose) :].tolist()


def test_prompts_are_not_padded_where_padding_would_count(loaded):
    assert can_pad(loaded.base)
    other = copy.copy(loaded.base)
    other.generation_config = copy.deepcopy(other.generation_config)
    other.generation_config.repetition_penalty = 1.1
    assert not can_pad(other)
