"""Files built to hang, blow up or crash a reader: each ends within its bounds in one sentence."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time

import psutil
import pypdf
import pytest

from dca_hub.documents import DocumentError, Limits, Reason, read_pdf, render_page
from dca_hub.documents.failures import Refused
from dca_hub.documents.pypdf_reading import PypdfReading
from support import pdfs

MIB = 1 << 20
TIGHT = Limits(memory_bytes=400 * MIB, seconds=4.0)
GRACE = 2.0  # to start a process and to take it down


def workers() -> list[psutil.Process]:
    """The processes that read documents for this one, without those that end meanwhile."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie has no command line
            if "dca_hub.documents.worker" in " ".join(child.cmdline()):
                found.append(child)
    return found


def timed_refusal(path, limits=TIGHT) -> DocumentError:
    start = time.monotonic()
    with pytest.raises(DocumentError) as caught:
        read_pdf(path, limits=limits)
    assert time.monotonic() - start < limits.seconds + GRACE
    return caught.value


@pytest.mark.parametrize(
    ("build", "reasons"),
    [
        (pdfs.truncated, {Reason.DAMAGED}),
        (pdfs.cyclic_page_tree, {Reason.DAMAGED, Reason.TOO_COMPLEX, Reason.EMPTY}),
        (pdfs.deep_arrays, {Reason.TOO_COMPLEX}),
        (pdfs.deep_objects, {Reason.TOO_COMPLEX, Reason.DAMAGED}),
        (pdfs.many_operators, {Reason.TOO_COMPLEX, Reason.TOO_SLOW}),
        (pdfs.bomb, {Reason.TOO_COMPLEX, Reason.TOO_SLOW, Reason.TOO_MUCH_MEMORY}),
        (lambda: pdfs.bomb(size=400_000_000), {Reason.TOO_COMPLEX, Reason.TOO_SLOW, Reason.TOO_MUCH_MEMORY}),
    ],
    ids=["truncated", "cycle", "deep arrays", "deep objects", "operators", "bomb", "large bomb"],
)
def test_hostile_files_are_refused_in_time(tmp_path, build, reasons):
    assert timed_refusal(pdfs.save(tmp_path, build())).reason in reasons


def test_a_file_cut_off_half_way_is_repaired_or_refused(tmp_path):
    whole = pdfs.make_pdf(["Herons stand in the shallows."] * 5)
    for share in (0.3, 0.6, 0.9):
        path = pdfs.save(tmp_path, whole[: int(len(whole) * share)])
        try:
            assert "Herons" in read_pdf(path, limits=TIGHT).text
        except DocumentError as error:
            assert error.reason in {Reason.DAMAGED, Reason.EMPTY}


def test_one_bad_page_does_not_take_the_others_along(tmp_path):
    good = pdfs.stream(pdfs.page_content("Herons stand in the shallows."))
    bad = pdfs.stream(b"BT /F1 12 Tf " + b"[" * 100_000)
    document = read_pdf(pdfs.save(tmp_path, pdfs.from_contents([good, bad, good])), limits=TIGHT)
    assert [bool(page.text) for page in document.pages] == [True, False, True]
    assert "page 2" in document.notes[0]


def test_too_slow_says_how_far_it_came(tmp_path):
    slow = pdfs.stream(b"BT /F1 12 Tf 72 720 Td " + b"(a) Tj " * 150_000 + b"ET")
    path = pdfs.save(tmp_path, pdfs.from_contents([pdfs.stream(pdfs.page_content("First."))] + [slow] * 40))
    error = timed_refusal(path, Limits(seconds=2.5))
    assert error.reason is Reason.TOO_SLOW
    assert "2.5 s" in str(error) and "page" in str(error)


def test_memory_is_bounded(tmp_path):
    padding = b"%" + b"x" * (300 * MIB)
    path = pdfs.save(tmp_path, b"%PDF-1.7\n" + padding)
    error = timed_refusal(path, Limits(memory_bytes=256 * MIB, seconds=10, file_bytes=1 << 30))
    assert error.reason is Reason.TOO_MUCH_MEMORY and "256 MB" in str(error)


