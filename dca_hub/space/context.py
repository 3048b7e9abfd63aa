"""What the tabs share: settings, the model, its lane, the sessions."""

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import gradio as gr

from dca_hub.errors import UserError
from dca_hub.space.answers import Answers
from dca_hub.space.host import Host
from dca_hub.space.lane import Lane
from dca_hub.space.sessions import Session, Sessions
from dca_hub.space.settings import Settings

log = logging.getLogger("dca_hub.space")

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
    """For what programs call: a UserError's own sentence, and one fixed sentence for everything else, which is logged.
    Nobody outside sees a traceback or a path."""

    def told(error: Exception) -> gr.Error:
        if isinstance(error, UserError):
            return gr.Error(str(error), print_exception=False)
        log.exception("%s failed", function.__name__, exc_info=error)
        return gr.Error("That failed for a reason of this program's own; it is in the program's log.")

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        try:
            return (yield from function(*args, **kwargs))
        except GeneratorExit:
            raise
        except gr.Error:
            raise
        except Exception as error:
            raise told(error) from None

    return wrapped
