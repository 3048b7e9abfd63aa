"""A conversation about documents: they are read into the cache once, and every question goes on from there."""

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn, Protocol, cast

from transformers import PreTrainedTokenizerBase

from dca_hub import thoughts
from dca_hub.documents import Citation, Document, cite
from dca_hub.errors import DcaHubError
from dca_hub.generation import GREEDY, Sampling
from dca_hub.loading import Loaded
from dca_hub.prompts import STOP_STRINGS, PageKey, Prompter, Turn, join
from dca_hub.reading import Ended, LocalReader, Reader, Reading

_LEAST_ANSWER = 16  # tokens: where there is room for fewer, a question is refused rather than cut short
_PROBES = ("a", "What is it?")  # two questions, to see what a prompt has before any question


@dataclass(frozen=True)
class Answering:
    """A further piece of the answer."""

    text: str


@dataclass(frozen=True)
class Stats:
    """What an answer took: tokens in the prompt, how many were read anew, seconds, tokens written; what ended it."""

    prompt_tokens: int
    read_tokens: int
    read_seconds: float
    first_token_seconds: float
    answer_tokens: int
    answer_seconds: float
    ended: Ended = "model"

    @property
    def read_tokens_per_second(self) -> float:
        return self.read_tokens / self.read_seconds if self.read_seconds else 0.0

    @property
    def answer_tokens_per_second(self) -> float:
        return self.answer_tokens / self.answer_seconds if self.answer_seconds else 0.0


@dataclass(frozen=True)
class Look:
    """How much of a model's attention a page got while an answer was written: `share` of all of it, 0 to 1. source: the
    document's index among those given."""

    source: int
    page: int
    share: float


@dataclass(frozen=True)
class Answered:
    """The whole answer, the pages it rests on, what it took, the thoughts of a reasoning model before it, and where the
    model looked, if that was asked for."""

    text: str
    citations: tuple[Citation, ...]
    stats: Stats
    thoughts: str = ""
    looks: tuple[Look, ...] = ()


Event = Reading | Answering | Answered


class ModelInfo(Protocol):
    """What a conversation must know of its model: a `Loaded`, or what stands for one behind an endpoint."""

    @property
    def name(self) -> str: ...
    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...
    @property
    def context(self) -> int: ...
    @property
    def runs_on(self) -> str: ...


