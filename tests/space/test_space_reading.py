"""How long a document takes to read is said before it is read, and how it is read is each visitor's own choice."""

import json
import re
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from dca_hub.conversation import Reading
from dca_hub.pace import Pace
from dca_hub.space import export, transcript, uploads
from dca_hub.space.answers import Sampling, begin_turn
from dca_hub.space.turns import Answer, Turn
from support.offering import offer_sparse

LEAST = 2000  # tokens from which sparse reading is offered in these tests


@pytest.fixture
def session(space):
    session = space.context.sessions.get(f"reader {time.monotonic()}")
    yield session
    space.context.sessions.free(session)


@pytest.fixture
def pace(space, monkeypatch):
    """What the model is known to take: a second for 1,000 tokens, attention included."""
    made = Pace(space.context.host.loaded.source.entry.architecture)
    for _ in range(4):
        made.learn(0, 1000, 1.0)
    object.__setattr__(space.context.host.loaded, "pace", made)
    yield made
    object.__setattr__(space.context.host.loaded, "pace", Pace(space.context.host.loaded.source.entry.architecture))


def bring(space, session, path, pages: str = "") -> None:
    c = space.context
    upload = uploads.take(session, str(path), c.sessions, c.settings)
    upload.pages = pages
    list(uploads.read(session, [upload], c.host, c.sessions, c.settings))


def ask(space, session, mode="dca") -> Turn:
    turn = begin_turn(session, "What is the pass key?", mode)
    list(space.context.answers.ask(session, turn, Sampling(32)))
    return turn


def test_how_long_reading_takes_is_said_before_and_what_was_read_does_not_count(space, session, pace, pdfs):
    bring(space, session, pdfs["example"], "10-21")
    answers = space.context.answers
    taken = answers.reading_seconds(session, "exact")
    assert taken == pace.seconds(0, session.document_tokens) > session.document_tokens / 1000
    said = re.search(r"Reading takes about (\d+) s before the first answer", uploads.ready(session, space.context))
    assert abs(int(said[1]) - taken) <= 2.5
    assert "71432" in ask(space, session).answers["dca"].text
    assert answers.reading_seconds(session, "exact") == 0.0
    assert "Reading takes" not in uploads.ready(session, space.context)


def test_nothing_is_said_of_a_short_text_one_too_long_or_a_model_that_was_not_timed(
    space, session, pace, pdfs, monkeypatch
):
    bring(space, session, pdfs["short"])
    assert uploads.ready(session, space.context) == ""
    bring(space, session, pdfs["example"], "10-21")
    monkeypatch.setattr(space.context.host, "limit", lambda held=0, copies=1: 2000)
    assert uploads.ready(session, space.context) == ""
    monkeypatch.undo()
    assert "Reading takes" in uploads.ready(session, space.context)
    context = SimpleNamespace(**vars(space.context))
    context.settings = replace(space.context.settings, endpoint="http://127.0.0.1:1")
    assert uploads.ready(session, context) == ""  # a server may have it in its cache
    object.__setattr__(space.context.host.loaded, "pace", Pace(space.context.host.loaded.source.entry.architecture))
    assert uploads.ready(session, space.context) == ""


def test_progress_says_what_is_left(space, session, pdfs):
    bring(space, session, pdfs["short"])
    ready = uploads.ready(session, space.context, Reading(500, 2000, 30.0, 95.0))
    assert "Getting ready: 25 %, about 2 min left." in ready
    assert "Getting ready: 25 %." in uploads.ready(session, space.context, Reading(500, 2000, 30.0))
    shown = transcript.live(0, Turn("q", {"dca": Answer("reading", reading=Reading(500, 2000, 10.0, 95.0))}))
    assert "50 tokens/s · about 2 min left" in shown
    shown = transcript.live(0, Turn("q", {"dca": Answer("reading", reading=Reading(0, 2000, 10.0))}))
    assert "left" not in shown


def test_sparse_reading_is_no_choice_on_a_processor_and_the_reason_is_said(space, session, pace, pdfs, monkeypatch):
    bring(space, session, pdfs["example"], "10-21")
    c = space.context
    assert not uploads.ways(session, c)["visible"] and "Sparse" not in uploads.ready(session, c)  # so short a text
    offer_sparse(monkeypatch, LEAST)
    assert uploads.ways(session, c)["visible"] and "Sparse" not in uploads.ready(session, c)
    monkeypatch.setattr("dca_hub.loading.without_triton", lambda device: "there is none")
    assert not uploads.ways(session, c)["visible"]
    why = "Sparse reading, which can be quicker, needs a GPU with Triton."
    assert why in uploads.ready(session, c) and why in uploads.ready(session, c, Reading(500, 2000, 30.0, 95.0))
    assert why not in uploads.ready(session, c, Reading(500, 2000, 0.3, 0.9))  # nobody waits
    session.sparse = True  # a browser may send anything
    assert c.answers.way(session) == "exact" and not ask(space, session).answers["dca"].sparse


