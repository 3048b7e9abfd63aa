"""The parts that need no server: sessions, what is shown, what is written."""

import errno
import json
import re
import time
from types import SimpleNamespace

import pytest

from dca_hub.conversation import Answered, Answering, Look, Reading, Stats
from dca_hub.documents import Citation, Document, Page, cite
from dca_hub.errors import DcaHubError
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry, Relation
from dca_hub.space import (
    answer_text,
    explain,
    export,
    failures,
    fit,
    markup,
    picture,
    run_bounds,
    transcript,
    uploads,
    viewer,
)
from dca_hub.space.sessions import Session, Sessions, Upload
from dca_hub.space.settings import Settings
from dca_hub.space.turns import Answer, Turn, history

_STATS = Stats(100, 90, 1.0, 1.2, 10, 0.5)


# Sessions


class _FakeConversation:
    def __init__(self, tokens):
        self.cached_tokens, self.loaded = tokens, SimpleNamespace(cache_bytes_per_token=10)


@pytest.fixture
def sessions():
    held = Sessions(SimpleNamespace(generation=0), idle_seconds=0.4, cache_bytes=1000)
    yield held
    held.shut()


def test_the_cache_used_longest_ago_makes_room(sessions):
    first, second, third = (sessions.get(name) for name in "abc")
    for age, session in enumerate((first, second, third)):
        session.conversations["exact"] = _FakeConversation(40)
        session.used = time.monotonic() - 0.3 + 0.01 * age
    sessions.make_room(300, third)
    assert (first.cache_bytes(), second.cache_bytes()) == (0, 400)
    sessions.make_room(900, third)
    assert second.cache_bytes() == 0 and third.cache_bytes() == 400


