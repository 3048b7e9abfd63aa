"""A small server of the OpenAI protocol for tests: it answers what it is told, and remembers what it was asked."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class OpenAIServer(ThreadingHTTPServer):
    """`answer` is streamed word by word; `takes_ids` is False for a server that takes text alone. It calls its
    model `model`, and where it has a `tokenizer`, tokenizes with it as vLLM's does. `choice` makes the one choice of an
    answer that is not streamed, out of the request. `breaks` says how a stream ends after its words: well (None), with
    an "error", or "off". `others` are models that it has besides and names first; with a
    `key` it lets nobody in without."""

    daemon_threads = True

    def __init__(
        self,
        answer: str,
        *,
        takes_ids: bool = True,
        delay: float = 0.0,
        length: int | None = None,
        model: str = "demo",
        tokenizer=None,
        choice=None,
        breaks: str | None = None,
        others: tuple[str, ...] = (),
        key: str | None = None,
    ):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.takes_ids, self.delay, self.length = answer, takes_ids, delay, length
        self.model, self.tokenizer = model, tokenizer
        self.choice, self.breaks = choice, breaks
        self.others, self.key = others, key
        self.asked: list[dict] = []
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            return self._send(401, {"error": "Unauthorized"})
        names = [*self.server.others, self.server.model]
        rows = [{"id": name, "object": "model", "max_model_len": self.server.length} for name in names]
        self._send(200, {"data": rows})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize":
            return self._tokenize(body)
        self.server.asked.append(body)
        if not self.server.takes_ids and not isinstance(body["prompt"], str):
            return self._send(400, {"detail": "prompt must be a string."})
        if not body.get("stream"):
            return self._send(200, {"choices": [self.server.choice(body)]})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for word in self.server.answer.split(" "):
                time.sleep(self.server.delay)
                self._event({"choices": [{"text": f" {word}"}]})
                self.server.sent += 1
            if self.server.breaks == "error":
                self._event({"error": {"message": "the engine has died", "code": 500}})
            elif self.server.breaks is None:
                self.wfile.write(b"data: [DONE]\n\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client has hung up

    def _tokenize(self, body: dict) -> None:
        if self.server.tokenizer is None:
            return self._send(404, {"detail": "Not Found"})
        tokens = self.server.tokenizer.encode(body["prompt"], add_special_tokens=body["add_special_tokens"])
        self._send(200, {"tokens": tokens})

    def _event(self, value: dict) -> None:
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
        self.wfile.flush()

    def _send(self, status: int, value: dict) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@contextmanager
def serving(answer: str, **options):
    server = OpenAIServer(answer, **options)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def listening(app):
    """The address of an ASGI application, served by Uvicorn in a thread."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
        assert thread.is_alive()
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
