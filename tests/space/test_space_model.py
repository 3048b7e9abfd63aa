"""Loading another model: what it says on the way, and Stop, after which the model before is there again."""

import threading
import time
from types import SimpleNamespace

import pytest
import torch

from dca_hub import catalogue, precision
from dca_hub.errors import DcaHubError
from dca_hub.pace import Pace
from dca_hub.progress import LoadProgress
from dca_hub.space import build
from dca_hub.space.host import Choice
from dca_hub.space.machine import Machine
from dca_hub.space.markup import amount
from dca_hub.space.model import _facts, _Model, _progress, _table
from dca_hub.space.needle_lab import lengths_for
from support.tiny_checkpoints import write_checkpoint


@pytest.fixture
def tab(another_space, tmp_path, monkeypatch):
    """The tab of a Space where any model may be loaded, a visitor, and a folder with a model of many tensors."""
    monkeypatch.setattr(build, "_LOOK_SECONDS", 1)
    space = another_space(any_model=True, port=7980)
    other = write_checkpoint(tmp_path / "other", num_hidden_layers=12)
    state, session = object(), space.context.sessions.get("a")
    return SimpleNamespace(
        space=space, model=_Model(space.context, state), state=state, session=session, other=str(other)
    )


def _load(tab):
    """What is shown on the way."""
    shown = (str(update[tab.state]) for update in tab.model.load(tab.session, "demo", tab.other, "", "cpu"))
    said = next(shown)
    assert "Waiting to load other" in said and tab.other not in said
    yield from shown


def test_loading_is_shown_and_ends_with_the_new_model(tab):
    *shown, last = _load(tab)
    assert any("Loading other" in words and "tensors" in words for words in shown)
    assert tab.space.context.host.loaded.name == "other" and 'data-name="other"' in last
    assert all(tab.other not in words for words in [*shown, last])


def test_the_model_as_it_reads_sparsely_goes_with_it(tab):
    host = tab.space.context.host
    assert host.converse([], sparse=True).loaded.sparse is not None
    list(_load(tab))
    with pytest.raises(DcaHubError, match="chunks of a multiple of 128"):  # those of the new model are not
        host.converse([], sparse=True)


def test_stop_gives_loading_up_and_brings_the_model_before_back(tab, monkeypatch):
    host, slow = tab.space.context.host, threading.Event()
    change = host.change

    def slowly(choice, report):
        def told(progress):
            slow.set()
            time.sleep(0.02)
            report(progress)

        change(choice, told)

    monkeypatch.setattr(host, "change", slowly)
    ends = []
    reader = threading.Thread(target=lambda: ends.extend(_load(tab)))
    reader.start()
    assert slow.wait(30)
    begun = time.monotonic()
    tab.session.loading.stop()
    reader.join(30)
    print(f"given up and loaded again after {time.monotonic() - begun:.2f} s")
    assert host.ready and host.loaded.name == "demo"
    assert any("comes back" in end for end in ends[:-1])
    assert "Stopped: other was not loaded." in ends[-1] and 'data-name="demo"' in ends[-1]


@pytest.mark.browser
def test_a_visitor_sees_the_progress_and_stops_it(tab, visit, monkeypatch):
    host = tab.space.context.host
    change = host.change

    def slowly(choice, report):
        def told(progress):
            report(progress)
            # Loading must not end before the page has drawn the bar and its Stop, however busy the machine is.
            end = time.monotonic() + 120
            while time.monotonic() < end:
                time.sleep(0.1)
                report(progress)

        change(choice, told)

    monkeypatch.setattr(host, "change", slowly)
    visitor = visit("?tab=model", space=tab.space)
    page = visitor.page
    page.locator("#model-other input").fill(tab.other)
    page.locator("#model-load").click()
    page.locator("#model-state .dh-bar").wait_for()
    assert "tensors" in page.locator("#model-state").inner_text()
    visitor.shoot("model-loading")
    begun = time.monotonic()
    page.locator("#model-stop").click()
    page.get_by_text("Stopped: other was not loaded.").wait_for()
    print(f"stopped after {time.monotonic() - begun:.2f} s, the model before loaded again")
    page.locator("#loaded-model[data-name=demo]").wait_for()
    assert ", float32 (" in page.locator("#loaded-model").inner_text()  # the precision, and why
    page.locator("#model-load").wait_for()
    assert tab.other not in page.content()
    page.wait_for_timeout(2500)
    assert page.get_by_text("Stopped: other was not loaded.").is_visible()  # the timer has not taken it away
    visitor.shoot("model-stopped")


@pytest.mark.browser
def test_the_chat_follows_the_model(tab, visit, pdfs):
    visitor = visit(space=tab.space)
    page = visitor.page
    visitor.bring(pdfs["short"])
    page.get_by_text("The demo model is tiny").wait_for()
    page.locator("#tab-model-button").click()
    page.locator("#model-other input").fill(tab.other)
    page.locator("#model-load").click()
    page.locator("#loaded-model[data-name=other]").wait_for()
    page.locator("#tab-chat-button").click()
    page.get_by_text("What is this document about?").wait_for()


def _open_slowly(page, url: str):
    """Opens a page; gives what lets the event of its opening through, which is held until then."""
    held = []
    page.route("**/run/predict*", lambda route: held.append(route))
    page.goto(url)
    page.locator("#needle-run").wait_for()

    def let_through() -> None:
        assert held
        page.unroute("**/run/predict*")  # those that are held go on by that
        page.wait_for_function("document.querySelector('#token textarea, #token input')?.value")
        page.wait_for_timeout(500)

    return let_through


def _lengths(page) -> list[int]:
    return [int(words.split()[0].replace(",", "")) for words in page.locator("#needle-lengths label").all_inner_texts()]


