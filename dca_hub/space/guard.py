"""What Gradio serves to everybody and this program does not need: refused, so that it cannot be misused."""

from starlette.types import ASGIApp, Receive, Scope, Send

# Runs ffmpeg over what a visitor sends; fetches from other hosts; shows and resets profiles; edits the program.
_REFUSED = ("process_recording", "proxy=", "profiling", "monitoring", "vibe", "undo-vibe", "deep_link")


class Guard:
    """ASGI middleware that answers 404 for those paths."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix("/gradio_api").lstrip("/")
        if scope["type"] == "http" and path.startswith(_REFUSED):
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
        await self.app(scope, receive, send)
