"""What reads a prompt and writes the answer: a model that is loaded here, or one behind an endpoint."""

import copy
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from transformers import TextIteratorStreamer

from dca_hub.errors import DoesNotFit, Fix
from dca_hub.generation import GREEDY, PromptCache, Sampling, end_tokens
from dca_hub.loading import Loaded
from dca_hub.page_attention import AttentionWatch, Span
from dca_hub.prompts import STOP_STRINGS

_REPEATS, _REPEATED, _LONGEST_RUN = 4, 24, 64
Ended = Literal["model", "length", "repetition"]


@dataclass(frozen=True)
class Reading:
    """Progress of reading the prompt into the cache: tokens done, of all that are to be read now, and the seconds that
    took; `left` is how many more it will take, where that is estimated."""

    done: int
    total: int
    seconds: float
    left: float | None = None

    @property
    def tokens_per_second(self) -> float:
        return self.done / self.seconds if self.seconds else 0.0


class Reader(Protocol):
    """`written` counts the tokens of the last answer, and `ended` says what ended it: the model, the answer's length,
    or that it began to repeat itself. `cached_tokens` is what it holds of the last prompt."""

    written: int
    ended: Ended

    @property
    def cached_tokens(self) -> int: ...

    def missing(self, prompt: Sequence[int]) -> int:
        """Tokens of a prompt that `read` would read."""
        ...

    def holds(self, tokens: Sequence[int]) -> bool:
        """Whether these tokens need not be read before a prompt that begins with them."""
        ...

    def read(self, prompt: Sequence[int], sampling: Sampling = GREEDY) -> Iterator[Reading]:
        """Reads a prompt that is to be answered. Closing the iterator stops the work at the next piece."""
        ...

    def write(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[str]:
        """The answer to the prompt that was read, in pieces. Closing the iterator stops the work."""
        ...

    def looked(self, spans: Sequence[Span], thoughts: int = 0) -> list[float] | None:
        """See `LocalReader.looked`; None for a model that is not here."""

    def clear(self) -> None:
        """Frees what it holds."""
        ...

    def fork(self) -> "Reader":
        """Another reader that begins with what this one has read."""
        ...


class LocalReader:
    """Reads with a model that is loaded here; what it has read stays in its cache.

    is_chat: whether the model's format ends answers by itself; a plain prompt's answer ends before the next question.
    watched: whether to note where a DCA model looks while it writes; not with a cache that is offloaded, whose keys
        that would hold on the device.
    """

    def __init__(self, loaded: Loaded, dca: bool, is_chat: bool, watched: bool = False):
        self.model = loaded.model if dca else loaded.base
        self.watched = watched and loaded.geometry is not None and dca and not loaded.offload_cache
        self.watch: AttentionWatch | None = None
        self.tokenizer, self.is_chat = loaded.tokenizer, is_chat
        self.pace, self.sparse = loaded.pace, loaded.sparse if dca else None
        self.cache = PromptCache(self.model, loaded.cache_bits, loaded.offload_cache)
        self.written: int = 0
        self.ended: Ended = "model"

    @property
    def cached_tokens(self) -> int:
        return len(self.cache.tokens)

    def missing(self, prompt: Sequence[int]) -> int:
        return self.cache.missing(prompt)

    def holds(self, tokens: Sequence[int]) -> bool:
        """Whether the cache begins with these tokens."""
        return self.cache.tokens[: len(tokens)] == list(tokens)

    def read(self, prompt: Sequence[int], sampling: Sampling = GREEDY) -> Iterator[Reading]:
        """As `Reader.read`; each piece is timed, without what goes on between two of them."""
        end, done = len(prompt) - 1, 0
        started = begun = time.monotonic()
        try:
            for now_done in self.cache.read(prompt):
                ended, at = time.monotonic(), self.cached_tokens
                self.pace.learn(at - now_done + done, at, ended - begun, self.sparse)
                done, left = now_done, self.pace.seconds(at, end, self.sparse)
                yield Reading(done, done + end - at, ended - started, left)
                begun = time.monotonic()
        except torch.OutOfMemoryError:
            raise DoesNotFit(
                f"Memory ran out while reading {len(prompt):,} tokens",
                "choose fewer pages",
                Fix("use {}", "quantization", "4bit"),
            ) from None

    def write(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[str]:
        """The library generates in a thread, and closing this iterator ends it."""
        stop, failure = threading.Event(), []
        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        options = {} if self.is_chat else {"stop_strings": STOP_STRINGS, "tokenizer": self.tokenizer}

        def is_enough(written: list[int]) -> bool:
            if sampling.stop_repeats and repeats(written):
                self.ended = "repetition"
            return stop.is_set() or self.ended == "repetition"

        self.watch = AttentionWatch(self.model) if self.watched else None

        def work() -> None:
            try:
                with self.watch or nullcontext():
                    written = self.cache.generate(prompt, sampling, is_enough=is_enough, streamer=streamer, **options)
                self.written = len(written)
                if self.ended == "model" and len(written) >= sampling.max_new_tokens:
                    self.ended = "model" if written[-1] in end_tokens(self.model) else "length"
            except BaseException as error:
                failure.append(error)
                streamer.end()

        self.ended = "model"
        worker = threading.Thread(target=work, name="generate", daemon=True)
        worker.start()
        try:
            for piece in streamer:
                if piece:
                    yield piece
        finally:
            stop.set()
            worker.join()
        if failure:
            raise failure[0]

    def looked(self, spans: Sequence[Span], thoughts: int = 0) -> list[float] | None:
        """The share of the attention of the last answer's words that each span of the prompt's tokens got, and what was
        noted for it is let go; None where nothing was. `thoughts` tokens stand before the answer."""
        watch, self.watch = self.watch, None
        return watch.shares(spans, thoughts) if watch is not None else None

    def clear(self) -> None:
        self.watch = None
        self.cache.clear()

    def fork(self) -> "LocalReader":
        """Another reader that begins with what this one has read. Both share the memory of it until they go on."""
        other = copy.copy(self)
        other.cache, other.watch = self.cache.fork(), None
        return other


def repeats(written: Sequence[int]) -> bool:
    """Whether the end of an answer is one run of tokens, `_REPEATS` times or more and `_REPEATED` tokens in all."""
    tail = list(written[-_LONGEST_RUN * _REPEATS :])
    for run in range(1, len(tail) // _REPEATS + 1):
        times = max(_REPEATS, -(-_REPEATED // run))
        if run * times <= len(tail) and tail[-run * times :] == tail[-run:] * times:
            return True
    return False