@pytest.mark.browser
def test_a_page_that_opens_slowly_is_right_at_once_and_keeps_what_its_visitor_chooses(tab, visit):
    visitor = visit(space=tab.space)
    list(_load(tab))
    page = visitor.page
    let_through = _open_slowly(page, tab.space.url + "/?tab=needle")
    assert _lengths(page) == [value for _, value in lengths_for(tab.space.context)[0]]
    assert page.locator("#model-chip").inner_text().startswith("other")
    boxes = page.locator("#needle-lengths input").all()
    for box in boxes:
        box.set_checked(box is boxes[0])
    page.locator("#tab-explain-button").click()
    length = page.locator("#slider-length input[type=number]")
    length.fill("40")
    length.press("Enter")
    let_through()
    assert length.input_value() == "40"
    page.locator("#tab-needle-button").click()
    assert [box.is_checked() for box in boxes] == [True] + [False] * (len(boxes) - 1)


@pytest.mark.browser
def test_a_page_that_was_made_for_the_model_before_follows_when_it_opens(tab, visit):
    page = visit(space=tab.space).page
    let_through = _open_slowly(page, tab.space.url + "/?tab=needle")
    before = _lengths(page)
    list(_load(tab))
    let_through()
    assert _lengths(page) == [value for _, value in lengths_for(tab.space.context)[0]] != before
    assert page.locator("#model-chip").inner_text().startswith("other")


def test_a_model_that_fails_to_load_leaves_the_one_before(tab):
    import pathlib

    weights = next(pathlib.Path(tab.other).glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-100])
    last = list(_load(tab))[-1]
    assert "not a valid safetensors file" in last and 'data-name="demo"' in last


def test_nobody_loads_two_at_once_and_what_was_refused_is_not_loaded(tab):
    with (
        tab.session.claim("loading"),
        pytest.raises(DcaHubError, match="already being loaded"),
        tab.session.claim("loading"),
    ):
        pass
    [said] = [str(update[tab.state]) for update in tab.model.load(tab.session, "demo", "", "2bit", "cpu")]
    assert "Choose a quantization" in said
    assert tab.space.context.host.generation == 1 and tab.space.context.host.ready


def test_the_memory_that_is_said_is_what_a_model_takes_here(space, monkeypatch):
    loaded = space.context.host.loaded
    assert f"{amount(loaded.base.get_memory_footprint())} for the weights" in _facts("demo", "", "cpu", space.context)
    assert f"{amount(1000 * loaded.cache_bytes_per_token)} for each" in _facts("demo", "", "cpu", space.context)
    table = _table([catalogue.find("demo")], Machine("cpu"))
    assert f"{amount(1000 * loaded.cache_bytes_per_token)}<" in table and "about 0." in table
    pace = Pace(catalogue.find("demo").architecture)
    assert "about 0." in _table([catalogue.find("demo")], Machine("cpu", paces={"demo": pace}))  # it has not read yet
    for _ in range(4):
        pace.learn(0, 1000, 0.5)
    measured = _table([catalogue.find("demo")], Machine("cpu", paces={"demo": pace}))
    assert "0.50 s, measured" in measured and "about" not in measured
    for fast, said in ((False, "538.1 MB"), (True, "269.0 MB")):  # processors differ
        monkeypatch.setattr(precision, "judge_bfloat16", lambda fast=fast: (fast, "it was timed"))
        assert f"{said} for the weights" in _facts("smollm-135m-instruct", "", "cpu", space.context)
    assert "269.0 MB for the weights" in _facts("smollm-135m-instruct", "", "cuda:0", space.context)


def test_what_fits_comes_first_and_one_model_that_does_is_recommended(monkeypatch):
    from dca_hub.space import machine as machines

    monkeypatch.setattr(machines, "free_bytes", lambda device: 8 * 10**9)
    machine = Machine("cpu", _speeds={torch.float32: 5e11, torch.bfloat16: 2e11})
    fitting, others = machine.sorted(catalogue.entries())
    assert fitting[0].name == "demo" and "smollm2-1.7b-instruct" in [entry.name for entry in fitting]
    assert others and all(machine.needs(entry) > 7.2e9 for entry in others)
    assert machine.seconds(catalogue.find("qwen3-30b-a3b")) < machine.seconds(catalogue.find("qwen3-8b"))
    wanted = machine.recommended(catalogue.entries())
    assert wanted in fitting and wanted.kind == "chat" and machine.seconds(wanted) <= 5
    slow = Machine("cpu", _speeds={torch.float32: 1e10, torch.bfloat16: 1e10})
    quickest = slow.recommended(catalogue.entries())
    assert 5 < slow.seconds(quickest) <= 30 and quickest.parameters < wanted.parameters
    assert Machine("cpu", _speeds={torch.float32: 1e9, torch.bfloat16: 1e9}).recommended(catalogue.entries()) is None
    assert machine.recommended([catalogue.find("demo"), catalogue.find("llama-3.1-8b-instruct")]) is None
    shown = _table(others[:1], machine)
    assert "does not fit" in shown and "GB" in shown


def test_progress_is_said_in_figures():
    assert "1.0 GB of 4.0 GB" in _progress("m", LoadProgress("downloading", 10**9, 4 * 10**9))
    assert "3 of 12 tensors" in _progress("m", LoadProgress("loading", 3, 12))
    assert "Asking the Hub for m" in _progress("m", LoadProgress("downloading", 0, 0))
    assert Choice("m").device is None


def test_what_is_read_is_kept_in_8_bits_where_the_settings_say_so(another_space):
    assert another_space(cache_in_8bit=True, port=7981).context.host.loaded.cache_bits == 8