def test_what_was_read_exactly_is_no_beginning_for_sparse_reading_nor_the_other_way(space, session, pdfs, monkeypatch):
    offer_sparse(monkeypatch, LEAST)
    bring(space, session, pdfs["example"], "12-17")
    assert session.document_tokens > LEAST
    models = []
    for sparse in (False, True, True, False):
        session.sparse = sparse
        turn = ask(space, session)
        answer = turn.answers["dca"]
        assert answer.sparse == sparse and list(session.conversations) == ["sparse" if sparse else "exact"]
        models.append(next(iter(session.conversations.values())).reader.model)
        again = len(models) > 1 and models[-1] is models[-2]
        assert (answer.stats.read_tokens < 200) == again, "read anew after each change, and only then"
        assert ("read sparsely: an approximation" in transcript.past([turn])) == sparse
    exact, sparse, _, exact_again = models
    assert exact is exact_again is space.context.host.loaded.model and exact.base_model.rotary_emb.sparse is None
    assert sparse is models[2] and sparse.base_model.rotary_emb.sparse.least_keys == LEAST
    weights = lambda model: model.base_model.layers[0].mlp.up_proj.weight
    assert weights(sparse) is weights(exact)
    turns = json.loads(export.as_json(session, "demo"))["turns"]
    assert [turn["answers"]["dca"]["sparse"] for turn in turns] == [False, True, True, False]
    assert "### With DCA, read sparsely: an approximation" in export.as_markdown(session, "demo")


def test_the_choice_is_one_visitors_and_not_the_next_ones(space, session, pdfs, monkeypatch):
    offer_sparse(monkeypatch, LEAST)
    c = space.context
    other = c.sessions.get(f"other {time.monotonic()}")
    for visitor in (session, other):
        bring(space, visitor, pdfs["example"], "12-17")
    session.sparse = True
    assert c.answers.way(session) == "sparse" and c.answers.way(other) == "exact"
    assert c.answers.way(session, "plain") == "plain"
    assert uploads.ways(session, c)["value"] == "sparse" and uploads.ways(other, c)["value"] == "exact"
    both = ask(space, session, "both")
    assert both.answers["dca"].sparse and not both.answers["plain"].sparse
    assert set(session.conversations) == {"sparse", "plain"}
    c.sessions.free(other)


def test_each_choice_says_what_it_takes_once_that_was_timed(space, session, pace, pdfs, monkeypatch):
    offer_sparse(monkeypatch, LEAST)
    bring(space, session, pdfs["example"], "10-21")
    (exact, _), (sparse, _) = uploads.ways(session, space.context)["choices"]
    assert exact.startswith("Exact, about ") and sparse == "Sparse"
    from dca_hub.modeling.dual_chunk_selection import SparseAttention

    for begin in range(0, 8000, 1000):
        pace.learn(begin, begin + 1000, 1.0, SparseAttention())
    (exact, _), (sparse, _) = uploads.ways(session, space.context)["choices"]
    assert exact.startswith("Exact, about ") and sparse.startswith("Sparse, about ")


@pytest.mark.browser
def test_the_choice_in_the_page(visit, space, pace, pdfs, monkeypatch):
    offer_sparse(monkeypatch, LEAST)
    visitor = visit()
    page = visitor.page
    visitor.bring(pdfs["short"])
    assert not page.locator("#way").is_visible()
    page.locator("#documents .dh-cross").click()
    page.locator("#documents .dh-document").wait_for(state="detached")
    visitor.bring(pdfs["example"])
    page.get_by_text("Reading takes about").wait_for()
    assert "Exact, about" in page.locator("#way").inner_text()
    page.locator("#way input[value=sparse]").check()
    page.locator("#ready").get_by_text("Reading takes about").wait_for()
    deadline = time.monotonic() + 20
    while not space.newest().sparse and time.monotonic() < deadline:
        time.sleep(0.1)
    page.locator("#question textarea").fill("What is the pass key?")
    page.locator("#ask").click()
    page.locator("#live .dh-reading").get_by_text("left").wait_for()
    assert "Reading takes" not in page.locator("#ready").inner_text()  # the bar says it
    page.locator("#stop").click()
    page.locator("#past").get_by_text("read sparsely: an approximation").wait_for()
    page.locator("#ready").get_by_text("Reading takes about").wait_for()
    assert page.locator("#way input[value=sparse]").is_checked()