def test_a_session_goes_when_it_is_closed_or_idle(sessions):
    session = sessions.get("a")
    (session.folder / "x.pdf").write_bytes(b"%PDF-")
    session.conversations["exact"] = _FakeConversation(5)
    sessions.close("a")
    assert not session.folder.exists() and not session.conversations and len(sessions) == 0
    idle = sessions.get("b")
    deadline = time.monotonic() + 5
    while (len(sessions) or idle.folder.exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(sessions) == 0 and not idle.folder.exists()
    assert "Nothing was asked" in sessions.get("b").why_gone and not sessions.get("a").why_gone


def test_above_the_bounds_the_idlest_session_goes_and_is_told(tmp_path):
    held = Sessions(SimpleNamespace(generation=0), idle_seconds=600, cache_bytes=1000, most=2, weight=1000)
    first, second = held.get("a"), held.get("b")
    first.used -= 10
    second.uploads.append(Upload(second.folder / "x.pdf", "x.pdf", bytes=600))
    third = held.get("c")
    assert len(held) == 2 and not first.folder.exists() and "Room was needed" in held.get("a").why_gone
    second.used -= 10
    held.take_in(third, 500)  # 600 and 500 are more than fit
    assert not second.folder.exists() and "Room was needed" in held.get("b").why_gone
    with pytest.raises(DcaHubError, match="fill this server"):
        held.take_in(third, 1001)
    busy = held.get("c")
    with busy.claim():
        held.get("d"), held.get("e")
        assert busy.folder.exists()  # nobody is interrupted
    held.shut()


def test_a_page_that_was_loaded_again_has_its_session_and_nobody_else_has_it():
    held = Sessions(SimpleNamespace(generation=0), idle_seconds=600, cache_bytes=1000)
    session = held.get("a")
    session.turns.append(Turn("q", {"dca": Answer("done", "x")}))
    held.leave("a")
    assert len(held) == 0 and session.folder.exists()
    assert held.adopt("b", session.token) is session and len(held) == 1
    assert held.adopt("c", "") is not session and held.adopt("d", "wrong é") is not session
    assert held.adopt("e", session.token, reloaded=False) is not session  # a tab that was duplicated
    held.leave("b")
    assert held.adopt("b", session.token, reloaded=False) is session  # the way back
    held.leave("b")
    session.left -= 61
    held._tidy()
    assert not session.folder.exists()
    held.shut()


def test_one_request_to_the_model_at_a_time():
    session = Session(None)
    with session.claim():
        with pytest.raises(DcaHubError, match="still working on your last request"), session.claim():
            pass
        with session.claim("loading"):
            pass
    with session.claim():
        pass


# What is shown and saved


def test_nothing_of_others_is_markup_on_the_screen_or_in_the_export():
    evil = "<script>x</script> ``` & \" '"
    answer = Answer("done", evil, citations=(Citation(evil, 3, evil, 0.5),), stats=_STATS)
    shown = transcript.past([Turn(evil, {"dca": answer, "plain": Answer("failed", problem=evil)})])
    assert "<script" not in shown and shown.count("&lt;script&gt;") >= 4
    assert "<b" not in markup.notice("<b>") and 'title="&#34;"' in markup.tag("i", title='"')
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
    assert "</span>p. 3 <" in transcript.past([Turn("q", answers)])
    assert "</span>a.pdf, p. 3 <" in transcript.past([Turn("q", answers, names=("a.pdf", "b.pdf"))])


def test_a_wrong_number_is_not_shown_like_a_true_citation():
    """The page says 71432: the answer's mark, its source and its title say so, and nothing is called a source."""
    said, page = "The pass key is 21432. It was cold.", Page(15, "The pass key is 71432. Remember it. It was cold.")
    document = Document("a.pdf", (page,), 1)
    wrong = Answer("done", said, citations=tuple(cite(said, document, "What is the pass key?")))
    shown = transcript.past([Turn("What is the pass key?", {"dca": wrong})])
    assert "the page says 71432" in shown and 'data-grade="not found"' in shown
    marks = re.findall(r'21432<button[^>]*class="dh-cite"[^>]*data-grade="([a-z ]+)"', shown)
    assert len(marks) == 1 and marks == ["not found"]
    alone = "The pass key is 21432."
    answer = Answer("done", alone, citations=tuple(cite(alone, document, "What is the pass key?")))
    shown = transcript.past([Turn("q", {"dca": answer})])
    assert "No page supports this answer" in shown and "Sources" not in shown and "the page says 71432" in shown
    right = "The pass key is 71432."
    answer = Answer("done", right, citations=tuple(cite(right, document, "What is the pass key?")))
    shown = transcript.past([Turn("q", {"dca": answer})])
    assert "Sources" in shown and "the page says" not in shown and shown.count('data-grade="verbatim"') == 2


def test_answers_take_events_and_each_model_remembers_its_own_words():
    answer = Answer()
    for event in (Reading(5, 10, 1.0), Answering("The "), Answering("key"), Answered("The key.", (), _STATS)):
        answer.take(event)
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
    "sizes", [(511, 255, 512), (6144, 1024, 8192), (512, 0, 512), (300, 299, 512), (3072, 512, 4096)]
)
def test_a_models_picture_has_its_proportions_and_nothing_that_it_never_met(sizes):
    loaded = SimpleNamespace(geometry=DualChunkGeometry(*sizes))
    trained, chunk, local, length = explain.drawn_sizes(SimpleNamespace(host=SimpleNamespace(loaded=loaded)))
    assert 0 <= local < chunk <= trained == 16 and length == 32
    drawn, real = picture.geometry(trained, chunk, local), loaded.geometry
    assert abs(drawn.chunk_length / 16 - real.chunk_length / real.pretraining_length) < 0.07
    unseen = any(distance >= 16 for row in picture.data(drawn, length)["dca"]["distance"] for distance in row)
    assert unseen == (real.chunk_size == real.pretraining_length)


@pytest.mark.parametrize(
    ("moved", "sizes", "expected"),
    [
        ("local", (16, 12, 20, 32), [21, 21, 20, 32]),
        ("chunk", (16, 40, 4, 32), [40, 40, 4, 32]),
        ("trained", (8, 12, 9, 32), [8, 8, 7, 32]),
        ("length", (1e9, -3, None, 10**400), [64, 2, 0, 96]),
    ],
)
def test_sliders_make_room_for_the_one_that_was_moved(moved, sizes, expected):
    assert explain._settled(moved, *sizes) == expected
    shown = explain._settle(moved, *sizes)
    assert all(isinstance(now, dict) for now, was, then in zip(shown, sizes, expected, strict=True) if was == then)


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


