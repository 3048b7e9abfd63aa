"""One lane for the model: everything that uses it runs in one thread, one job after another.

A job goes on in that thread whether or not anybody still listens, so a visitor who leaves can block nobody: closing
the iterator of events, or `Job.stop`, ends the job at its next event.
"""

import contextvars
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Tell = Callable[[Any], None]
_TICK = 0.05  # seconds
_STOPPING = object()


class Stopped(Exception):
    """Raised inside a job, where it tells its next event, after somebody has stopped it."""


class Job:
    """Work that has been asked for. `tell` hands an event to the listener, or ends the work if it was stopped."""

    def __init__(self, work: Callable[[Tell], Any]):
        self._work = work
        self._context = contextvars.copy_context()
        self._events: queue.SimpleQueue = queue.SimpleQueue()
        self._stop, self._done = threading.Event(), threading.Event()
        self.begun = False

    def stop(self) -> None:
        """Ends the work at the next thing it tells; nothing if it has ended."""
        if not (self._stop.is_set() or self._done.is_set()):
            self._stop.set()
            self._events.put((_STOPPING, None))

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether the work has ended within that time."""
        return self._done.wait(seconds)

    def tell(self, event: Any) -> None:
        self.check()
        self._events.put((event, None))

    def check(self) -> None:
        """Raises Stopped if the job was stopped."""
        if self._stop.is_set():
            raise Stopped

    def run(self) -> None:
        failure: BaseException | None = None
        self.begun = True
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

        `stopping`, if there is one, is told when somebody stops the job: whoever shows these events shows that too, so
        that it can never come after the end.
        """
        try:
            while True:
                event, end = self._events.get()
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
    """The thread, and the jobs in line for it."""

    def __init__(self, name: str = "model"):
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    def submit(self, work: Callable[[Tell], Any]) -> Job:
        """Puts `work` in line; it is called with `tell`."""
        job = Job(work)
        self._pool.submit(job.run)
        return job

    def stream(self, work: Callable[[Tell], Any]) -> Iterator[Any]:
        """`submit`, and its events."""
        return self.submit(work).events()

    def run_within(self, job: Job, work: Callable[[Tell], Any]) -> None:
        """Runs `work` in the lane as a part of `job`, which runs elsewhere: it tells that job's listener and stops with
        it, at once while it is still in line."""
        part = self.submit(lambda _: work(job.tell))
        try:
            while not part.wait(_TICK):
                job.check()
        finally:
            part.stop()
            if part.begun:
                part.wait()
        for _ in part.events():  # raises what it raised
            pass

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def aside(job: Job) -> Job:
    """Starts a job that needs no model, in a thread of its own."""
    threading.Thread(target=job.run, name="aside", daemon=True).start()
    return job
