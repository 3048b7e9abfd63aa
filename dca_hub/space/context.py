"""What the tabs share: settings, the model, its lane, the sessions."""

from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from dca_hub.space.answers import Answers
from dca_hub.space.callers import Callers
from dca_hub.space.example import Example
from dca_hub.space.host import Host
from dca_hub.space.lane import Lane, Rank
from dca_hub.space.markup import notice
from dca_hub.space.sessions import Session, Sessions
from dca_hub.space.settings import Settings

_MORE = 8  # than may be in line, so that it is the lane that says it is full
PAGES_LANE = {"concurrency_id": "pages", "concurrency_limit": 2, "show_progress": "hidden"}
AT_ONCE = {"queue": False, "show_progress": "hidden"}
PRIVATE = {"api_visibility": "private"}
_NOT_TAKEN = (
    "Too many visitors are waiting right now, or what was chosen went with the model before: try again in a minute, or "
    "choose anew."
)


@dataclass
class Context:
    """One running Space."""

    settings: Settings
    host: Host = field(init=False)
    lane: Lane = field(init=False)
    sessions: Sessions = field(init=False)
    example: Example = field(init=False)
    answers: Answers = field(init=False)
    callers: Callers = field(default_factory=Callers)

    def __post_init__(self):
        settings = self.settings
        self.host = Host(settings)
        self.lane = Lane(most=settings.queue, processor_wanted=lambda: self.sessions.read_files)
        self.sessions = Sessions(
            self.host,
            60.0 * settings.idle_minutes,
            settings.cache_mb * 1_000_000,
            most=settings.max_sessions,
            weight=settings.store_mb * 1_000_000,
        )
        self.example = Example(self.sessions.root, settings.limits)
        self.answers = Answers(self.host, self.lane, self.sessions, self.example)
        self.host.before_change = self._forget

    def listening(self, what: str) -> dict[str, Any]:
        """For events that wait in this program's own lane, which knows who comes first and can tell them: Gradio only
        has to bring them there."""
        return {"concurrency_id": what, "concurrency_limit": self.settings.queue + _MORE, "show_progress": "hidden"}

    def session(self, request: gr.Request) -> Session:
        return self.sessions.get(request.session_hash)

    def _forget(self) -> None:
        """Before the model goes: whatever hangs on it."""
        self.lane.stop(Rank.AHEAD)
        self.sessions.forget_caches()
        self.answers.forget_example()

    def close(self) -> None:
        self.lane.close()
        self.sessions.shut()


def full() -> str:
    """What is shown where Gradio itself did not take a call: its queue is full, or a value is none that the page offers
    since the model has changed. Everything else that fails says what it was."""
    return notice(_NOT_TAKEN, "warning")