def test_a_full_disk_and_full_memory_are_said():
    assert failures.sentence(OSError(errno.ENOSPC, "no", "/home/me")).startswith("The disk of this server is full")
    assert failures.sentence(MemoryError()).startswith("The memory of this server is full")


@pytest.mark.parametrize("value", ["9" * 4500, float("inf"), float("nan"), "x", None, -1, 2.5, 10**400, [1]])
def test_a_number_is_bounded_before_it_is_used(value):
    with pytest.raises(DcaHubError, match="n must be a whole number from 1 to 50"):
        run_bounds.whole(value, "n", 1, 50)
    assert run_bounds.whole(50.0, "n", 1, 50) == 50 == run_bounds.whole("50", "n", 1, 50)


def test_a_public_space_bounds_what_one_run_reads():
    host = SimpleNamespace(fits=lambda: 10**6, loaded=SimpleNamespace(trained=512))
    wanted = ([16_384] * 1, 50, 1, "prose", 2, host)
    with pytest.raises(DcaHubError, match="1,638,400 tokens, more than the 1,000,000 of one run"):
        run_bounds.grid_of(*wanted, Settings(public=True, max_run_tokens=1_000_000))
    assert Settings(public=True).run_tokens == 2_000_000 and Settings().run_tokens is None
    assert run_bounds.grid_of(*wanted, Settings(public=True)).prompts == 50
    with pytest.raises(DcaHubError, match="from 128 to 16,384"):
        run_bounds.grid_of([16_385], 1, 1, "prose", 1, host, Settings())


# What fits


@pytest.fixture
def long_session():
    """A document of 40 pages of a hundred tokens, one of which speaks of herons, before a model that takes 2,000."""
    texts = ["words " * 99 + ("heron" if number == 33 else "word") for number in range(1, 41)]
    document = Document("a.pdf", tuple(Page(number, text) for number, text in enumerate(texts, 1)), 40)
    session = Session(None)
    session.uploads.append(Upload(None, "a.pdf", document, 4000))
    host = SimpleNamespace(
        ready=True, count=lambda text: len(text.split()), limit=lambda held=0: 2000, fits=lambda held=0: 9000,
        loaded=SimpleNamespace(trained=512, context=2000, geometry=SimpleNamespace(chunk_length=350)),
    )  # fmt: skip
    return session, host


def test_what_is_too_long_is_said_in_pages_and_cut_by_a_button(long_session):
    session, host = long_session
    shown = uploads.meter(session, host)
    assert "Too long for this model: about 12 of 40 pages fit." in shown
    assert 'data-press="fit-first"' in shown and 'data-press="fit-question"' in shown
    document, room = session.uploads[0].document, fit.room(session, host)
    assert fit.written(fit.first_pages(document, room, host)) == "1-11"
    assert fit.written(fit.best_pages(document, "Where is the heron?", room, host)) == "1-10,33"
    assert fit.written([9, 3, 4, 5]) == "3-5,9" and fit.written([]) == ""


@pytest.mark.parametrize(
    ("tokens", "words"),
    [(350, "Within one chunk"), (351, "longer than a chunk"), (513, "this is what DCA is for")],
)
def test_where_dca_begins_to_differ_is_the_chunk_and_not_the_window(long_session, tokens, words):
    session, host = long_session
    session.uploads[0].tokens = tokens
    assert words in uploads.meter(session, host)


# Markdown


def test_markdown_is_rendered_and_can_neither_fetch_nor_run_nor_lead_away():
    shown = answer_text.render(
        "**b** <script>x</script> ![i](http://e/x.png) [click](javascript:alert(1)) [ok](https://a.b/c)\n\n"
        "- one\n\n| a |\n|---|\n| <img src=x onerror=1> |\n\n```py\nprint('<x>')\n```\n<https://auto.example>"
    )
    assert "<strong>b</strong>" in shown and "<li>one</li>" in shown and "<td>&lt;img" in shown
    assert "print(&#39;&lt;x&gt;&#39;)" in shown and 'data-copy="print' in shown
    for tag in ("<a", "<img", "<script", "href", "src="):
        assert tag not in shown.replace("&lt;img src=x", "")
    assert 'ok<span class="dh-address"> (https://a.b/c)</span>' in shown
    asked = transcript.past([Turn("מה המפתח?", {"dca": Answer("done", "x")})])
    assert '<span class="dh-hidden" dir="ltr">You: </span>מה' in asked  # what is only spoken gives no direction
    assert answer_text.render("שלום עולם") == '<p dir="auto">שלום עולם</p>\n'


