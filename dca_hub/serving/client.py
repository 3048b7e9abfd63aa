"""A model behind an OpenAI-compatible server, in the place of one that is loaded here.

Prompts are written and counted here, with the model's own tokenizer, and sent as token ids: the server sees exactly
what a loaded model would. Where a server takes text alone, it gets the same text.
"""

import json
import os
import queue
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from transformers import PreTrainedTokenizerBase

from dca_hub import catalogue, json_lines, manifest, sources
from dca_hub.catalogue import Entry
from dca_hub.conversation import Conversation
from dca_hub.documents import Document
from dca_hub.errors import DcaHubError
from dca_hub.generation import GREEDY, Sampling
from dca_hub.memory import Architecture
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry
from dca_hub.pace import Pace
from dca_hub.prompts import STOP_STRINGS, Prompter
from dca_hub.reading import Ended, Reading
from dca_hub.sizes import geometry_of, reach_of
from dca_hub.sources import Source
from dca_hub.tokenization import load_tokenizer

_CONNECT_SECONDS = 10
_TICK = 0.3  # seconds between two looks at whether the person still waits
_END = object()
# Words, digits, spaces and a script of many bytes, which tokenizers of different models cut differently.
_PROBE = "Dual Chunk Attention reads 131,072 tokens:\n  über 70 Seiten, 注意力. Unbelievably long contexts?"


