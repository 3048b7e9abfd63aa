"""What each visitor has on this machine: PDFs, the conversation, the cache. Bounded, and gone when the visitor is."""

import shutil
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from dca_hub.conversation import Conversation
from dca_hub.documents import Document
from dca_hub.evaluation.grid import Grid
from dca_hub.evaluation.needle import Result
from dca_hub.space import trim
from dca_hub.space.host import Host
from dca_hub.space.lane import Job
from dca_hub.space.turns import Turn

_SWEEP_SECONDS = 15
_IDLE_KNOWN = 1000


@dataclass
class Upload:
    """A PDF of a visitor: the copy, and what reading it gave: a document with its tokens, or the sentence why not."""

    path: Path
    name: str
    document: Document | None = None
    tokens: int = 0
    problem: str | None = None
    wants_password: bool = False


@dataclass
class Session:
    """One browser tab."""

    folder: Path
    uploads: list[Upload] = field(default_factory=list)
    pages: str = ""
    password: str = ""
    turns: list[Turn] = field(default_factory=list)
    conversations: dict[bool, Conversation] = field(default_factory=dict)
    generation: int = 0
    job: Job | None = None
    loading: Job | None = None
    loading_name: str = ""
    used: float = field(default_factory=time.monotonic)
    needle: list[Result] = field(default_factory=list)
    grid: Grid | None = None
    grid_ready: bool = False
    curve_asked: bool = False
    forgotten: bool = False  # the one before it in the same tab was idle, and went with all it had

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
        return self.job is not None and not self.job.wait(0)

    def cache_bytes(self) -> int:
        return sum(c.cached_tokens * c.loaded.cache_bytes_per_token for c in list(self.conversations.values()))

    def forget_caches(self) -> None:
        """Drops the conversations' caches; the turns on the screen stay, and the next question reads anew."""
        conversations, self.conversations = self.conversations, {}
        for conversation in conversations.values():
            conversation.close()

    def begin_anew(self) -> None:
        """No turns, no cache: another set of documents is another conversation."""
        self.turns.clear()
        self.forget_caches()


class Sessions:
    """All of them, by the browser's session hash."""

    def __init__(self, host: Host, idle_seconds: float, cache_bytes: int):
        self.host, self.idle_seconds, self.bound = host, idle_seconds, cache_bytes
        self.root = Path(tempfile.mkdtemp(prefix="dca-space-"))
        self._held: dict[str, Session] = {}
        self._idle: deque[str] = deque(maxlen=_IDLE_KNOWN)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        host.before_change = self.forget_caches
        threading.Thread(target=self._sweep, name="sessions", daemon=True).start()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: str | None) -> Session:
        """The session of a key, made when there is none; a use of it."""
        key = key or "none"
        with self._lock:
            session = self._held.get(key)
            if session is None:
                session = self._held[key] = self.make()
                session.forgotten = key in self._idle
            session.used = time.monotonic()
            return session

    def make(self) -> Session:
        """A session of its own that nothing keeps; `free` it."""
        return Session(Path(tempfile.mkdtemp(dir=self.root)))

    def close(self, key: str | None) -> None:
        """The visitor has left: work is stopped, files and cache go."""
        with self._lock:
            session = self._held.pop(key or "none", None)
        if session is not None:
            self.free(session)

    def free(self, session: Session) -> None:
        for job in (session.job, session.loading):
            if job is not None:
                job.stop()
                job.wait(5)
        session.forget_caches()
        shutil.rmtree(session.folder, ignore_errors=True)
        trim.release()

    def free_later(self, session: Session) -> None:
        """`free`, in a thread of its own: for callers that must not wait."""
        threading.Thread(target=self.free, args=(session,), name="free", daemon=True).start()

    def forget_caches(self) -> None:
        for session in list(self._held.values()):
            session.forget_caches()

    def cache_bytes(self) -> int:
        return sum(session.cache_bytes() for session in list(self._held.values()))

    def make_room(self, needed: int, keep: Session) -> None:
        """Drops the caches that were not used for longest, until `needed` bytes fit below the bound."""
        others = sorted((s for s in list(self._held.values()) if s is not keep), key=lambda s: s.used)
        for session in others:
            if self.cache_bytes() - keep.cache_bytes() + needed <= self.bound:
                return
            if not session.busy:
                session.forget_caches()

    def shut(self) -> None:
        """Ends everything; for the end of the process."""
        self._closed.set()
        for key in list(self._held):
            self.close(key)
        shutil.rmtree(self.root, ignore_errors=True)

    def _sweep(self) -> None:
        while not self._closed.wait(min(_SWEEP_SECONDS, self.idle_seconds / 4)):
            oldest = time.monotonic() - self.idle_seconds
            for key, session in list(self._held.items()):
                if session.used < oldest and not session.busy:
                    self._idle.append(key)
                    self.close(key)
