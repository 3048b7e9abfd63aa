"""What each visitor has on this machine: PDFs, the conversation, the cache. Bounded, and gone when the visitor is."""

import ctypes
import gc
import secrets
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dca_hub.conversation import Conversation, Reading
from dca_hub.documents import Document
from dca_hub.errors import DcaHubError
from dca_hub.evaluation.grid import Grid
from dca_hub.evaluation.needle import Trial
from dca_hub.space import folders
from dca_hub.space.host import Host
from dca_hub.space.lane import Job
from dca_hub.space.turns import Turn, Way

_SWEEP_SECONDS = 15
_KNOWN = 1000  # sessions that are gone and whose visitor has not been told yet
_RETURN_SECONDS = 60  # within which a page that was left may be back: a reload
_REST_SECONDS = 120  # without use, after which a cache may make room for what nobody has asked for yet
LOADING = "A model is already being loaded: wait for it, or stop it."
BUSY = "The model is still working on your last request: wait for it, or stop it."
_READERS = 2  # PDFs that are read at a time
_RELEASE_SECONDS, _PATIENCE_SECONDS = 2.0, 15.0


@dataclass
class Upload:
    """A PDF of a visitor: the copy, what is to be read of it, and what reading gave: a document with its tokens, or the
    sentence why not. `example` marks the document that comes with the Space."""

    path: Path
    name: str
    document: Document | None = None
    tokens: int = 0
    problem: str | None = None
    wants_password: bool = False
    pages: str = ""
    password: str = ""
    example: bool = False
    bytes: int = 0

    def weight(self) -> int:
        """Bytes that it takes on this machine, on disk and as text in memory."""
        return self.bytes + (len(self.document.text) if self.document else 0)


@dataclass
class Session:
    """One browser tab."""

    folder: Path
    uploads: list[Upload] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    cleared: list[Turn] = field(default_factory=list)
    conversations: dict[Way, Conversation] = field(default_factory=dict)
    sparse: bool = False  # whether long documents are to be read sparsely, where they can be
    generation: int = 0
    reading: int = 0  # documents that are being read from their files
    ahead: Job | None = None  # reading into the cache what nobody has asked about yet
    ahead_reading: Reading | None = None
    job: Job | None = None
    claimed: set[str] = field(default_factory=set)
    loading: Job | None = None
    used: float = field(default_factory=time.monotonic)
    needle: list[Trial] = field(default_factory=list)
    grid: Grid | None = None
    why_gone: str = ""  # what happened to the session before it in the same tab, with all it had
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    shown_generation: int = 0  # of the model that its page was last shown
    left: float | None = None  # when the page was closed, if it was
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def readable(self) -> list[Upload]:
        return [upload for upload in self.uploads if upload.document is not None]

    @property
    def documents(self) -> list[Document]:
        return [upload.document for upload in self.uploads if upload.document is not None]

    @property
    def document_tokens(self) -> int:
        return sum(upload.tokens for upload in self.readable)

    @property
    def busy(self) -> bool:
        """Whether the model works for this visitor, or will."""
        return "model" in self.claimed or (self.job is not None and not self.job.over)

    @contextmanager
    def claim(self, what: str = "model") -> Iterator[None]:
        """One request to the model at a time, and one model that is being loaded. Raises DcaHubError when there is one
        already."""
        with self._lock:
            if self.busy if what == "model" else what in self.claimed:
                raise DcaHubError(BUSY if what == "model" else LOADING)
            self.claimed.add(what)
        try:
            yield
        finally:
            self.claimed.discard(what)

    @contextmanager
    def reads_documents(self) -> Iterator[None]:
        """While files are read; questions wait until then."""
        with self._lock:
            self.reading += 1
        try:
            yield
        finally:
            with self._lock:
                self.reading -= 1

    def stop(self) -> None:
        """Ends what the model does for this visitor."""
        for job in (self.job, self.ahead):
            if job is not None:
                job.stop()
        if self.turns:
            self.turns[-1].stop()

    def cache_bytes(self) -> int:
        return sum(c.cached_tokens * c.loaded.cache_bytes_per_token for c in list(self.conversations.values()))

    def weight(self) -> int:
        return sum(upload.weight() for upload in list(self.uploads))

    def forget_caches(self) -> None:
        """Lets go of the conversations' caches: the turns on the screen stay, and the next question reads anew.

        A conversation that the model is working on keeps its cache until then: it is not closed, only not used again.
        """
        self.conversations = {}