@dataclass
class Conversation:
    """Questions and answers about documents, read once.

    Args:
        loaded: the model: a `Loaded`, or with a `reader` of its own whatever knows what a `ModelInfo` does.
        documents: what the questions are about; none is fine.
        dca: False asks the plain base model that shares the weights.
        max_context: the most tokens a prompt and its answer may take; by default what the model reaches with DCA.
        reader: what reads and writes; by default the loaded model.
        watched: whether each answer says which pages the model looked at while it wrote: a model that is loaded here,
            with DCA. Writing is not slowed down; looking back takes a second or two at most.
    """

    loaded: ModelInfo
    documents: Sequence[Document]
    dca: bool = True
    max_context: int | None = None
    turns: list[Turn] = field(default_factory=list)
    reader: Reader = None  # type: ignore[assignment] # __post_init__ sets it
    watched: bool = False

    def __post_init__(self):
        self.prompter = Prompter(self.loaded.tokenizer)
        self.reader = self.reader or LocalReader(
            cast(Loaded, self.loaded), self.dca, self.prompter.is_chat, self.watched
        )
        self.change_documents(self.documents)

    def change_documents(self, documents: Sequence[Document]) -> None:
        """Asks about other documents from now on; of what was read, the next prompt keeps what it has in common."""
        self.documents = documents
        self._text = join(documents) if documents else ""
        self._spans: dict[PageKey, tuple[int, int]] | None = None  # of the pages, once they are needed
        self.has_read_documents = False

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
        return self.reader.cached_tokens

    def ask(self, question: str, sampling: Sampling = GREEDY, *, begun: str = "") -> Iterator[Event]:
        """Answers a question; the events are progress, pieces of the answer, and in the end all of it.

        begun: an answer that goes on. An answer for which there is less room than `sampling` asks for may only be that
        long.

        Closing the iterator stops the work at the next piece; what was read stays in the cache.

        Raises:
            DcaHubError: the question is empty, or the prompt is longer than the model reaches.
        """
        if not question.strip():
            raise DcaHubError("The question is empty: ask something about the document.")
        tokens = self.prompter.tokens(self._text, [*self.turns, Turn(question.strip())])
        if begun:
            tokens = [*tokens, *self.prompter.continued(begun)]
        elif self.prompter.thinks:
            sampling = replace(sampling, max_new_tokens=sampling.max_new_tokens + thoughts.ROOM)
        sampling = self._within_room(len(tokens), sampling)
        started, read = time.monotonic(), self.reader.missing(tokens) + 1
        yield from self.reader.read(tokens, sampling)
        read_seconds, pieces, first = time.monotonic() - started, [], None
        try:
            for piece in self.reader.write(tokens, sampling):
                first = first if first is not None else time.monotonic() - started
                pieces.append(piece)
                yield Answering(piece)
        finally:  # a stopped answer stands in the conversation as far as it was shown
            said = thoughts.separate(begun + "".join(pieces), self.prompter.opens_thoughts and not begun)
            text = _without_stop(said.answer)
            if text:
                self.turns.append(Turn(question.strip(), text))
        answer_seconds = time.monotonic() - started - read_seconds
        wrote = (self.reader.written, answer_seconds, self.reader.ended)
        stats = Stats(len(tokens), read, read_seconds, first or read_seconds, *wrote)
        cited = tuple(cite(text, self.documents, question)) if self.documents else ()
        yield Answered(text, cited, stats, said.thoughts, self._looks(text, said.thoughts))

    def _looks(self, answer: str, thought: str) -> tuple[Look, ...]:
        """Where the model looked while it wrote its answer, the turn that was put last."""
        if not (self.watched and self.documents and answer):
            return ()
        if self._spans is None:
            self._spans = self.prompter.page_spans(self.documents, [Turn(turn.question) for turn in self.turns[:1]])
        spans = self._spans
        before = max(0, self.reader.written - self.prompter.count(answer) - 1) if thought else 0
        shares = self.reader.looked(list(spans.values()), before)
        return tuple(Look(*page, share) for page, share in zip(spans, shares)) if shares else ()

    def undo(self) -> Turn | None:
        """Takes the last turn back; the cache of everything before it stays."""
        return self.turns.pop() if self.turns else None

    def clear(self) -> None:
        """Forgets the questions; the cached document stays."""
        self.turns.clear()

    def close(self) -> None:
        """Frees what was read."""
        self.reader.clear()
        self.has_read_documents = False

    def read_documents(self) -> Iterator[Reading]:
        """Reads what a prompt has before any question, so that a question only adds itself.

        Closing the iterator stops the work at the next piece; what was read stays.

        Raises DcaHubError when the documents are longer than the model reaches.
        """
        before = self._before_questions()
        self._within_room(len(before), Sampling(_LEAST_ANSWER))
        if not self.reader.holds(before):
            yield from self.reader.read([*before, -1])  # all but the last token, which is none of the documents'
        self.has_read_documents = True

    def fork(self) -> "Conversation":
        """Another conversation about the same documents, without turns, that begins with what this one has read."""
        other = copy.copy(self)
        other.turns, other.reader = [], self.reader.fork()
        return other

    def _before_questions(self) -> list[int]:
        one, two = (self.prompter.tokens(self._text, [Turn(question)]) for question in _PROBES)
        return one[: next((at for at, (a, b) in enumerate(zip(one, two)) if a != b), min(len(one), len(two)))]

    def _within_room(self, prompt: int, sampling: Sampling) -> Sampling:
        """The sampling with an answer that the prompt leaves room for."""
        room, least = self.limit - prompt, min(_LEAST_ANSWER, sampling.max_new_tokens)
        if room < least:
            self._refuse_too_long(prompt, least)
        return replace(sampling, max_new_tokens=min(room, sampling.max_new_tokens))

    def _refuse_too_long(self, prompt: int, answer: int) -> NoReturn:
        room = self.limit - answer - (prompt - self.document_tokens)
        why = "reaches with DCA" if self.limit == self.loaded.context else "may be given here"
        raise DcaHubError(
            f"The document and the question take {prompt:,} tokens and the answer at least {answer:,}, more than the "
            f"{self.limit:,} that {self.loaded.name} {why}; {_what_fits(self, room)}."
        )


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
