"""A conversation about documents: they are read into the cache once, and every question goes on from there."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from transformers import TextIteratorStreamer

from dca_hub.documents import Citation, Document, cite
from dca_hub.errors import DcaHubError, DoesNotFit, Fix
from dca_hub.generation import GREEDY, PromptCache, Sampling
from dca_hub.loading import Loaded
from dca_hub.prompts import STOP_STRINGS, Prompter, Turn, join


@dataclass(frozen=True)
class Reading:
    """Progress of reading the prompt into the cache: tokens done, of all that are to be read now."""

    done: int
    total: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        return self.done / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float:
        return (self.total - self.done) / self.tokens_per_second if self.done else float("inf")


@dataclass(frozen=True)
class Answering:
    """A further piece of the answer."""

    text: str


@dataclass(frozen=True)
class Stats:
    """What an answer took: tokens in the prompt, how many were read anew, seconds, tokens written."""

    prompt_tokens: int
    read_tokens: int
    read_seconds: float
    first_token_seconds: float
    answer_tokens: int
    answer_seconds: float

    @property
    def read_tokens_per_second(self) -> float:
        return self.read_tokens / self.read_seconds if self.read_seconds else 0.0

    @property
    def answer_tokens_per_second(self) -> float:
        return self.answer_tokens / self.answer_seconds if self.answer_seconds else 0.0


@dataclass(frozen=True)
class Answered:
    """The whole answer, the pages it rests on, and what it took."""

    text: str
    citations: tuple[Citation, ...]
    stats: Stats


Event = Reading | Answering | Answered


@dataclass
class Conversation:
    """Questions and answers about documents, over one cache.

    Args:
        loaded: the model.
        documents: what the questions are about; none is fine.
        dca: False asks the plain base model that shares the weights.
        max_context: the most tokens a prompt and its answer may take; by default what the model reaches with DCA.
    """

    loaded: Loaded
    documents: Sequence[Document]
    dca: bool = True
    max_context: int | None = None
    turns: list[Turn] = field(default_factory=list)

    def __post_init__(self):
        self.model = self._choose_model()
        self.prompter = Prompter(self.loaded.tokenizer)
        self._text = join(self.documents) if self.documents else ""
        self._forget()

    def _choose_model(self):
        return self.loaded.model if self.dca else self.loaded.base

    @property
    def document_tokens(self) -> int:
        """Tokens of the documents, as they stand in the prompt."""
        return self.prompter.count(self._text)

    @property
    def limit(self) -> int:
        """The most tokens that a prompt and its answer may take."""
        return self.max_context or self.loaded.context

    @property
    def cached_tokens(self) -> int:
        return len(self._cache.tokens)

    def ask(self, question: str, sampling: Sampling = GREEDY) -> Iterator[Event]:
        """Answers a question; the events are progress, pieces of the answer, and in the end all of it.

        Closing the iterator stops the work at the next piece; what was read stays in the cache.

        Raises:
            DcaHubError: the question is empty, or the prompt is longer than the model reaches.
        """
        if not question.strip():
            raise DcaHubError("The question is empty: ask something about the document.")
        tokens = self.prompter.tokens(self._text, [*self.turns, Turn(question.strip())])
        self._refuse_too_long(len(tokens), sampling.max_new_tokens)
        started = time.monotonic()
        read = self._cache.missing(tokens) + 1 if self._cache else len(tokens)
        yield from self._read(tokens)
        read_seconds, pieces, first = time.monotonic() - started, [], None
        try:
            for piece in self._generate(tokens, sampling):
                first = first if first is not None else time.monotonic() - started
                pieces.append(piece)
                yield Answering(piece)
        finally:  # a stopped answer stands in the conversation as far as it was shown
            text = _without_stop("".join(pieces))
            if text:
                self.turns.append(Turn(question.strip(), text))
        answer_seconds = time.monotonic() - started - read_seconds
        stats = Stats(len(tokens), read, read_seconds, first or read_seconds, self._written, answer_seconds)
        yield Answered(text, tuple(cite(text, self.documents, question)) if self.documents else (), stats)

    def undo(self) -> Turn | None:
        """Takes the last turn back; the cache of everything before it stays."""
        return self.turns.pop() if self.turns else None

    def clear(self) -> None:
        """Forgets the questions; the cached document stays."""
        self.turns.clear()

    def close(self) -> None:
        """Frees the cache."""
        self._forget()

    def _forget(self) -> None:
        self._cache, self._written = PromptCache(self.model), 0

    def _refuse_too_long(self, prompt: int, answer: int) -> None:
        if prompt + answer <= self.limit:
            return
        room = self.limit - answer - (prompt - self.document_tokens)
        why = "reaches with DCA" if self.limit == self.loaded.context else "may be given here"
        raise DcaHubError(
            f"The document and the question take {prompt:,} tokens and the answer up to {answer:,}, more than the "
            f"{self.limit:,} that {self.loaded.name} {why}; {_what_fits(self, room)}."
        )

    def _read(self, tokens: list[int]) -> Iterator[Reading]:
        """Reads all but the last token into the cache, in pieces that keep Stop within reach."""
        total, started = self._cache.missing(tokens), time.monotonic()
        try:
            for done in self._cache.read(tokens):
                yield Reading(done, total, time.monotonic() - started)
        except torch.OutOfMemoryError:
            raise DoesNotFit(
                f"Memory ran out while reading {total:,} tokens",
                "choose fewer pages",
                Fix("use {}", "quantization", "4bit"),
            ) from None

    def _generate(self, tokens: list[int], sampling: Sampling) -> Iterator[str]:
        """Streams the answer; the library generates in a thread, and closing this iterator ends it."""
        stop, failure = threading.Event(), []
        streamer = TextIteratorStreamer(self.loaded.tokenizer, skip_prompt=True, skip_special_tokens=True)
        options = {} if self.prompter.is_chat else {"stop_strings": STOP_STRINGS, "tokenizer": self.loaded.tokenizer}

        def work() -> None:
            try:
                written = self._cache.generate(
                    tokens, sampling, is_enough=lambda _: stop.is_set(), streamer=streamer, **options
                )
                self._written = len(written)
            except BaseException as error:
                failure.append(error)
                streamer.end()

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


def _without_stop(text: str) -> str:
    for stop in STOP_STRINGS:
        text = text.partition(stop)[0]
    return text.strip()


def _what_fits(conversation: Conversation, room: int) -> str:
    """Which pages would fit, in words that end a sentence."""
    if not conversation.documents:
        return "ask a shorter question"
    fitting, last = 0, None
    for page in conversation.documents[0].pages:
        fitting += conversation.prompter.count(page.text) + 8  # the page mark
        if fitting > room:
            break
        last = page.number
    first = conversation.documents[0].pages[0].number if conversation.documents[0].pages else None
    return f"pages {first}-{last} would fit" if last is not None else "not even one page would fit"
