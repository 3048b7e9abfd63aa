"""Reading before anybody asks: a document is ready when its first question comes, and the example for everybody."""

import time

import pytest

from dca_hub.space import uploads
from dca_hub.space.answers import Sampling, begin_turn
from dca_hub.space.lane import Rank


@pytest.fixture(scope="module")
def ahead(make_space):
    """A Space that reads ahead, and has read the example."""
    blocks, space = make_space(port=7940, read_ahead=True)
    assert space.context.answers.read_example().wait(120)
    yield space
    blocks.close()
    space.context.close()


@pytest.fixture
def session(ahead):
    session = ahead.context.sessions.get(f"visitor {time.monotonic()}")
    yield session
    ahead.context.sessions.free(session)


def _bring(ahead, session, path, pages: str = "") -> None:
    c = ahead.context
    upload = uploads.take(session, str(path), c.sessions, c.settings)
    upload.pages = pages
    list(uploads.read(session, [upload], c.host, c.sessions, c.settings))


def _ask(ahead, session):
    turn = begin_turn(session, "What is the pass key?", "dca")
    list(ahead.context.answers.ask(session, turn, Sampling(32)))
    return turn.answers["dca"]


def test_the_first_answer_about_the_example_takes_less_than_a_second_for_every_newcomer(ahead):
    c = ahead.context
    for number in range(2):
        session = c.sessions.get(f"newcomer {number}")
        uploads.take_example(session, c.example, c.host)
        assert c.answers.is_ready(session) and c.answers.read_ahead(session) is None
        answer = _ask(ahead, session)
        print(f"first token after {answer.stats.first_token_seconds:.2f} s, {answer.stats.read_tokens} tokens read")
        assert "71432" in answer.text and answer.stats.read_tokens < 100
        assert answer.stats.first_token_seconds < 1.0
        c.sessions.free(session)


def test_a_shared_cache_stays_as_it_was_while_others_go_on_from_it(ahead, session):
    c = ahead.context
    shared = c.answers._shared[1]
    before, tokens = [layer.keys.clone() for layer in shared.reader.cache._cache.layers], shared.cached_tokens
    uploads.take_example(session, c.example, c.host)
    _ask(ahead, session), _ask(ahead, session)
    assert shared.cached_tokens == tokens
    assert all((a == layer.keys).all() for a, layer in zip(before, shared.reader.cache._cache.layers, strict=True))


def test_a_document_is_read_while_nobody_waits_and_the_question_only_adds_itself(ahead, session, pdfs):
    _bring(ahead, session, pdfs["example"], "12-17")
    answers = ahead.context.answers
    assert not answers.is_ready(session)
    job = answers.read_ahead(session)
    assert job.rank == Rank.AHEAD and job.wait(60) and answers.is_ready(session)
    answer = _ask(ahead, session)
    assert "71432" in answer.text and answer.stats.read_tokens < 100
    fresh = ahead.context.host.converse(session.documents)
    assert list(fresh.ask("What is the pass key?", Sampling(32)))[-1].text == answer.text


def test_a_question_takes_over_what_was_read_so_far(ahead, session, pdfs):
    _bring(ahead, session, pdfs["example"], "2-29")
    job, events = ahead.context.answers.read_ahead(session), []
    for event in job.events():
        events.append(event)
        if session.ahead_reading is not None and session.ahead_reading.done > 1000:
            break
    job.stop()
    answer = _ask(ahead, session)
    assert "71432" in answer.text
    assert 0 < answer.stats.read_tokens < answer.stats.prompt_tokens - 900


def test_nobody_reads_ahead_into_memory_that_others_use(ahead, session, pdfs, monkeypatch):
    _bring(ahead, session, pdfs["short"])
    monkeypatch.setattr(ahead.context.sessions, "bound", 10)
    assert ahead.context.answers.read_ahead(session) is None
