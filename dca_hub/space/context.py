"""What the tabs share: settings, the model, its lane, the sessions."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import gradio as gr

from dca_hub.space.answers import Answers
from dca_hub.space.failures import sentence
from dca_hub.space.host import Host
from dca_hub.space.lane import Lane
from dca_hub.space.sessions import Session, Sessions
from dca_hub.space.settings import Settings

MODEL_LANE = {"concurrency_id": "model", "concurrency_limit": 1}
LOADING_LANE = {"concurrency_id": "loading", "concurrency_limit": 1}
PAGES_LANE = {"concurrency_id": "pages", "concurrency_limit": 2}
AT_ONCE = {"queue": False, "show_progress": "hidden"}
PRIVATE = {"api_visibility": "private"}


@dataclass
class Context:
    """One running Space."""

    settings: Settings
    host: Host = field(init=False)
    lane: Lane = field(init=False)
    sessions: Sessions = field(init=False)
    answers: Answers = field(init=False)

    def __post_init__(self):
        self.host, self.lane = Host(self.settings), Lane()
        self.sessions = Sessions(self.host, 60.0 * self.settings.idle_minutes, self.settings.cache_mb * 1_000_000)
        self.answers = Answers(self.host, self.lane, self.sessions)

    def session(self, request: gr.Request) -> Session:
        return self.sessions.get(request.session_hash)

    def close(self) -> None:
        self.lane.close()
        self.sessions.shut()


def curated(function: Callable) -> Callable:
    """For what programs call: failures as `sentence` puts them."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        try:
            return (yield from function(*args, **kwargs))
        except GeneratorExit:
            raise
        except gr.Error:
            raise
        except Exception as error:
            raise gr.Error(sentence(error), print_exception=False) from None

    return wrapped
