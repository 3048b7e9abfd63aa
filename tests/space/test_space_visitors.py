"""Twenty visitors at once, half of whom leave in the middle: those who stay are served, and nothing is left over."""

import gc
import threading
import time
import uuid

import httpx
import psutil
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from dca_hub.errors import DcaHubError
from dca_hub.space.host import Choice
from dca_hub.space.model import _Model

KEY = "48213"
_VISITORS = 20


def _upload(space, path) -> dict:
    answer = httpx.post(f"{space.url}/gradio_api/upload", files={"files": (path.name, path.read_bytes())}, timeout=60)
    return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}


def _function(space, name: str) -> int:
    config = httpx.get(f"{space.url}/config", timeout=60).json()
    return next(d["id"] for d in config["dependencies"] if d["api_name"] == name)


def _leave_in_the_middle(space, path, index: int, after: float, problems: list) -> None:
    """Asks, listens for a while, and drops the connection without a word."""
    try:
        session = uuid.uuid4().hex
        body = {
            "data": [_upload(space, path), "What is the pass key?", "both", "", "", 400, False],
            "fn_index": index,
            "session_hash": session,
        }
        assert httpx.post(f"{space.url}/gradio_api/queue/join", json=body, timeout=60).status_code == 200
        begun = time.monotonic()
        with httpx.stream("GET", f"{space.url}/gradio_api/queue/data?session_hash={session}", timeout=60) as stream:
            for line in stream.iter_lines():
                assert '"success":false' not in line, line
                if time.monotonic() - begun > after:
                    return
    except Exception as error:
        problems.append(repr(error))


def _stay(space, path, answers: list, problems: list) -> None:
    try:
        client = Client(space.url, verbose=False, httpx_kwargs={"timeout": 60})  # this process answers, too
        result = client.predict(handle_file(str(path)), "What is the pass key?", "dca", api_name="/ask")
        answers.append(result["answers"]["dca"]["text"])
        client.close()
    except Exception as error:
        problems.append(repr(error))


def _crowd(space, pdfs) -> tuple[list[str], list[str]]:
    answers, problems, index = [], [], _function(space, "ask")
    threads = []
    for number in range(_VISITORS):
        if number % 2:
            threads.append(threading.Thread(target=_stay, args=(space, pdfs["short"], answers, problems)))
        else:
            after = 0.2 + 0.15 * number
            args = (space, pdfs["example"], index, after, problems)
            threads.append(threading.Thread(target=_leave_in_the_middle, args=args))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)
        assert not thread.is_alive()
    return answers, problems


def _settled(space) -> int:
    """Resident bytes of this process, once nothing runs any more."""
    space.context.lane.submit(lambda tell: None).wait(60)
    deadline = time.monotonic() + 20
    while threading.active_count() > 60 and time.monotonic() < deadline:
        time.sleep(0.2)
    gc.collect()
    time.sleep(0.5)
    return psutil.Process().memory_info().rss


def test_twenty_visitors_half_of_whom_leave(space, pdfs):
    _crowd(space, pdfs)  # the first crowd makes pools, caches and code pages that stay
    before = _settled(space)
    answers, problems = _crowd(space, pdfs)
    after = _settled(space)
    assert not problems
    assert len(answers) == _VISITORS // 2 and all(KEY in answer for answer in answers)
    print(f"memory: {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after")
    assert after <= before * 1.05
    sessions = space.context.sessions
    folders = [path for path in sessions.root.iterdir() if path.is_dir()]
    assert len(folders) == len(sessions._held)


def test_a_full_line_says_so_and_recovers(another_space, pdfs):
    space = another_space(queue=2, port=7960)
    gate = threading.Event()
    blocked = [space.context.lane.submit(lambda tell: gate.wait(60)) for _ in range(3)]
    client = Client(space.url, verbose=False)
    with pytest.raises(AppError, match="Too many visitors are waiting"):
        client.predict(handle_file(str(pdfs["short"])), "What?", api_name="/ask")
    gate.set()
    assert blocked[-1].wait(30)
    result = client.predict(handle_file(str(pdfs["short"])), "What is the pass key?", api_name="/ask")
    assert KEY in result["answers"]["dca"]["text"]


@pytest.mark.browser
def test_a_visitor_before_a_full_queue_is_told_and_can_retry(another_space, pdfs, visit):
    space = another_space(queue=1, port=7965)
    visitor = visit(space=space)
    visitor.bring(pdfs["short"])
    gate = threading.Event()
    blocked = [space.context.lane.submit(lambda tell: gate.wait(60)) for _ in range(2)]
    visitor.page.locator("#question textarea").fill("What is the pass key?")
    visitor.page.locator("#ask").click()
    visitor.page.locator("#past").get_by_text("Too many visitors").wait_for()
    visitor.page.locator("#ask").wait_for()
    visitor.shoot("chat-full")
    gate.set()
    assert blocked[-1].wait(30)
    visitor.page.locator("#retry").click()
    visitor.page.locator("#past").get_by_text(KEY).wait_for()


def test_a_public_space_loads_its_list_only_and_fetches_no_address(another_space):
    space = another_space(public=True, models="smollm-135m-instruct", port=7970)
    assert space.context.settings.choices() == ["demo", "smollm-135m-instruct"]
    state, session = object(), space.context.sessions.get("stranger")
    tab = _Model(space.context, state)
    for name in ("stranger/remote-code", "/etc", "../x", "llama-3.1-8b-instruct"):
        with pytest.raises(DcaHubError, match="not offered here"):
            space.context.host.change(Choice(name))
        [said] = [update[state] for update in tab.load(session, name, "", "", "cpu")]
        assert "not offered here" in said and f">{name}<" not in said
    shown = [update[state] for update in tab.load(session, "demo", "stranger/remote-code", "", "cpu")]
    assert not any("not offered" in str(words) for words in shown)
    assert space.context.host.loaded.name == "demo"  # the box for any id is not heard here
    client = Client(space.url, verbose=False)
    place = "http://127.0.0.1:9/x.pdf"
    address = {"path": place, "url": place, "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(AppError, match="addresses are not fetched"):
        client.predict(address, "", "", api_name="/inspect_pdf")
