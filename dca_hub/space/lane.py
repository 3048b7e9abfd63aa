"""One lane for the model: one job at a time, those of the better rank first.

A job of a lower rank gives the lane back where it tells its next event, and goes on when nobody of a better rank waits.
Each rank has one thread: jobs of a rank run in the order they came.

A job goes on whether or not anybody still listens, so a visitor who leaves can block nobody: closing the iterator of
events, or `Job.stop`, ends the job at its next event.
"""

import contextvars
import enum
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from dca_hub.errors import DcaHubError

FULL = "Too many visitors are waiting right now: try again in a minute."
Tell = Callable[[Any], None]
_TICK = 0.05  # seconds
BEAT = 1.0  # seconds after which a listener is told at the latest that it still waits
_FIRST_BEAT = 0.25
_PATIENCE = 20.0  # seconds that a job leaves the processor to others
_STOPPING = object()
QUIET = object()  # told by nobody: the job works, and there is nothing new of it


class Stopped(Exception):
    """Raised inside a job, where it tells its next event, after somebody has stopped it."""


class Rank(enum.IntEnum):
    """Who comes first: questions, then experiments and changes of the model, then what nobody has asked for yet."""

    CHAT = 0
    LAB = 1
    AHEAD = 2


@dataclass(frozen=True)
class Waiting:
    """The job does not have the lane: `ahead` others come first, which takes about `seconds`, if that is known."""

    ahead: int
    seconds: float | None = None


