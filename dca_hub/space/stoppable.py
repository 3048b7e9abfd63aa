"""A run that a visitor starts and can stop: one button begins it, another one ends it, and what it tells is shown."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import gradio as gr
from gradio.events import Dependency

from dca_hub.errors import DcaHubError
from dca_hub.space.context import AT_ONCE, PRIVATE, Context, full
from dca_hub.space.failures import sentence
from dca_hub.space.lane import Waiting
from dca_hub.space.markup import notice
from dca_hub.space.sessions import Session

Updates = dict[gr.components.Component, Any]


@dataclass
class StoppableRun:
    """Connects such a run. Handlers are generators of {component: update}, called with the visitor's session and the
    values of `inputs`. What they raise is shown in `status`."""

    context: Context
    run: gr.Button
    stop: gr.Button
    status: gr.HTML
    outputs: Sequence[gr.components.Component]
    what: Literal["model", "loading"] = "model"

    def on(self, triggers: Sequence[Callable], handler: Callable[..., Iterator[Updates]], inputs=None) -> Dependency:
        """Begins the run on any of the triggers."""
        shown = list(dict.fromkeys([*self.outputs, self.status, self.run, self.stop]))

        def started(request: gr.Request, *values: Any) -> Iterator[Updates]:
            session = self.context.session(request)
            begun = False
            try:
                with session.claim(self.what):
                    for update in handler(session, *values):
                        yield {self.run: gr.skip(), **update} if begun else {**self._buttons(True), **update}
                        begun = True
            except DcaHubError as error:
                yield {self.status: notice(sentence(error), "warning"), **(self._buttons(False) if begun else {})}
            except Exception as error:
                yield {self.status: notice(sentence(error), "error"), **self._buttons(False)}
            else:
                yield self._buttons(False)

        event = gr.on(
            triggers, started, inputs, shown,
            trigger_mode="multiple",  # the one before may not quite have ended when it was stopped
            **self.context.listening(self.what), **PRIVATE,
        )  # fmt: skip
        event.failure(lambda: {self.status: full(), **self._buttons(False)}, None, shown, **AT_ONCE, **PRIVATE)
        return event

    def stops(self, also: Callable[[Session], None] = lambda session: None) -> None:
        """Ends the work; the run's own event shows the end, so that nothing of it can come after that."""

        def stop(request: gr.Request) -> None:
            session = self.context.session(request)
            job = session.job if self.what == "model" else session.loading
            if job is not None:
                job.stop()
            also(session)

        self.stop.click(stop, None, None, **AT_ONCE, **PRIVATE)

    def _buttons(self, running: bool) -> Updates:
        return {self.run: gr.update(visible=not running), self.stop: gr.update(visible=running)}


def in_line(waiting: Waiting) -> str:
    """Where a request is in line, in words."""
    if not waiting.ahead:
        return "You are next"
    others = f"{waiting.ahead} request{'s' * (waiting.ahead != 1)} before yours"
    if waiting.seconds is None:
        return others
    if waiting.seconds < 60:
        return f"{others}, less than a minute"
    return f"{others}, about {round(waiting.seconds / 60)} min"
