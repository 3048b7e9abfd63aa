"""Callers of the tools (MCP): whether they are still there.

Gradio runs a tool's call as one of its own, with no word of a caller who has hung up. So each call is marked here, and
the function that it runs can ask.
"""

import secrets
import threading

import gradio as gr
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-dca-caller"
_MOST = 10_000  # callers who are remembered


class Callers:
    """Those who have hung up."""

    def __init__(self):
        self._gone: dict[str, None] = {}
        self._lock = threading.Lock()

    def leave(self, caller: str) -> None:
        with self._lock:
            self._gone[caller] = None
            while len(self._gone) > _MOST:
                self._gone.pop(next(iter(self._gone)))

    def is_gone(self, request: gr.Request | None) -> bool:
        return bool(caller := caller_of(request)) and caller in self._gone


def caller_of(request: gr.Request | None) -> str | None:
    """The mark of a call that came as a tool's; None for every other."""
    headers = getattr(request, "headers", None)
    return headers.get(HEADER) if headers is not None else None


class MarkCallers:
    """ASGI middleware that marks each call of a tool, and notices when its caller hangs up."""

    def __init__(self, app: ASGIApp, callers: Callers):
        self.app, self.callers = app, callers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or "/mcp" not in scope.get("path", ""):
            return await self.app(scope, receive, send)
        caller, ended = secrets.token_hex(8), False

        async def hears() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and not ended:
                self.callers.leave(caller)
            return message

        async def sends(message: Message) -> None:
            nonlocal ended
            ended = ended or (message["type"] == "http.response.body" and not message.get("more_body"))
            await send(message)

        headers = [pair for pair in scope["headers"] if pair[0] != HEADER.encode()]
        scope = {**scope, "headers": [*headers, (HEADER.encode(), caller.encode())]}
        await self.app(scope, hears, sends)
