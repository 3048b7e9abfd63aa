"""A conversation about documents: they are read into the cache once, and every question goes on from there."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from transformers import DynamicCache, StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

from dca_hub.caches import with_cache
from dca_hub.documents import Citation, Document, cite
from dca_hub.errors import DcaHubError
from dca_hub.loading import Loaded
from dca_hub.prompts import STOP_STRINGS, Prompter, Turn, join

_FIRST_PIECE, _LEAST_PIECE, _MOST_PIECE = 256, 64, 8192  # tokens
_PIECE_SECONDS = 0.4  # so that Stop is heard at once


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


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn: greedily by default, else at a temperature, from the `top_p` share of likely tokens."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0

    def options(self) -> dict:
        if self.temperature <= 0:
            return {
                "max_new_tokens": self.max_new_tokens,
                "do_sample": False,
                "temperature": None,
                "top_p": None,
                "top_k": None,
            }
        return {
            "max_new_tokens": self.max_new_tokens,
            "do_sample": True,
            "temperature": self.temperature,
            "top_p": self.top_p,
        }


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
        return len(self._cached)

    def ask(self, question: str, sampling: Sampling = Sampling()) -> Iterator[Event]:
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
        read = len(tokens) - self._keep_common(tokens)
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
        self._cache, self._cached, self._written = DynamicCache(config=self.model.config), [], 0

    def _refuse_too_long(self, prompt: int, answer: int) -> None:
        if prompt + answer <= self.limit:
            return
        room = self.limit - answer - (prompt - self.document_tokens)
        why = "reaches with DCA" if self.limit == self.loaded.context else "may be given here"
        raise DcaHubError(
            f"The document and the question take {prompt:,} tokens and the answer up to {answer:,}, more than the "
            f"{self.limit:,} that {self.loaded.name} {why}; {_what_fits(self, room)}."
        )

    def _keep_common(self, tokens: list[int]) -> int:
        """Cuts the cache back to what it shares with the prompt, at most all but its last token; gives that length."""
        common = 0
        for cached, wanted in zip(self._cached, tokens[:-1]):
            if cached != wanted:
                break
            common += 1
        if common < len(self._cached):
            self._cache.crop(common - len(self._cached))
            self._cached = self._cached[:common]
        return common

    def _read(self, tokens: list[int]) -> Iterator[Reading]:
        """Reads all but the last token into the cache, in pieces that keep Stop within reach."""
        begin, end = len(self._cached), len(tokens) - 1
        started, size = time.monotonic(), _FIRST_PIECE
        while (at := len(self._cached)) < end:
            piece, before = tokens[at : min(at + size, end)], time.monotonic()
            self._forward(piece)
            took = time.monotonic() - before
            size = int(min(max(size * min(2.0, _PIECE_SECONDS / max(took, 1e-6)), _LEAST_PIECE), _MOST_PIECE))
            yield Reading(len(self._cached) - begin, end - begin, time.monotonic() - started)

    def _forward(self, piece: list[int]) -> None:
        try:
            with torch.inference_mode():
                ids = torch.tensor([piece], device=self.loaded.device)
                self.model(input_ids=ids, **with_cache(self.model, self._cache), use_cache=True, logits_to_keep=1)
        except torch.OutOfMemoryError:
            self._forget()
            raise DcaHubError(
                f"Memory ran out after {len(self._cached):,} tokens: choose fewer pages, or --load-in-4bit."
            ) from None
        except BaseException:
            self._forget()  # an interrupted call may have reached some layers only
            raise
        self._cached.extend(piece)

    def _generate(self, tokens: list[int], sampling: Sampling) -> Iterator[str]:
        """Streams the answer; the library generates in a thread, and closing this iterator ends it."""
        stop, failure = threading.Event(), []
        streamer = TextIteratorStreamer(self.loaded.tokenizer, skip_prompt=True, skip_special_tokens=True)
        ids = torch.tensor([tokens], device=self.loaded.device)
        options = sampling.options()
        if not self.prompter.is_chat:
            options.update(stop_strings=STOP_STRINGS, tokenizer=self.loaded.tokenizer)

        def work() -> None:
            try:
                with torch.inference_mode():
                    out = self.model.generate(
                        input_ids=ids,
                        attention_mask=torch.ones_like(ids),
                        **with_cache(self.model, self._cache),
                        streamer=streamer,
                        stopping_criteria=StoppingCriteriaList([_StopWhen(stop)]),
                        pad_token_id=self._pad_token(),
                        **options,
                    )
                sequence = out[0].tolist()
                self._written = len(sequence) - len(tokens)
                self._cached = sequence[: self._cache.get_seq_length()]
            except BaseException as error:
                self._forget()
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

    def _pad_token(self) -> int | None:
        tokenizer = self.loaded.tokenizer
        return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id


def _without_stop(text: str) -> str:
    for stop in STOP_STRINGS:
        text = text.partition(stop)[0]
    return text.strip()


class _StopWhen(StoppingCriteria):
    def __init__(self, event: threading.Event):
        self.event = event

    def __call__(self, input_ids, scores, **kwargs):
        return torch.full((input_ids.shape[0],), self.event.is_set(), device=input_ids.device)


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
