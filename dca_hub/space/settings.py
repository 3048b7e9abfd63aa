"""What the person who runs the Space may choose: options of app.py, and the same as environment variables."""

import argparse
import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from dca_hub import catalogue
from dca_hub.documents import Limits
from dca_hub.errors import DcaHubError
from dca_hub.schema import build

_AT_LEAST_ONE = (
    "max_pages", "max_file_mb", "max_documents", "max_answer", "max_cells", "max_sessions", "store_mb", "cache_mb",
    "idle_minutes", "queue",
)  # fmt: skip
_PUBLIC_RUN_TOKENS, _PUBLIC_MINUTES = 2_000_000, 10
PREFIX = "DCA_"
FILE = "settings.json"
_MB = 1 << 20  # as Gradio counts, which names the limit to whoever brings a larger file


def _option(default, help: str, metavar: str | None = None):
    return field(default=default, metadata={"help": help, "metavar": metavar})


@dataclass(frozen=True)
class Settings:
    """One field an option: `max_pages` is `--max-pages` and the variable `DCA_MAX_PAGES`."""

    model: str = _option("demo", "the model to start with: a catalogue name, a Hub id or a folder", "NAME_OR_DIR")
    gguf_file: str = _option("", "the GGUF file to load from that folder or repository", "NAME")
    models: str = _option(
        "", "what visitors may load, by catalogue name: a,b,c (default: all; on a Space: MODEL alone)"
    )
    endpoint: str = _option(
        "", "an OpenAI-compatible server that has MODEL (dca-hub serve); no model is loaded here then", "URL"
    )
    any_model: bool = _option(False, "let visitors load any Hub id or folder; never on a public Space")
    device: str = _option("", "cpu, cuda, cuda:1, mps or auto (default: the best there is)")
    dtype: str = _option(
        "", "float32, bfloat16 or float16 (default: the checkpoint's own; on a CPU the one that is fast there)"
    )
    quantization: str = _option("", "4bit or 8bit weights for the model to start with")
    cache_in_8bit: bool = _option(
        False, "keep what has been read in 8 bits: about half the memory for a text, at some loss of precision"
    )
    host: str = _option("127.0.0.1", "address to listen on; 0.0.0.0 is every network of this machine")
    port: int = _option(7860, "port to listen on; the next free one is taken if it is in use")
    share: bool = _option(False, "a temporary public address through Gradio's tunnel")
    mcp: bool = _option(False, "serve the API as tools for language models (MCP) too")
    max_pages: int = _option(1000, "most pages to read of one PDF")
    max_file_mb: int = _option(50, "size of one PDF, in MB")
    max_documents: int = _option(8, "PDFs in one conversation")
    max_context: int = _option(
        0, "tokens of context for one visitor (default: what the model reaches and memory allows)"
    )
    max_answer: int = _option(1024, "longest answer, in tokens")
    max_cells: int = _option(200, "prompts in one run of the needle lab")
    max_run_tokens: int = _option(
        0, "tokens that one run of the lab or the curve may read (default: 2,000,000 on a public Space, else unlimited)"
    )
    max_minutes: int = _option(
        0, "minutes of the model's work for one request (default: 10 on a public Space, else unlimited)"
    )
    max_sessions: int = _option(
        200, "visitors whose documents are kept at a time; beyond it, those of the longest idle one are deleted"
    )
    store_mb: int = _option(4096, "disk and memory for the documents of all visitors together, in MB")
    cache_mb: int = _option(4096, "memory for what has been read, of all visitors together, in MB")
    idle_minutes: int = _option(20, "minutes after which an unused session is forgotten")
    queue: int = _option(40, "visitors who may wait for the model; later ones are asked to come back")
    read_ahead: bool = _option(True, "read documents into the cache before the first question, while nobody waits")
    public: bool = _option(False, "for public use: only the configured models (set automatically on a Space)")

    def __post_init__(self):
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise DcaHubError(f"{_flag(name)} must be at least 1, not {getattr(self, name)}.")
        for name in ("max_context", "max_run_tokens", "max_minutes"):
            if getattr(self, name) < 0:
                raise DcaHubError(f"{_flag(name)} must be at least 0, not {getattr(self, name)}.")
        if self.quantization not in ("", "4bit", "8bit"):
            raise DcaHubError(f"--quantization must be 4bit or 8bit, not {self.quantization!r}.")
        if self.public and self.any_model:
            raise DcaHubError("--any-model cannot be used on a public Space: list the models with --models instead.")
        if self.mcp and importlib.util.find_spec("mcp") is None:
            raise DcaHubError("--mcp needs the package mcp, which is not installed: pip install 'gradio[mcp]'.")
        self.choices()

    @property
    def limits(self) -> Limits:
        """What one PDF may cost."""
        return Limits(pages=self.max_pages, file_bytes=self.max_file_mb * _MB)

    @property
    def limits_in_words(self) -> str:
        return f"{self.max_file_mb} MB and {self.max_pages:,} page{'s' * (self.max_pages != 1)}"

    @property
    def run_tokens(self) -> int | None:
        """Tokens that one run of an experiment may read; None is no bound."""
        return self.max_run_tokens or (_PUBLIC_RUN_TOKENS if self.public else None)

    @property
    def job_seconds(self) -> float | None:
        """Seconds that the model may work for one request; None is no bound."""
        return 60.0 * (self.max_minutes or (_PUBLIC_MINUTES if self.public else 0)) or None

    def choices(self) -> list[str]:
        """The models that a visitor may load, the first one first."""
        if self.endpoint:
            names = []  # the server has one model
        elif self.models:
            names = [catalogue.find(name).name for name in self.models.split(",") if name.strip()]
        else:
            names = [] if self.public else [entry.name for entry in catalogue.entries()]
        entry = catalogue.get(self.model)
        return list(dict.fromkeys([entry.name if entry else self.model, *names]))


