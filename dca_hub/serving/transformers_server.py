"""The OpenAI-compatible server that comes with transformers, over a DCA model, one request after another.

`transformers serve` loads a checkpoint by its native class name, which for a package is the plain model's; here its
model manager has a model that is loaded as everywhere in this package. Prompts are read in pieces, so that a client who
hangs up and Ctrl-C are heard, and what a prompt shares with the one before is not read again.
"""

import inspect
import threading
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from transformers import GenerationConfig

from dca_hub.generation import PromptCache, Sampling
from dca_hub.loading import Loaded

_SERVING = "transformers.cli.serving"
_GRACE_SECONDS = 5  # for requests that are being answered when the server is to stop
# The handlers that the server of one version or another takes, and the module and class of each.
_HANDLERS = {
    "chat_handler": ("chat_completion", "ChatCompletionHandler"),
    "completion_handler": ("completion", "CompletionHandler"),
    "response_handler": ("response", "ResponseHandler"),
    "transcription_handler": ("transcription", "TranscriptionHandler"),
    "systemone_handler": ("systemone", "SystemOneHandler"),
}


@dataclass(frozen=True)
class Offer:
    """What the server offers: a model, the name that clients call it by, and the most tokens of prompt and answer."""

    loaded: Loaded
    name: str
    context: int


def build_app(offer: Offer, stopping: threading.Event | None = None):
    """The FastAPI application of transformers that serves one loaded model; `stopping` ends what is being answered.

    Raises:
        ImportError: FastAPI, Uvicorn or openai is not installed.
    """
    build_server = import_module(f"{_SERVING}.server").build_server
    manager, state = _manager(offer), _generation(offer, stopping or threading.Event())
    shared = {"model_manager": manager, "generation_state": state}
    takes = inspect.signature(build_server).parameters
    handlers = {
        name: getattr(import_module(f"{_SERVING}.{module}"), cls)(**shared)
        for name, (module, cls) in _HANDLERS.items()
        if name in takes
    }
    app = build_server(manager, generation_state=state, **handlers)

    _say_errors_as_openai(app)

    @app.post("/tokenize")
    def tokenize(body: dict) -> dict:
        """As vLLM's server has it: a client sees whether it means the same model."""
        special = bool(body.get("add_special_tokens", True))
        tokens = offer.loaded.tokenizer.encode(str(body.get("prompt", "")), add_special_tokens=special)
        return {"count": len(tokens), "max_model_len": offer.context, "tokens": tokens}

    return app


def _say_errors_as_openai(app) -> None:
    """FastAPI says {"detail": ...}, of which OpenAI's clients show nothing."""
    from fastapi import HTTPException
    from fastapi.responses import JSONResponse

    @app.exception_handler(HTTPException)
    async def said(_request, error: HTTPException) -> JSONResponse:
        kind = "invalid_request_error" if error.status_code < 500 else "server_error"
        body = {"error": {"message": str(error.detail), "type": kind, "code": error.status_code}}
        return JSONResponse(body, status_code=error.status_code)


def run(offer: Offer, host: str, port: int) -> None:
    """Serves until Ctrl-C, which ends the request that is being answered too. Then raises KeyboardInterrupt."""
    import uvicorn

    stopping = threading.Event()
    config = uvicorn.Config(
        build_app(offer, stopping),
        host=host,
        port=port,
        log_level="info",
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )

    class Server(uvicorn.Server):
        def handle_exit(self, sig, frame):
            stopping.set()
            super().handle_exit(sig, frame)

    Server(config).run()


@dataclass(frozen=True)
class _AsAsked(Sampling):
    """How a request wants its answer drawn."""

    config: GenerationConfig | None = None

    def options(self) -> dict[str, Any]:
        return {"generation_config": self.config}


class _Reader:
    """Stands for the model where the server calls `generate`: the prompt is read in pieces first."""

    def __init__(self, loaded: Loaded, stopping: threading.Event):
        self.cache, self.stopping = PromptCache(loaded.model, loaded.cache_bits, loaded.offload_cache), stopping

    def generate(self, input_ids: torch.Tensor, generation_config, tokenizer=None, streamer=None, **_) -> torch.Tensor:
        """The tokens of prompt and answer, [1, T]."""
        prompt, nothing = input_ids[0].tolist(), input_ids[0, :0]
        for _ in self.cache.read(prompt):
            if self.stopping.is_set():
                raise RuntimeError("the server is being stopped.")
            if streamer is not None:
                streamer.put(nothing)  # raises when the client has hung up
        written = self.cache.generate(
            prompt,
            _AsAsked(config=generation_config),
            is_enough=lambda _: self.stopping.is_set(),
            streamer=None if streamer is None else _AfterPrompt(streamer, nothing),
            tokenizer=tokenizer,
        )
        return torch.tensor([[*prompt, *written]])


class _AfterPrompt:
    """The server's streamer, which takes what it is given first for the prompt; so it may have been given more."""

    def __init__(self, streamer, nothing: torch.Tensor):
        self.streamer, self.begun = streamer, False
        streamer.put(nothing)

    def put(self, value: torch.Tensor) -> None:
        if self.begun:
            self.streamer.put(value)
        self.begun = True

    def end(self) -> None:
        self.streamer.end()


def _generation(offer: Offer, stopping: threading.Event):
    """transformers' own state of generation, whose requests are checked, and read by `_Reader`."""
    utils = import_module(f"{_SERVING}.utils")
    reader = _Reader(offer.loaded, stopping)

    class Manager(utils.GenerateManager):
        def generate_streaming(self, model, processor, inputs, gen_config, *args, **kwargs):
            _fit(inputs, gen_config, offer)
            return super().generate_streaming(reader, processor, inputs, gen_config, *args, **kwargs)

        async def generate_non_streaming(self, model, processor, inputs, gen_config, *args, **kwargs):
            _fit(inputs, gen_config, offer)
            return await super().generate_non_streaming(reader, processor, inputs, gen_config, *args, **kwargs)

    class State(utils.GenerationState):
        one = Manager()

        def get_manager(self, model_id, use_cb=False):
            return self.one

    return State()


def _fit(inputs, config: GenerationConfig, offer: Offer) -> None:
    """Shortens the answer to what there is room for; refuses a prompt that leaves none."""
    from fastapi import HTTPException

    prompt = inputs["input_ids"].shape[-1]
    if prompt >= offer.context:
        raise HTTPException(
            status_code=400,
            detail=f"This model's maximum context length is {offer.context} tokens, and the prompt has {prompt}: "
            "shorten the prompt.",
        )
    config.max_new_tokens = min(config.max_new_tokens or offer.context, offer.context - prompt)


def _manager(offer: Offer):
    """transformers' own model manager, which has one model and never unloads it."""
    base = import_module(f"{_SERVING}.model_manager").ModelManager
    row = {
        "id": offer.name,
        "object": "model",
        "created": 0,
        "owned_by": "dca-hub",
        "root": offer.loaded.name,
        "max_model_len": offer.context,
    }

    class OneModel(base):
        def _load_processor(self, *args, **kwargs):
            return offer.loaded.tokenizer

        def _load_model(self, *args, **kwargs):
            return offer.loaded.model

        def list_models(self, *args, **kwargs):
            return [row]

        @staticmethod  # earlier versions list these
        def get_gen_models(*args, **kwargs):
            return [row]

    return OneModel(device=str(offer.loaded.device), force_model=offer.name)