class Stop(Exception):
    pass


def test_raising_from_progress_stops_the_worker_at_once(tmp_path):
    path = pdfs.save(tmp_path, pdfs.many_operators(1_500_000))
    start = time.monotonic()

    def stop_soon(done, total):
        if time.monotonic() - start > 1.0:
            raise Stop

    with pytest.raises(Stop):
        read_pdf(path, progress=stop_soon)
    assert time.monotonic() - start < 2.0
    assert workers() == []


@pytest.mark.parametrize("build", [pdfs.forms_within_forms, pdfs.cyclic_page_tree, pdfs.truncated, pdfs.deep_objects])
def test_drawing_hostile_files_ends_in_time(tmp_path, build):
    start = time.monotonic()
    try:
        render_page(pdfs.save(tmp_path, build()), 1, width=200, limits=TIGHT)
    except DocumentError as error:
        assert len(str(error)) < 300
    assert time.monotonic() - start < TIGHT.seconds + GRACE


def test_a_killed_worker_is_told_as_lack_of_memory(tmp_path):
    path = pdfs.save(tmp_path, pdfs.many_operators(1_500_000))

    def kill_it(done, total):
        for worker in workers():
            worker.kill()

    with pytest.raises(DocumentError) as caught:
        read_pdf(path, progress=kill_it)
    assert caught.value.reason is Reason.TOO_MUCH_MEMORY


def test_the_worker_never_loads_the_model_libraries():
    code = (
        "import sys; import dca_hub.documents.worker, dca_hub.documents.extract, dca_hub.documents.draw; "
        "print(sorted({'torch', 'transformers', 'gradio', 'numpy', 'matplotlib'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_worker_gets_no_secrets_and_runs_nothing_from_the_callers_folder(tmp_path, monkeypatch):
    (tmp_path / "pypdf.py").write_text("raise SystemExit('a stranger ran')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "secret")
    path = pdfs.save(tmp_path, pdfs.make_pdf(["Herons."]))
    seen = []

    def look(done, total):
        for worker in workers():
            with contextlib.suppress(psutil.NoSuchProcess):  # it may have ended since
                seen.append(worker.environ())

    assert read_pdf(path, progress=look).pages[0].text == "Herons."
    assert seen and all("HF_TOKEN" not in environment for environment in seen)


def test_a_page_takes_a_bounded_time_of_the_second_reader():
    reading = PypdfReading(io.BytesIO(pdfs.many_operators()), None, seconds=0.3)
    start = time.process_time()
    with pytest.raises(Refused) as refused:
        reading.text(0)
    assert refused.value.reason is Reason.TOO_COMPLEX and time.process_time() - start < 5


def test_the_bound_holds_where_a_destructor_swallows_the_first_ring(monkeypatch):
    class Swallows:
        def __del__(self):
            _work(0.5)

    def read(page):
        Swallows()
        _work(20)

    monkeypatch.setattr(pypdf.PageObject, "extract_text", read)
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
    reading = PypdfReading(io.BytesIO(pdfs.make_pdf(["Herons."])), None, seconds=0.2)
    start = time.process_time()
    with pytest.raises(Refused):
        reading.text(0)
    assert time.process_time() - start < 5


def test_an_alarm_that_rings_as_a_page_ends_is_switched_off(monkeypatch):
    """Otherwise it would ring on, where nothing catches it."""
    reading = PypdfReading(io.BytesIO(pdfs.make_pdf(["Herons."])), None, seconds=30)
    switch, rings = signal.setitimer, [True]

    def ringing(which, seconds, interval=0.0):
        if seconds == 0 and rings:
            rings.pop()
            os.kill(os.getpid(), signal.SIGVTALRM)  # the handler runs before the timer is off
        return switch(which, seconds, interval)

    monkeypatch.setattr(signal, "setitimer", ringing)
    with pytest.raises(Refused):
        reading.text(0)
    assert not rings and signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def _work(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