@pytest.mark.parametrize("opening", ["<think>", "", "<thinking>"])
def test_thoughts_are_folded_and_neither_copied_nor_marked(opening):
    text = f"{opening}Perhaps 5.\n</think>\n\nIt is 7."
    at = text.index("It is 7.")
    citation = Citation("a.pdf", 1, "It is 7.", 1.0, claims=((at, len(text)),))
    shown = transcript.past([Turn("q", {"dca": Answer("done", text, citations=(citation,), stats=_STATS)})])
    assert "<details" in shown and 'Thoughts</summary><p dir="auto">Perhaps 5.</p>' in shown
    assert 'data-copy="It is 7."' in shown and "think" not in shown.lower().replace("thoughts", "")
    assert shown.index("It is 7.<button") > shown.index("</details>")
    live = transcript.live(0, Turn("q", {"dca": Answer("answering", "<think>Perhaps")}))
    assert "Thinking</summary>" in live


@pytest.mark.parametrize("evil", ["[" * 20_000, "> " * 10_000, "![[](" * 4_000, "|a" * 5_000 + "\n" + "|-" * 5_000])
def test_no_answer_takes_long_to_render(evil):
    begun = time.monotonic()
    answer_text.render(evil)
    assert time.monotonic() - begun < 8


# The page and its strip


def _clicked(act: str, value: str):
    return SimpleNamespace(_data={"act": act, "value": value})


def test_the_strip_tells_pages_that_say_it_from_pages_the_model_looked_at(tmp_path):
    document = Document("a.pdf", tuple(Page(number, "x") for number in range(1, 5)), 4)
    session = Session(None)
    session.uploads = [Upload(tmp_path / name, name, document, 4) for name in ("a.pdf", "b.pdf")]
    looks = (Look(0, 2, 0.1), Look(1, 3, 0.3), Look(1, 4, 0.1))
    answer = Answer("done", "x", citations=(Citation("b.pdf", 4, "x", 0.5, source=1),), looks=looks)
    paths = tuple(upload.path for upload in session.uploads)
    session.turns.append(Turn("q", {"dca": answer}, ("a.pdf", "b.pdf"), paths))
    wanted = viewer.find(session, _clicked("look", "0/dca/"))
    assert (wanted.source, wanted.page, wanted.citation) == (1, 3, None)
    shown = viewer._strip(session, session.uploads[1], wanted)
    assert "by comparing words" in shown and "by its own attention" in shown
    assert "Page 3; 60 % of the attention to the pages" in shown and "--heat:100%" in shown
    assert "Page 4; 50 % of the answer stands here; 20 % of the attention to the pages" in shown
    assert "Looked most at b.pdf, p. 3" in transcript.past(session.turns)
    del session.uploads[0]  # the other document stays the one that was meant
    assert viewer.find(session, _clicked("cite", "0/dca/0")).source == 0
    assert viewer.find(session, _clicked("look", "0/dca/")).source == 0
    del session.uploads[0]
    with pytest.raises(DcaHubError, match="That document was removed"):
        viewer.page(session, viewer.find(session, _clicked("cite", "0/dca/0")), Settings())


@pytest.mark.parametrize("value", ["", "9/dca/", "0/plain/", "x", "0/dca/9", "-1/dca/0", "0//" + "1" * 99])
def test_a_click_on_what_is_not_there_opens_nothing(value):
    session = Session(None)
    session.turns.append(Turn("q", {"dca": Answer("done", "x")}))
    assert (
        viewer.find(session, _clicked("look", value)) is None and viewer.find(session, _clicked("cite", value)) is None
    )