class Sessions:
    """All of them, by the browser's session hash.

    Args:
        cache_bytes: bound of all caches together.
        most: sessions at a time; weight: bytes of all their files and texts. Above either, the one that was not used
            for longest goes, and its visitor is told.
    """

    def __init__(self, host: Host, idle_seconds: float, cache_bytes: int, most: int = 200, weight: int = 4_000_000_000):
        self.host, self.idle_seconds, self.bound, self.most, self.most_weight = (
            host, idle_seconds, cache_bytes, most, weight,
        )  # fmt: skip
        self.root = folders.make("dca-space-")
        self._held: dict[str, Session] = {}
        self._gone: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.readers = threading.BoundedSemaphore(_READERS)
        self._release = _Release(lambda: any(session.busy for session in list(self._held.values())))
        threading.Thread(target=self._sweep, name="sessions", daemon=True).start()

    def __len__(self) -> int:
        return sum(session.left is None for session in list(self._held.values()))

    def get(self, key: str | None) -> Session:
        """The session of a key, made when there is none; a use of it."""
        key = key or "none"
        with self._lock:
            session = self._held.get(key)
            if session is None:
                session = self._held[key] = self._new()
                session.why_gone = self._gone.pop(key, "")
            session.used, session.left = time.monotonic(), None
        if len(self._held) > self.most:
            self._make_place(session)
        return session

    def find(self, key: str | None) -> Session | None:
        """The session of a key, if there is one; no use of it."""
        return self._held.get(key or "none")

    def make(self) -> Session:
        """A session for one call, which no page has: it counts, and stays until it is freed."""
        session = self._new()
        session.claimed.add("model")
        with self._lock:
            self._held[f"call {session.token}"] = session
        return session

    def _new(self) -> Session:
        if self._closed.is_set():
            raise DcaHubError("This Space is being closed: come back in a few minutes.")
        return Session(Path(tempfile.mkdtemp(dir=self.root)))

    def adopt(self, key: str | None, token: str, reloaded: bool = True) -> Session:
        """The session of a page that was loaded again, which knows the token of the one before; a new one otherwise.

        reloaded: False for a tab that came back some other way. It has the session only if that was left: a tab that
        was duplicated knows the token too, and the first one still has it.
        """
        with self._lock:
            known = token.encode()
            found = next((k for k, s in self._held.items() if secrets.compare_digest(s.token.encode(), known)), None)
            if found is not None and not reloaded and self._held[found].left is None:
                found = None
            if found is not None and found != key:
                session = self._held.pop(found)
                replaced = self._held.get(key or "none")
                self._held[key or "none"] = session
                session.used, session.left = time.monotonic(), None
            else:
                replaced = None
        if replaced is not None:
            self.free_later(replaced)
        return self.get(key)

    def leave(self, key: str | None) -> None:
        """The page was closed: its work is stopped at once, and what it had goes unless it is back soon."""
        with self._lock:
            session = self._held.get(key or "none")
            if session is not None:
                session.left = time.monotonic()
        if session is not None:
            session.stop()
            if session.loading is not None:
                session.loading.stop()
            if not session.uploads and not session.turns:
                self.close(key)

    def close(self, key: str | None, why: str = "") -> None:
        """Work is stopped, files and cache go. `why` is told to the visitor, should there still be one."""
        with self._lock:
            session = self._held.pop(key or "none", None)
            if why:
                self._gone[key or "none"] = why
                while len(self._gone) > _KNOWN:
                    self._gone.popitem(last=False)
        if session is not None:
            self.free(session)

    def free(self, session: Session) -> None:
        with self._lock:
            for key in [key for key, held in self._held.items() if held is session]:
                del self._held[key]
        session.stop()
        for job in (session.job, session.ahead, session.loading):
            if job is not None:
                job.stop()
                job.wait(5)
        session.forget_caches()
        shutil.rmtree(session.folder, ignore_errors=True)
        self._release.soon()

    def free_later(self, session: Session) -> None:
        """`free`, in a thread of its own: for callers that must not wait."""
        threading.Thread(target=self.free, args=(session,), name="free", daemon=True).start()

    @property
    def read_files(self) -> bool:
        """Whether anybody's PDF is being read, or waits to be."""
        return any(session.reading for session in list(self._held.values()))

    def forget_caches(self) -> None:
        for session in list(self._held.values()):
            session.forget_caches()

    def cache_bytes(self) -> int:
        return sum(session.cache_bytes() for session in list(self._held.values()))

    def make_room(self, needed: int, keep: Session) -> None:
        """Drops the caches that were not used for longest, until `needed` bytes fit below the bound."""
        for session in self._others(keep):
            if self.cache_bytes() - keep.cache_bytes() + needed <= self.bound:
                return
            session.forget_caches()

    def has_room(self, needed: int, keep: Session) -> bool:
        """Whether `needed` bytes of cache fit without taking one away that may be used again soon."""
        rested = time.monotonic() - _REST_SECONDS
        held = sum(s.cache_bytes() for s in list(self._held.values()) if s is not keep and s.used > rested)
        return held + needed <= self.bound

    def take_in(self, session: Session, weight: int) -> None:
        """Makes room for a file of `weight` bytes: the sessions that were not used for longest go.

        Raises DcaHubError when even that is not enough.
        """
        self._make_place(session, weight)
        if self.weight() + weight > self.most_weight:
            raise DcaHubError("Visitors' documents fill this server right now: try again in a few minutes.")

    def weight(self) -> int:
        """Bytes of all files and texts."""
        return sum(session.weight() for session in list(self._held.values()))

    def shut(self) -> None:
        """Ends everything; for the end of the process."""
        self._closed.set()
        self._release.stop()
        sessions = list(self._held.values())
        for session in sessions:
            session.stop()
        folders.remove(self.root)
        for key in list(self._held):
            self.close(key)

    def _others(self, keep: Session) -> list[Session]:
        """Those that the model does not work for, the one that was not used for longest first; who left before all."""
        idle = [s for s in list(self._held.values()) if s is not keep and not s.busy]
        return sorted(idle, key=lambda s: (s.left is None, s.used))

    def _make_place(self, keep: Session, weight: int = 0) -> None:
        for session in self._others(keep):
            if len(self._held) <= self.most and self.weight() + weight <= self.most_weight:
                return
            key = next((k for k, held in list(self._held.items()) if held is session), None)
            if key is not None:
                self.close(key, "Room was needed for other visitors, so your documents were deleted: add them again.")

    def _sweep(self) -> None:
        while not self._closed.wait(min(_SWEEP_SECONDS, self.idle_seconds / 4)):
            self._tidy()

    def _tidy(self) -> None:
        """Lets those go who have left or were idle for long."""
        minutes = f"{self.idle_seconds / 60:g}"
        why = f"Nothing was asked here for {minutes} minutes, so your documents were deleted: add them again."
        now = time.monotonic()
        for key, session in list(self._held.items()):
            if session.left is not None and session.left < now - _RETURN_SECONDS:
                self.close(key)
            elif session.used < now - self.idle_seconds and not session.busy:
                self.close(key, why)


class _Release:
    """Collects garbage and, where the C library can (glibc), hands free memory back to the system: once for all that
    ends within a while, and if it can be, while `busy` says that nobody waits for an answer. A collection stops every
    thread, the model's too, for half a second."""

    def __init__(self, busy: Callable[[], bool]):
        self._busy = busy
        self._wanted, self._stopped = threading.Event(), False
        threading.Thread(target=self._run, name="release", daemon=True).start()

    def soon(self) -> None:
        self._wanted.set()

    def stop(self) -> None:
        self._stopped = True
        self._wanted.set()

    def _run(self) -> None:
        while self._wanted.wait() and not self._stopped:
            patience = time.monotonic() + _PATIENCE_SECONDS
            time.sleep(_RELEASE_SECONDS)
            while self._busy() and time.monotonic() < patience:
                time.sleep(_RELEASE_SECONDS / 4)
            self._wanted.clear()
            gc.collect()
            try:
                ctypes.CDLL("libc.so.6").malloc_trim(0)
            except (OSError, AttributeError):  # another C library: it keeps what it has, to use again
                continue