@dataclass(frozen=True)
class Endpoint:
    """`url` ends in /v1; `model` is what the server calls its model; `length` its longest request and `root` where it
    has the model from, if it says so."""

    url: str
    model: str
    length: int | None = None
    root: str | None = None

    def is_called(self, names: set[str]) -> bool:
        """Whether the server knows its model by one of some names, each the last part of one in lower case."""
        return any(_last(name) in names for name in (self.model, self.root) if name)

    def tokenize(self, text: str) -> list[int] | None:
        """The server's tokens of a text, without any that it adds itself; None from a server that tells none."""
        body = {"model": self.model, "prompt": text, "add_special_tokens": False}
        address = f"{self.url.removesuffix('/v1')}/tokenize"
        try:
            answer = httpx.post(address, json=body, headers=_headers(), timeout=_CONNECT_SECONDS)
            found = answer.json()["tokens"] if answer.status_code == 200 else None
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return None
        return found if isinstance(found, list) else None

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """A completion in one piece.

        Raises:
            Refused: the server refuses the request.
            DcaHubError: the connection breaks, or the answer is no completion.
        """
        timeout = httpx.Timeout(None, connect=_CONNECT_SECONDS)
        try:
            answer = httpx.post(
                f"{self.url}/completions", json={"model": self.model, **body}, headers=_headers(), timeout=timeout
            )
            if answer.status_code >= 400:
                raise Refused(answer.status_code, _reason(answer))
            return answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise self._broken(error) from None

    def _broken(self, error: object) -> DcaHubError:
        return DcaHubError(f"The connection to {self.url} broke: {error}; check that the server is still running.")

    def complete(self, body: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        """The chunks of a streamed completion. Closing the iterator hangs up, and the server stops.

        Raises:
            DcaHubError: the server refuses the request, an error ends its answer, or the connection breaks, which may
                look like an end: a whole answer says why it ended.
        """
        timeout = httpx.Timeout(None, connect=_CONNECT_SECONDS)
        request = {"model": self.model, "stream": True, **body}
        has_ended = False
        try:
            with httpx.stream(
                "POST", f"{self.url}/completions", json=request, headers=_headers(), timeout=timeout
            ) as answer:
                if answer.status_code >= 400:
                    raise Refused(answer.status_code, _reason(answer))
                for line in json_lines.lines_of(answer.iter_text()):
                    data = line.removeprefix("data:").strip()
                    if not line.startswith("data:"):
                        continue
                    if data == "[DONE]":
                        has_ended = True
                        continue
                    chunk = json.loads(data)
                    if "error" in chunk:
                        raise DcaHubError(f"The server ends its answer with an error: {_message(chunk['error'])}")
                    has_ended |= any(choice.get("finish_reason") for choice in chunk.get("choices", ()))
                    yield chunk
        except (httpx.HTTPError, ValueError, AttributeError, TypeError) as error:
            raise self._broken(error) from None
        if not has_ended:
            raise self._broken("the answer has no end")


class Refused(DcaHubError):
    """The server's own refusal of a request, with its HTTP status."""

    def __init__(self, status: int, reason: str):
        super().__init__(f"The server refuses the request ({status}): {reason}")
        self.status = status

    @property
    def may_want_text(self) -> bool:
        """Whether it may be the token ids of the prompt that are refused, as a server that takes text alone does."""
        return self.status in (400, 422)


@dataclass(frozen=True)
class Served:
    """What stands for a `loading.Loaded` where the model runs behind an endpoint: everything but the model itself."""

    name: str
    endpoint: Endpoint
    tokenizer: PreTrainedTokenizerBase
    source: Source
    geometry: DualChunkGeometry
    trained: int
    context: int
    pace: Pace
    cache_bytes_per_token: int = 0  # none of it is here
    note: str | None = None  # what a person should know of the server

    @property
    def entry(self) -> Entry | None:
        return self.source.entry

    @property
    def model(self):
        """Raises DcaHubError: there is none here."""
        raise DcaHubError("The model runs behind an endpoint: this needs one that is loaded here.")

    base = model

    @property
    def runs_on(self) -> str:
        """Where, in words for a stranger's screen."""
        return "a server, behind an endpoint"


def connect(name: str, url: str, revision: str | None = None) -> Served:
    """A model that a server has.

    Args:
        name: the same model by catalogue name, Hub id or folder, for its tokenizer and sizes; weights are not fetched.
        url: the server's address, with or without /v1.

    Raises:
        DcaHubError: there is no such model or no such server.
    """
    source = sources.resolve(name, weights=False, revision=revision)
    geometry = geometry_of(source).geometry
    endpoint, tokenizer = _find(url, _names(source)), load_tokenizer(source.folder)
    known = reach_of(source, geometry)
    return Served(
        source.entry.name if source.entry else source.folder.name,
        endpoint,
        tokenizer,
        source,
        geometry,
        geometry.pretraining_length,
        min(known, endpoint.length or known),
        Pace(Architecture.from_config(source.config)),
        note=_compare(source, endpoint, tokenizer),
    )


def _compare(source: Source, endpoint: Endpoint, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Whether the server has the model that is named: None, or in a sentence what speaks against it.

    Raises:
        DcaHubError: it has another one, whose tokens are other ones, or nothing tells.
    """
    same_name = endpoint.is_called(_names(source))
    ids = tokenizer.encode(_PROBE, add_special_tokens=False)
    theirs = endpoint.tokenize(_PROBE)
    if theirs is not None and theirs != ids:
        raise DcaHubError(
            f"The model that {endpoint.url} serves, {endpoint.model!r}, has other tokens than {_shown(source)!r}: name "
            "the model that it serves."
        )
    if same_name:
        return None
    if theirs is None:
        raise DcaHubError(
            f"The server at {endpoint.url} calls its model {endpoint.model!r} and gives no tokens to compare with "
            f"{_shown(source)!r}: name the model that it serves, or serve it under that name."
        )
    return f"the server calls its model {endpoint.model!r}; its tokens are those of {_shown(source)!r}"


def _names(source: Source) -> set[str]:
    """The last parts of all names that a server may know the model by, in lower case."""
    names = {source.folder.name, source.base, source.entry and source.entry.name, source.entry and source.entry.base}
    if (source.folder / manifest.NAME).is_file():
        names |= catalogue.names_of(manifest.read(source.folder).base)
    return {_last(name) for name in names if name}


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].lower()


def _shown(source: Source) -> str:
    return source.entry.name if source.entry else source.base or source.folder.name


def _find(url: str, names: set[str]) -> Endpoint:
    """The model that the server knows by one of the names, of those that it has, or else its first.

    Raises:
        DcaHubError: there is no such server, it lets nobody in, or it names no model.
    """
    url = url.rstrip("/")
    url = url if "://" in url else f"http://{url}"
    url = url if url.endswith("/v1") else f"{url}/v1"
    try:
        answer = httpx.get(f"{url}/models", headers=_headers(), timeout=_CONNECT_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unreachable(url, error) from None
    if answer.status_code in (401, 403):
        key = "another key than the variable OPENAI_API_KEY has" if _headers() else "a key: set OPENAI_API_KEY to it"
        raise DcaHubError(f"The server at {url} asks for {key}.")
    if answer.is_redirect:
        raise DcaHubError(f"{url} redirects to {answer.headers.get('location')}: give that address.")
    try:
        rows = answer.raise_for_status().json()["data"]
        found = [Endpoint(url, str(row["id"]), row.get("max_model_len"), row.get("root")) for row in rows]
        return next((one for one in found if one.is_called(names)), found[0])
    except httpx.HTTPError:
        raise DcaHubError(
            f"What answers at {url} is not an OpenAI server (status {answer.status_code} for /models): give the "
            "address of one, or check its log."
        ) from None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise DcaHubError(f"What answers at {url} names no model: give the address of an OpenAI server.") from None


def _unreachable(url: str, error: Exception) -> DcaHubError:
    said = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return DcaHubError(
            f"The certificate of {url} is not one that this machine trusts ({said}): set SSL_CERT_FILE to that of its "
            "authority."
        )
    if "SSL" in said:
        return DcaHubError(f"What answers at {url} does not speak https ({said}): give its address with http://.")
    if isinstance(error, httpx.TimeoutException):
        return DcaHubError(
            f"The server at {url} does not answer within {_CONNECT_SECONDS} s: check that it is still running."
        )
    return DcaHubError(f"There is no server at {url} ({said}): start one with `dca-hub serve`.")


def _headers() -> dict[str, str]:
    key = os.environ.get("OPENAI_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _reason(answer: httpx.Response) -> str:
    text = answer.read().decode("utf-8", errors="replace")
    try:
        said = json.loads(text)
        return _message(said.get("error", said.get("detail", text)))
    except (ValueError, AttributeError):
        return text[:300]


def _message(error: Any) -> str:
    return str(error.get("message", error) if isinstance(error, dict) else error)[:300]


class RemoteReader:
    """Reads and writes from afar; what it has read before, the server's own cache knows."""

    cached_tokens = 0

    def __init__(self, served: Served, is_chat: bool):
        self.served, self.is_chat = served, is_chat
        self.written: int = 0
        self.ended: Ended = "model"

    def missing(self, prompt: Sequence[int]) -> int:
        return len(prompt) - 1

    def holds(self, tokens: Sequence[int]) -> bool:
        """True: a server reads only what it answers, so there is nothing to read ahead."""
        return True

    def read(self, prompt: Sequence[int], sampling: Sampling = GREEDY) -> Iterator[Reading]:
        """Waits for the first token: by then the server has read everything."""
        started = time.monotonic()
        self._answer = _Answer(self.served, list(prompt), sampling, self.is_chat)
        try:
            while not self._answer.begun(_TICK):
                yield Reading(0, len(prompt), time.monotonic() - started)
        except BaseException:
            self._answer.stop()
            raise
        yield Reading(len(prompt), len(prompt), time.monotonic() - started)

    def write(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[str]:
        try:
            yield from self._answer
        finally:
            self._answer.stop()
            self.written = self._answer.tokens
            self.ended = "length" if self.written >= sampling.max_new_tokens else "model"

    def looked(self, spans: Sequence[tuple[int, int]], thoughts: int = 0) -> None:
        """A server does not say where its model looks."""

    def clear(self) -> None:
        """There is nothing here to free."""

    def fork(self) -> "RemoteReader":
        return RemoteReader(self.served, self.is_chat)


def converse(served: Served, documents: Sequence[Document], *, dca: bool = True, **options: Any) -> Conversation:
    """A conversation with a model behind an endpoint; takes what `Conversation` takes.

    Raises DcaHubError for the plain model, which the server does not have.
    """
    if not dca:
        raise DcaHubError("An endpoint serves its model with Dual Chunk Attention: it cannot be turned off from here.")
    is_chat = Prompter(served.tokenizer).is_chat
    return Conversation(served, documents, reader=RemoteReader(served, is_chat), **options)


class _Answer:
    """A completion that arrives in a thread of its own, so that a person who waits can stop waiting."""

    def __init__(self, served: Served, tokens: list[int], sampling: Sampling, is_chat: bool):
        self.served, self.tokens = served, 0
        self._pieces: queue.Queue = queue.Queue()
        self._stopped = threading.Event()
        self._first = None
        body = {
            "prompt": tokens,
            "max_tokens": sampling.max_new_tokens,
            "temperature": max(sampling.temperature, 0.0),
            "top_p": sampling.top_p,
        } | ({} if is_chat else {"stop": STOP_STRINGS})
        threading.Thread(target=self._receive, args=(body,), name="endpoint", daemon=True).start()

    def begun(self, seconds: float) -> bool:
        """Whether the first piece is here, after at most so many seconds. Raises what went wrong."""
        if self._first is None:
            try:
                self._first = self._pieces.get(timeout=seconds)
            except queue.Empty:
                return False
        if isinstance(self._first, BaseException):
            raise self._first
        return True

    def __iter__(self) -> Iterator[str]:
        piece: Any = self._first
        while piece is not _END:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
            piece = self._pieces.get()

    def stop(self) -> None:
        self._stopped.set()

    def _receive(self, body: dict[str, Any]) -> None:
        try:
            try:
                self._stream(body)
            except Refused as refused:
                if not refused.may_want_text or self.tokens:
                    raise
                self._stream(body | {"prompt": as_text(self.served.tokenizer, body["prompt"])})
            self._pieces.put(_END)
        except BaseException as error:
            self._pieces.put(error)

    def _stream(self, body: dict[str, Any]) -> None:
        chunks = self.served.endpoint.complete(body)
        try:
            for chunk in chunks:
                if self._stopped.is_set():
                    break
                for choice in chunk.get("choices", ()):
                    if choice.get("text"):
                        self.tokens += 1
                        self._pieces.put(choice["text"])
        finally:
            chunks.close()


def as_text(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> str:
    """The tokens as a text that a server's tokenizer makes the same tokens of; what it adds itself is left out."""
    added = tokenizer("")["input_ids"]
    if added and tokens[: len(added)] == added:
        tokens = tokens[len(added) :]
    return str(tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False))
