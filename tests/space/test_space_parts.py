"""The parts that need no server: sessions, what is shown, what is written."""

import json
import time
from types import SimpleNamespace

import pytest

from dca_hub.conversation import Answered, Answering, Reading, Stats
from dca_hub.documents import Citation
from dca_hub.errors import DcaHubError
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry, Relation
from dca_hub.space import answers, export, failures, markup, picture, transcript
from dca_hub.space.sessions import Sessions
from dca_hub.space.turns import Answer, Turn, history

_STATS = Stats(100, 90, 1.0, 1.2, 10, 0.5)


# Sessions


class _FakeConversation:
    def __init__(self, tokens):
        self.cached_tokens, self.loaded = tokens, SimpleNamespace(cache_bytes_per_token=10)

    def close(self):
        self.cached_tokens = 0


@pytest.fixture
def sessions():
    held = Sessions(SimpleNamespace(generation=0), idle_seconds=0.4, cache_bytes=1000)
    yield held
    held.shut()


def test_the_cache_used_longest_ago_makes_room(sessions):
    first, second, third = (sessions.get(name) for name in "abc")
    for age, session in enumerate((first, second, third)):
        session.conversations[True] = _FakeConversation(40)
        session.used = time.monotonic() - 0.3 + 0.01 * age
    sessions.make_room(300, third)
    assert (first.cache_bytes(), second.cache_bytes()) == (0, 400)
    sessions.make_room(900, third)
    assert second.cache_bytes() == 0 and third.cache_bytes() == 400


def test_a_session_goes_when_it_is_closed_or_idle(sessions):
    session = sessions.get("a")
    (session.folder / "x.pdf").write_bytes(b"%PDF-")
    session.conversations[True] = conversation = _FakeConversation(5)
    sessions.close("a")
    assert not session.folder.exists() and conversation.cached_tokens == 0 and len(sessions) == 0
    idle = sessions.get("b")
    deadline = time.monotonic() + 5
    while len(sessions) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(sessions) == 0 and not idle.folder.exists()
    assert sessions.get("b").forgotten and not sessions.get("a").forgotten


# What is shown and saved


def test_nothing_of_others_is_markup_on_the_screen_or_in_the_export():
    evil = "<script>x</script> ``` & \" '"
    answer = Answer("done", evil, citations=(Citation(evil, 3, evil, 0.5),), stats=_STATS)
    shown = transcript.past([Turn(evil, {"dca": answer, "plain": Answer("failed", problem=evil)})])
    assert "<script" not in shown and shown.count("&lt;script&gt;") >= 4
    assert "<b" not in markup.notice("<b>") and 'title="&quot;"' in markup.tag("i", title='"')
    document = SimpleNamespace(pages=[SimpleNamespace(number=1)])
    session = SimpleNamespace(
        turns=[Turn(evil, {"dca": answer})], readable=[SimpleNamespace(name="a.pdf", document=document, tokens=5)]
    )
    lines = export.as_markdown(session, "m`x").splitlines()
    assert "- `a.pdf`: 1 page, 5 tokens" in lines
    assert lines[lines.index(evil) - 1] == "````text" and lines[lines.index(evil) + 1] == "````"
    assert json.loads(export.as_json(session, "m"))["turns"][0]["answers"]["dca"]["citations"][0]["page"] == 3


def test_citations_name_the_document_where_there_are_several():
    answers = {"dca": Answer("done", "x", citations=(Citation("a.pdf", 3, "x", 1.0),))}
    assert ">p. 3<" in transcript.past([Turn("q", answers)])
    assert ">a.pdf, p. 3<" in transcript.past([Turn("q", answers, documents=2)])


def test_answers_take_events_and_each_model_remembers_its_own_words():
    answer = Answer()
    for event in (Reading(5, 10, 1.0), Answering("The "), Answering("key"), Answered("The key.", (), _STATS)):
        answers._take(answer, event)
    assert (answer.state, answer.text, answer.stats) == ("done", "The key.", _STATS)
    turns = [
        Turn("a", {"dca": Answer("done", "x"), "plain": Answer("done", "y")}),
        Turn("b", {"dca": Answer("done", "z")}),
    ]
    assert [t.answer for t in history(turns, "plain")] == ["y", "z"]
    turn = Turn("c", {"dca": Answer("reading"), "plain": Answer("done", "y")})
    turn.stop()
    assert [a.state for a in turn.answers.values()] == ["stopped", "done"]


@pytest.mark.parametrize("sizes", [(16, 12, 4), (20, 20, 3), (8, 5, 0), (64, 9, 8)])
def test_the_picture_is_the_geometry(sizes):
    trained, chunk, local = sizes
    geometry = picture.geometry(trained, chunk, local)
    data = picture.data(geometry, 48)
    letters = {Relation.INTRA: "a", Relation.SUCCESSIVE: "s", Relation.INTER: "i"}
    direct = DualChunkGeometry(chunk, local, trained)
    for i in range(48):
        for j in range(i + 1):
            assert data["plain"]["distance"][i][j] == i - j
            assert data["dca"]["distance"][i][j] == direct.distance(i, j) <= chunk
            assert data["dca"]["relation"][i][j] == letters[direct.relation(i, j)]


@pytest.mark.parametrize(
    ("sizes", "words"),
    [((16, 8, 8), r"w \(8\) .* C \(8\).*: lower w"), ((24, 60, 6), r"C \(60\) .* L \(24\).*: lower C")],
)
def test_the_picture_refuses_sizes_in_the_letters_of_its_sliders(sizes, words):
    with pytest.raises(DcaHubError, match=words):
        picture.geometry(*sizes)


def test_only_failures_for_people_are_told_in_their_own_words(caplog):
    assert failures.sentence(DcaHubError("Choose a model first.")) == "Choose a model first."
    said = failures.sentence(OSError("/home/me/secret"))
    assert "secret" not in said and "log" in said and "secret" in caplog.text
