"""The parts that need no server: settings, the lane, sessions, what is shown, what is written."""

import json
import pickle
import threading
import time
from types import SimpleNamespace

import pytest

from dca_hub.conversation import Answered, Answering, Reading, Stats
from dca_hub.documents import Citation
from dca_hub.errors import UserError
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry, Relation
from dca_hub.space import answers, export, folder, markup, picture, settings, transcript, zero
from dca_hub.space.lane import Lane, Stopped
from dca_hub.space.sessions import Sessions
from dca_hub.space.turns import Answer, Turn, history

_STATS = Stats(100, 90, 1.0, 1.2, 10, 0.5)


# Settings


def test_options_win_over_variables_and_those_over_the_file(tmp_path):
    file = tmp_path / settings.FILE
    file.write_text(json.dumps({"max_pages": 5, "queue": 6, "port": 7}))
    read = settings.read(["--max-pages", "9", "--share"], {"DCA_MAX_PAGES": "8", "DCA_QUEUE": "4"}, file)
    assert (read.max_pages, read.queue, read.port, read.share) == (9, 4, 7, True)


def test_every_setting_is_an_option_and_a_variable():
    for name, value in {"max_file_mb": 3, "max_tokens": 70, "idle_minutes": 2, "port": 99, "cache_mb": 10}.items():
        assert getattr(settings.read([f"--{name.replace('_', '-')}", str(value)], {}), name) == value
        assert getattr(settings.read([], {f"DCA_{name.upper()}": str(value)}), name) == value


def test_a_space_is_public_and_offers_its_model_alone():
    read = settings.read([], {"SPACE_ID": "somebody/space"})
    assert read.public and read.host == "0.0.0.0" and read.choices() == ["demo"]
    local = settings.read([], {})
    assert not local.public and len(local.choices()) > 20


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--queue", "0"], {}),
        (["--quantization", "3bit"], {}),
        (["--models", "no-such-model"], {}),
        (["--public", "--any-model"], {}),
        ([], {"DCA_PORT": "many"}),
        ([], {"DCA_SHARE": "perhaps"}),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(arguments, environment):
    with pytest.raises(UserError):
        settings.read(arguments, environment)


# The lane


