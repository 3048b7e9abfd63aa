"""The lane of the model: one job after another, and nobody blocks it by leaving."""

import threading
import time

import pytest

from dca_hub.errors import DcaHubError
from dca_hub.space import lane as lane_module
from dca_hub.space.lane import QUIET, Job, Lane, Rank, Stopped, Waiting, aside


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
    with pytest.raises(DcaHubError, match="no"):
        list(lane.stream(lambda tell: (_ for _ in ()).throw(DcaHubError("no"))))
    lane.close()


def test_that_a_job_is_being_stopped_is_told_once_and_before_its_end():
    lane, gate = Lane(), threading.Event()

    def work(tell):
        tell(1)
        gate.wait(10)
        tell(2)

    for stopping, told in (("stopping", [1, "stopping"]), (None, [1])):
        gate.clear()
        job = lane.submit(work)
        events = job.events(stopping=stopping)
        found = [next(events)]
        job.stop()
        job.stop()
        gate.set()
        assert found + list(events) == told
    done = lane.submit(lambda tell: tell(1))
    assert done.wait(10)
    done.stop()
    assert list(done.events(stopping="stopping")) == [1]
    lane.close()


def test_a_part_in_the_lane_stops_while_it_is_still_in_line():
    lane, gate, ran = Lane(), threading.Event(), []
    lane.submit(lambda tell: gate.wait(10))
    job = aside(Job(lambda tell: lane.run_within(job, lambda tell: ran.append(1))))
    time.sleep(0.1)
    begun = time.monotonic()
    job.stop()
    assert job.wait(5) and time.monotonic() - begun < 1.0
    gate.set()
    assert list(lane.stream(lambda tell: tell("next"))) == ["next"] and not ran
    lane.close()


def _busy(lane: Lane, rank: Rank, steps: int = 1000, **options) -> tuple[Job, list]:
    """A job that tells every 10 ms, and what it has done."""
    done = []

    def work(tell):
        for number in range(steps):
            time.sleep(0.01)
            done.append(time.monotonic())
            tell(number)

    return lane.submit(work, rank, **options), done


def test_a_question_goes_before_an_experiment_that_has_begun_and_the_experiment_goes_on():
    lane = Lane()
    lab, steps = _busy(lane, Rank.LAB, 60)
    while len(steps) < 3:
        time.sleep(0.01)
    begun = time.monotonic()
    chat, answered = _busy(lane, Rank.CHAT, 20)
    assert chat.wait(5) and answered[0] - begun < 0.5
    assert not [at for at in steps if answered[0] < at < answered[-1]]  # one at a time
    assert lab.wait(5) and len(steps) == 60 and not lab.stopped
    lane.close()


def test_an_experiment_that_gave_way_can_be_stopped_and_frees_its_rank():
    lane = Lane()
    lab, steps = _busy(lane, Rank.LAB)
    while not steps:
        time.sleep(0.01)
    chat, answered = _busy(lane, Rank.CHAT)
    while not answered:
        time.sleep(0.01)
    lab.stop()
    assert lab.wait(1) and not chat.over
    chat.stop()
    assert list(lane.stream(lambda tell: tell("next"), Rank.LAB)) == ["next"]
    lane.close()


def test_who_waits_is_told_the_place_and_the_seconds_and_can_be_closed():
    lane = Lane()
    first, _ = _busy(lane, Rank.CHAT, expected=90.0)
    second, _ = _busy(lane, Rank.CHAT, expected=30.0)
    third = lane.submit(lambda tell: None)
    lab = lane.submit(lambda tell: None, Rank.LAB)
    events = third.events()
    assert next(events) == Waiting(2, 120.0) and next(lab.events()) == Waiting(3, None)
    events.close()
    assert third.stopped
    first.stop(), second.stop()
    assert third.wait(5) and list(lane.stream(lambda tell: tell("next"))) == ["next"]
    lane.close()


def test_a_listener_of_a_silent_job_gets_control_back_every_second():
    lane, gate = Lane(), threading.Event()
    events = lane.submit(lambda tell: gate.wait(20)).events()
    begun = time.monotonic()
    assert next(events) is QUIET and time.monotonic() - begun < 3
    gate.set()
    lane.close()


def test_a_job_ends_when_its_time_is_up_which_others_do_not_count_for():
    lane = Lane()
    lab, _ = _busy(lane, Rank.LAB, most=0.5)
    chat, _ = _busy(lane, Rank.CHAT, 100)
    assert chat.wait(10) and not lab.over
    with pytest.raises(DcaHubError, match=r"Stopped after 0.5 seconds of work, the limit here"):
        for _ in lab.events():
            pass
    lane.close()


def test_a_full_line_refuses_and_says_so():
    lane = Lane(most=1)
    jobs = [_busy(lane, Rank.CHAT)[0] for _ in range(2)]
    with pytest.raises(DcaHubError, match="Too many visitors"):
        lane.submit(lambda tell: None)
    for job in jobs:
        job.stop()
    assert jobs[-1].wait(5)
    assert list(lane.stream(lambda tell: tell("next"))) == ["next"]
    lane.close()


def test_experiments_leave_the_processor_to_who_will_ask_but_not_for_ever(monkeypatch):
    wanted, told = threading.Event(), threading.Event()
    lane = Lane(processor_wanted=wanted.is_set)

    def work(tell):
        while not told.is_set():
            tell(None)
            time.sleep(0.001)

    job = lane.submit(work, Rank.LAB)
    events = job.events()  # whose end would stop the job
    next(events)
    wanted.set()
    while lane.waiting(job) is QUIET:  # it gives the lane away at the next thing it tells
        time.sleep(0.005)
    assert lane.submit(lambda tell: tell("asked")).wait(5)  # a question does not rest
    told.set()
    assert not job.wait(0.3)
    wanted.clear()
    assert job.wait(5)
    monkeypatch.setattr(lane_module, "_PATIENCE", 0.2)
    wanted.set()
    assert lane.submit(lambda tell: tell(None), Rank.LAB).wait(10)
    lane.close()