def read(
    argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ, file: Path | None = None
) -> Settings:
    """Options win over variables, variables over a file of settings (JSON), and that over defaults.

    Raises DcaHubError for an invalid value. `--help` and unknown options end the process, as argparse does.
    """
    given = {key: value for key, value in vars(_parser().parse_args(argv)).items() if value is not None}
    values = {"public": True, "host": "0.0.0.0"} if environ.get("SPACE_ID") else {}
    values |= _from_file(file) if file is not None and file.is_file() else {}
    values |= {f.name: _value(f, environ[name]) for f in fields(Settings) if (name := _variable(f.name)) in environ}
    return Settings(**(values | given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="app.py",
        description="Chat with PDFs far beyond a model's trained length, test its memory, and see how it works.",
        epilog=f"Every option is an environment variable too: --max-pages is {_variable('max_pages')}.",
    )
    for f in fields(Settings):
        kind = {"action": argparse.BooleanOptionalAction} if f.type is bool else {"type": f.type}
        metavar = {} if f.type is bool else {"metavar": f.metadata["metavar"] or ("N" if f.type is int else "TEXT")}
        shown = "" if f.type is bool or not f.default or "default" in f.metadata["help"] else f" (default: {f.default})"
        parser.add_argument(_flag(f.name), default=None, help=f.metadata["help"] + shown, **kind, **metavar)
    return parser


def _from_file(file: Path) -> dict:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise DcaHubError(f"{file.name} is not JSON: write it again with `dca-hub space`.") from None
    made = build(Settings, values, file.name, fix="see `python app.py --help`, or write it again with `dca-hub space`")
    return {name: getattr(made, name) for name in values}


def _value(f, text: str):
    if f.type is bool:
        if text.strip().lower() not in ("1", "0", "true", "false", "yes", "no", "on", "off", ""):
            raise DcaHubError(f"{_variable(f.name)} must be yes or no, not {text!r}.")
        return text.strip().lower() in ("1", "true", "yes", "on")
    try:
        return f.type(text.strip()) if text.strip() or f.type is str else f.default
    except ValueError:
        raise DcaHubError(f"{_variable(f.name)} must be a whole number, not {text!r}.") from None


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _variable(name: str) -> str:
    return PREFIX + name.upper()