class Job:
    """Work that has been asked for. `tell` hands an event to the listener, or ends the work if it was stopped.

    Args:
        expected: seconds that the work will take, where that is known; the work may correct it (`left`).
        most: seconds of work after which the job ends with a DcaHubError; None is no bound.
    """

    def __init__(
        self,
        work: Callable[[Tell], Any],
        rank: Rank = Rank.CHAT,
        expected: float | None = None,
        most: float | None = None,
    ):
        self.rank, self.left, self.most = rank, expected, most
        self.lane: Lane | None = None
        self._work = work
        self._context = contextvars.copy_context()
        self._events: queue.SimpleQueue = queue.SimpleQueue()
        self._stop, self._done = threading.Event(), threading.Event()
        self._began, self._worked = 0.0, 0.0
        self.begun = False
        self.patience = _PATIENCE

    def stop(self) -> None:
        """Ends the work at the next thing it tells; nothing if it has ended."""
        if not (self._stop.is_set() or self._done.is_set()):
            self._stop.set()
            self._events.put((_STOPPING, None))

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    @property
    def over(self) -> bool:
        return self._done.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether the work has ended within that time."""
        return self._done.wait(seconds)

    def tell(self, event: Any) -> None:
        self.check()
        self._events.put((event, None))
        if self.lane is not None:
            self._worked += time.monotonic() - self._began
            self.lane.give_way(self)
            self._began = time.monotonic()

    def check(self) -> None:
        """Raises Stopped if the job was stopped, and DcaHubError if it has worked for longer than it may."""
        if self._stop.is_set():
            raise Stopped
        if self.most is not None and self._worked > self.most:
            raise DcaHubError(f"Stopped after {_words(self.most)} of work, the limit here: ask for less at once.")

    def run(self) -> None:
        failure: BaseException | None = None
        self.begun, self._began = True, time.monotonic()
        try:
            self.check()
            self._context.run(self._work, self.tell)
        except BaseException as error:
            failure = error
        finally:
            # Drop what the work holds: a finished job may be kept for long, a cache must not.
            self._work = self._context = None
            self._done.set()
            self._events.put((None, failure or StopIteration()))

    def events(self, stopping: Any = None) -> Iterator[Any]:
        """Everything told, until the work ends; raises what it raised. Stops the job when it is closed.

        When nothing was told for a while it yields `Waiting` while others have the lane, and QUIET otherwise: whoever
        hands events on can then be closed. `stopping`, if there is one, is told when somebody stops the job: whoever
        shows these events shows that too, so that it can never come after the end.
        """
        beat = _FIRST_BEAT
        try:
            while True:
                try:
                    event, end = self._events.get(timeout=beat)
                except queue.Empty:
                    beat = BEAT
                    yield self.lane.waiting(self) if self.lane is not None else QUIET
                    continue
                if isinstance(end, (StopIteration, Stopped)):
                    return
                if end is not None:
                    raise end
                if event is not _STOPPING:
                    yield event
                elif stopping is not None:
                    yield stopping
        finally:
            if not self._done.is_set():
                self.stop()


class Lane:
    """The threads, one a rank, and the jobs in line.

    Args:
        most: jobs that may be in line; the next one is refused.
        processor_wanted: whether somebody who will ask waits for the processor, though not for the model yet, as while
            a PDF is read. What nobody has asked for, and experiments, then rest, each for `_PATIENCE` seconds in all.
    """

    def __init__(
        self, most: int | None = None, name: str = "model", processor_wanted: Callable[[], bool] = lambda: False
    ):
        self.most, self._processor_wanted = most, processor_wanted
        self._pools = {rank: ThreadPoolExecutor(1, thread_name_prefix=f"{name}-{rank.name.lower()}") for rank in Rank}
        self._changed = threading.Condition()
        self._line: list[Job] = []
        self._holder: Job | None = None

    def submit(
        self,
        work: Callable[[Tell], Any],
        rank: Rank = Rank.CHAT,
        *,
        expected: float | None = None,
        most: float | None = None,
    ) -> Job:
        """Puts `work` in line; it is called with `tell`. Raises DcaHubError when too many are in line already."""
        job = Job(work, rank, expected, most)
        job.lane = self
        with self._changed:
            if self.most is not None and sum(not j.over for j in self._line) > self.most:
                raise DcaHubError(FULL)
            self._line.append(job)
        self._pools[rank].submit(self._run, job)
        return job

    def stream(self, work: Callable[[Tell], Any], rank: Rank = Rank.CHAT) -> Iterator[Any]:
        """`submit`, and its events, without what only says that there is nothing new."""
        return (event for event in self.submit(work, rank).events() if not is_beat(event))

    def run_within(self, job: Job, work: Callable[[Tell], Any], rank: Rank = Rank.LAB) -> None:
        """Runs `work` in the lane as a part of `job`, which runs elsewhere: it tells that job's listener and stops with
        it, at once while it is still in line. It never gives way."""
        part = self.submit(lambda _: work(job.tell), rank)
        try:
            while not part.wait(_TICK):
                job.check()
        finally:
            part.stop()
            if part.begun:
                part.wait()
        for _ in part.events():  # raises what it raised
            pass

    def stop(self, rank: Rank, keep: Job | None = None) -> None:
        """Stops the jobs of a rank and waits for those that had begun."""
        with self._changed:
            found = [job for job in self._line if job.rank == rank and job is not keep]
            for job in found:
                job.stop()
            self._changed.notify_all()
        for job in found:
            if job.begun and job is not self._holder:
                job.wait(5)

    def waiting(self, job: Job) -> Any:
        """Where a job is in line; QUIET while it works."""
        with self._changed:
            if self._holder is job or job.over:
                return QUIET
            before = [other for other in self._line if other is not job and _comes_before(other, job, self._line)]
            lefts = [other.left for other in before]
        known = None if None in lefts or not lefts else sum(lefts)
        return Waiting(len(before), known)

    def give_way(self, job: Job) -> None:
        """Hands the lane to whoever comes first, and takes it back afterwards. Raises Stopped if the job is stopped
        meanwhile."""
        with self._changed:
            if self._holder is not job or not (self._is_wanted(job) or self._rests(job)):
                return
            self._holder = None
            self._changed.notify_all()
        if not self._take(job):
            raise Stopped

    def close(self) -> None:
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        for job in list(self._line):
            job.stop()

    def _run(self, job: Job) -> None:
        try:
            self._take(job)
            job.run()  # which ends at once if the job was stopped in line
        finally:
            with self._changed:
                if self._holder is job:
                    self._holder = None
                self._line.remove(job)
                self._changed.notify_all()

    def _take(self, job: Job) -> bool:
        with self._changed:
            while not job.stopped and (self._holder is not None or self._is_wanted(job) or self._rests(job)):
                began, rests = time.monotonic(), self._holder is None and not self._is_wanted(job)
                self._changed.wait(_TICK)
                job.patience -= (time.monotonic() - began) * rests
            if job.stopped:
                return False
            self._holder = job
            return True

    def _rests(self, job: Job) -> bool:
        """Whether a job leaves the processor to others."""
        return job.rank is not Rank.CHAT and job.patience > 0 and self._processor_wanted()

    def _is_wanted(self, job: Job) -> bool:
        """Whether somebody of a better rank waits."""
        return any(other.rank < job.rank and not (other.stopped or other.over) for other in self._line)


def is_beat(event: Any) -> bool:
    """Whether an event is none of the work's own."""
    return event is QUIET or isinstance(event, Waiting)


def aside(job: Job) -> Job:
    """Starts a job that needs no model, in a thread of its own."""
    threading.Thread(target=job.run, name="aside", daemon=True).start()
    return job


def _comes_before(other: Job, job: Job, line: list[Job]) -> bool:
    if other.over or other.stopped:
        return False
    return other.rank < job.rank or (other.rank == job.rank and line.index(other) < line.index(job))


def _words(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} minute{'s' * (round(minutes) != 1)}" if minutes >= 1 else f"{seconds:g} seconds"
