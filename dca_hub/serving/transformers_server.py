"""The OpenAI-compatible server that comes with transformers, over a DCA model.

`transformers serve` loads a checkpoint by its native class name, which for a package is the plain model's; here its
model manager loads as everything in this package does.
"""

import inspect
from importlib import import_module

from dca_hub.loading import Loaded

_SERVING = "transformers.cli.serving"
# The handlers that the server of one version or another takes, and the module and class of each.
_HANDLERS = {
    "chat_handler": ("chat_completion", "ChatCompletionHandler"),
    "completion_handler": ("completion", "CompletionHandler"),
    "response_handler": ("response", "ResponseHandler"),
    "transcription_handler": ("transcription", "TranscriptionHandler"),
    "systemone_handler": ("systemone", "SystemOneHandler"),
}


def build_app(loaded: Loaded):
    """The FastAPI application of transformers that serves one loaded model, whatever model a request names.

    Raises:
        ImportError: FastAPI, Uvicorn or openai is not installed.
    """
    build_server = import_module(f"{_SERVING}.server").build_server
    manager = _manager(loaded)
    state = import_module(f"{_SERVING}.utils").GenerationState()
    shared = {"model_manager": manager, "generation_state": state}
    takes = inspect.signature(build_server).parameters
    handlers = {
        name: getattr(import_module(f"{_SERVING}.{module}"), cls)(**shared)
        for name, (module, cls) in _HANDLERS.items()
        if name in takes
    }
    return build_server(manager, generation_state=state, **handlers)


def run(loaded: Loaded, host: str, port: int) -> None:
    """Serves until Ctrl-C."""
    import uvicorn

    uvicorn.run(build_app(loaded), host=host, port=port, log_level="info")


def _manager(loaded: Loaded):
    """transformers' own model manager, which has one model and never unloads it."""
    base = import_module(f"{_SERVING}.model_manager").ModelManager

    class OneModel(base):
        def _load_processor(self, *args, **kwargs):
            return loaded.tokenizer

        def _load_model(self, *args, **kwargs):
            return loaded.model

        @staticmethod  # earlier versions list what is in the Hub's cache instead
        def get_gen_models(*args, **kwargs):
            return [{"id": loaded.name, "object": "model", "max_model_len": loaded.context}]

    return OneModel(device=str(loaded.device), force_model=loaded.name)
