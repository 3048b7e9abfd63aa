"""The lane of the model: one job after another, and nobody blocks it by leaving."""

import threading
import time

import pytest

from dca_hub.errors import DcaHubError
from dca_hub.space.lane import Job, Lane, Stopped, aside


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