def test_jobs_run_one_after_another_and_pass_their_events_on():
    lane, running = Lane(), []

    def work(tell):
        running.append(1)
        for number in range(3):
            tell(number)
            assert len(running) == 1
        running.pop()

    found = []
    threads = [threading.Thread(target=lambda: found.append(list(lane.stream(work)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == [[0, 1, 2]] * 4
    lane.close()


def test_a_listener_who_leaves_ends_the_job_and_frees_the_lane():
    lane, ended = Lane(), threading.Event()

    def endless(tell):
        try:
            while True:
                tell(time.sleep(0.01))
        except Stopped:
            ended.set()
            raise

    events = lane.stream(endless)
    next(events)
    events.close()
    assert ended.wait(2)
    assert list(lane.stream(lambda tell: tell("next"))) == ["next"]
    lane.close()


def test_a_job_stopped_in_line_never_runs_and_errors_pass_through():
    lane, gate, ran = Lane(), threading.Event(), []
    lane.submit(lambda tell: gate.wait(5))
    waiting = lane.submit(lambda tell: ran.append(1))
    waiting.stop()
    gate.set()
    assert list(waiting.events()) == [] and not ran
    with pytest.raises(UserError, match="no"):
        list(lane.stream(lambda tell: (_ for _ in ()).throw(UserError("no"))))
    lane.close()


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


# What is shown and saved


def test_nothing_of_others_is_markup_on_the_screen_or_in_the_export():
    evil = "<script>x</script> ``` & \" '"
    answer = Answer("done", evil, citations=(Citation(evil, 3, evil, 0.5),), stats=_STATS)
    shown = transcript.past([Turn(evil, {"dca": answer, "plain": Answer("failed", problem=evil)})])
    assert "<script" not in shown and shown.count("&lt;script&gt;") >= 4
    assert "<b" not in markup.notice("<b>") and 'title="&quot;"' in markup.tag("i", title='"')
    session = SimpleNamespace(turns=[Turn(evil, {"dca": answer})], readable=[])
    lines = export.as_markdown(session, "m`x").splitlines()
    assert lines[lines.index(evil) - 1] == "````text" and lines[lines.index(evil) + 1] == "````"
    assert json.loads(export.as_json(session, "m"))["turns"][0]["answers"]["dca"]["citations"][0]["page"] == 3


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
    with pytest.raises(UserError, match="smaller than chunk_size"):
        picture.geometry(16, 8, 8)


# ZeroGPU


def test_the_gpu_is_asked_for_by_the_tokens_and_is_the_identity_elsewhere():
    assert zero.seconds(0, 0) < zero.seconds(100_000, 256) <= 300 == zero.seconds(10**9, 0)

    def function():
        return 1

    assert zero.gpu(lambda: 1)(function) is function


def test_on_zero_gpu_a_question_needs_nothing_from_the_one_before(space, pdfs, monkeypatch):
    """As if every call ran in another process: what goes in and comes out is pickled, no cache is kept."""
    context, asked = space.context, []

    def elsewhere(ask):
        asked.append(zero.seconds(ask.tokens, ask.sampling.max_new_tokens))
        return (pickle.loads(pickle.dumps(event)) for event in context.answers._fresh(pickle.loads(pickle.dumps(ask))))

    monkeypatch.setattr(answers.zero, "is_zero_gpu", lambda: True)
    monkeypatch.setattr(context.answers, "_on_gpu", elsewhere)
    session = context.sessions.make()
    from dca_hub.space import uploads

    upload = uploads.take(session, str(pdfs["short"]), context.settings)
    list(uploads.read(session, [upload], context.host, context.settings))
    for _ in range(2):
        turn = answers.begin_turn(session, "What is the pass key?", "dca")
        list(context.answers.ask(session, "dca", answers.Sampling(32)))
        assert "48213" in turn.answers["dca"].text
    assert len(asked) == 2 and not session.conversations
    context.sessions.free(session)


# The folder


def test_a_space_folder_is_whole_and_says_what_a_space_needs(tmp_path):
    import yaml

    out = tmp_path / "space"
    files = folder.write(out, models="smollm-360m-instruct", hardware="cpu-basic")
    assert {"README.md", "app.py", "requirements.txt", "settings.json", "dca_hub/load.py"} <= set(files)
    assert {"dca_hub/modeling/dual_chunk_attention.py", "dca_hub/configs/demo.yaml"} <= set(files)
    assert "dca_hub/demo/model/model.safetensors" in files and not any("__pycache__" in name for name in files)
    front = yaml.safe_load((out / "README.md").read_text().split("---")[1])
    assert front["sdk"] == "gradio" and front["app_file"] == "app.py" and len(front["short_description"]) <= 60
    assert front["models"] == front["preload_from_hub"] == ["HuggingFaceTB/SmolLM-360M-Instruct"]
    read = settings.read([], {"SPACE_ID": "a/b"}, out / "settings.json")
    assert read.choices() == ["demo", "smollm-360m-instruct"]
    with pytest.raises(UserError, match="--force"):
        folder.write(out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="no Space"):
        folder.write(tmp_path / "mine", force=True)
    with pytest.raises(UserError, match="catalogue"):
        folder.write(tmp_path / "other", model="no-such")
    assert not (tmp_path / "other").exists()


def test_the_app_of_a_space_is_the_app_of_the_checkout():
    from pathlib import Path

    assert (Path(folder.__file__).parents[2] / "app.py").read_text() == folder.APP


def test_a_space_folder_starts_by_itself(tmp_path):
    import os
    import socket
    import subprocess
    import sys
    import urllib.request

    out = tmp_path / "space"
    folder.write(out)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    begun = time.monotonic()
    process = subprocess.Popen([sys.executable, "app.py", "--port", str(port)], cwd=out, env=environment)
    try:
        while True:
            try:
                page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read().decode()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() - begun < 90
                time.sleep(0.1)
        print(f"started in {time.monotonic() - begun:.1f} s")
        assert "DCA Hub" in page and "fonts.googleapis" not in page
    finally:
        process.terminate()
        process.wait(20)
