"""Answering a question in a session: the work that the lane does, and what it changes on the screen."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from dca_hub import prompts
from dca_hub.conversation import Answered, Conversation, Event, Reading, Sampling
from dca_hub.documents import Document
from dca_hub.errors import DcaHubError
from dca_hub.space import zero
from dca_hub.space.example import Example
from dca_hub.space.failures import sentence
from dca_hub.space.host import Host
from dca_hub.space.lane import Job, Lane, Rank, Tell, Waiting
from dca_hub.space.sessions import Session, Sessions
from dca_hub.space.turns import SIDES, Answer, Mode, Side, Turn, Way, history

LONGEST_QUESTION = 20_000  # characters
LEAST_ANSWER = 16  # tokens for which there must be room
_QUESTION_ROOM = 512  # tokens of a question and the format around it
_TICK = 0.5  # seconds


@dataclass(frozen=True)
class Ask:
    """Everything that answering once needs, as plain data: on ZeroGPU it travels to another process."""

    documents: Sequence[Document]
    past: Sequence[prompts.Turn]
    question: str
    sampling: Sampling
    way: Way
    limit: int
    tokens: int
    begun: str = ""


class Answers:
    """Answers questions, one after another, with the model that the host holds."""

    def __init__(self, host: Host, lane: Lane, sessions: Sessions, example: Example):
        self.host, self.lane, self.sessions, self.example = host, lane, sessions, example
        self._shared: tuple[int, Conversation] | None = None  # the example's, with the generation of its model
        self._on_gpu = zero.gpu(lambda ask: zero.seconds(ask.tokens, ask.sampling.max_new_tokens))(self._fresh)

    # Questions

    def ask(self, session: Session, turn: Turn, sampling: Sampling) -> Iterator[None]:
        """Answers a turn of the session, once its documents are read; yields whenever there is more to show, and every
        second at the latest. Closing the iterator stops it."""
        try:
            yield from self._until_read(session, turn)
            if turn.finished:  # stopped before
                return
            job = session.job = self.lane.submit(
                lambda tell: self._work(session, turn, sampling, tell),
                expected=self._expected(session, turn, sampling),
                most=self.host.settings.job_seconds,
            )
            for event in job.events():
                turn.waiting = event if isinstance(event, Waiting) else None
                yield
        except Exception as error:
            turn.fail(sentence(error))
        finally:
            turn.stop()
            session.used = max(session.used, time.monotonic())

    def _until_read(self, session: Session, turn: Turn) -> Iterator[None]:
        while session.reading and not turn.finished:
            turn.note = "Waiting for your document to be read"
            yield
            time.sleep(_TICK)
        turn.note = ""

    def way(self, session: Session, side: Side = "dca") -> Way:
        """How a session's documents are read."""
        if side == "plain":
            return "plain"
        return "sparse" if session.sparse and self.offers_sparse(session) else "exact"

    def offers_sparse(self, session: Session) -> bool:
        """Whether the visitor may choose to have these documents read sparsely."""
        return self.host.ready and self.host.why_not_sparse(session.document_tokens) is None

    def reading_seconds(self, session: Session, way: Way) -> float | None:
        """How long reading the session's documents will take, but for what is in the cache; None while not known."""
        conversation, tokens = session.conversations.get(way), session.document_tokens
        has_them = conversation is not None and list(conversation.documents) == session.documents
        begin = min(conversation.cached_tokens, tokens) if has_them else 0
        return self.host.reading_seconds(begin, tokens, way == "sparse")

    def _expected(self, session: Session, turn: Turn, sampling: Sampling) -> float | None:
        sides = SIDES[turn.mode]
        taken = [self.reading_seconds(session, self.way(session, side)) for side in sides]
        taken += [self.host.writing_seconds(sampling.max_new_tokens)] * len(sides)
        return None if None in taken else sum(taken)

    def _work(self, session: Session, turn: Turn, sampling: Sampling, tell: Tell) -> None:
        self._end_reading_ahead(session)
        sides = SIDES[turn.mode]
        if session.generation != self.host.generation:
            session.forget_caches()
            session.generation = self.host.generation
        documents, tokens = session.documents, session.document_tokens
        limit = self._limit(session, len(sides), tokens)
        needed = min(tokens + sampling.max_new_tokens + _QUESTION_ROOM, limit) * len(sides)
        self.sessions.make_room(needed * self.host.loaded.cache_bytes_per_token, session)
        ways = {side: self.way(session, side) for side in sides}
        self._keep(session, *ways.values())
        for side, way in ways.items():
            past = history(session.turns, side, until=turn)
            answer = turn.answers[side]
            answer.sparse = way == "sparse"
            ask = Ask(documents, past, turn.question, sampling, way, limit, tokens, answer.begun)
            self._side(session, answer, ask, tell)
            tell(None)

    def _keep(self, session: Session, *ways: Way) -> None:
        """One cache of DCA is kept at a time: what was read one way is no beginning for another way."""
        if "sparse" in ways:
            session.conversations.pop("exact", None)
        elif "exact" in ways:
            session.conversations.pop("sparse", None)

    def _limit(self, session: Session, copies: int, tokens: int) -> int:
        """Tokens for a prompt and its answer. Raises DcaHubError where one copy fits and two do not."""
        held, wanted = session.cache_bytes(), tokens + LEAST_ANSWER
        limit = self.host.limit(held, copies)
        if limit < wanted <= self.host.limit(held):
            raise DcaHubError(
                f"Side by side keeps the document twice, for which {wanted:,} tokens are too many here: ask DCA alone, "
                f"or choose a page range of at most {max(0, limit - LEAST_ANSWER):,} tokens."
            )
        return limit

    def _side(self, session: Session, answer: Answer, ask: Ask, tell: Tell) -> None:
        with closing(self._events(session, ask)) as events:
            for event in events:
                answer.take(event)
                if isinstance(event, Reading) and event.left is not None and session.job is not None:
                    session.job.left = event.left + (self.host.writing_seconds(ask.sampling.max_new_tokens) or 0.0)
                if isinstance(event, Answered):
                    self.host.learn(event.stats, ask.way == "sparse", elsewhere=zero.is_zero_gpu())
                else:
                    tell(None)

    def _events(self, session: Session, ask: Ask) -> Iterator[Event]:
        if zero.is_zero_gpu():
            return self._on_gpu(ask)
        conversation = self._conversation(session, ask.documents, ask.way)
        conversation.turns = list(ask.past)
        conversation.max_context = ask.limit
        return conversation.ask(ask.question, ask.sampling, begun=ask.begun)

    def _conversation(self, session: Session, documents: Sequence[Document], way: Way) -> Conversation:
        """The session's own, which has read before in that way; what it has read of other documents is kept as far as
        it agrees."""
        found = session.conversations.get(way)
        if found is None and (shared := self._example_cache(documents, way)) is not None:
            found = session.conversations[way] = shared.fork()
        if found is None:
            found = session.conversations[way] = self._converse(documents, way)
        if list(found.documents) != list(documents):
            found.change_documents(documents)
        return found

    def _converse(self, documents: Sequence[Document], way: Way, **options) -> Conversation:
        return self.host.converse(documents, dca=way != "plain", sparse=way == "sparse", **options)

    def _fresh(self, ask: Ask) -> Iterator[Event]:
        """Without a cache from before and without leaving one."""
        conversation = self._converse(ask.documents, ask.way, max_context=ask.limit, turns=list(ask.past))
        try:
            yield from conversation.ask(ask.question, ask.sampling, begun=ask.begun)
        finally:
            conversation.close()

    # Reading before anybody asks

    def read_ahead(self, session: Session) -> Job | None:
        """Begins to read a session's documents into its cache, while nobody waits for the model; None where that would
        not help, or take memory that others need."""
        self._end_reading_ahead(session)
        if not self._may_read_ahead() or not session.readable or session.busy:
            return None
        documents, tokens = session.documents, session.document_tokens
        way = self.way(session)
        if self._example_cache(documents, way) is not None:
            return None
        if tokens + _QUESTION_ROOM > self.host.limit(session.cache_bytes()):
            return None
        needed = (tokens + _QUESTION_ROOM) * self.host.loaded.cache_bytes_per_token
        if not self.sessions.has_room(needed, session):
            return None

        def work(tell: Tell) -> None:
            if session.generation != self.host.generation:
                session.forget_caches()
                session.generation = self.host.generation
            self._keep(session, way)
            self.sessions.make_room(needed, session)
            conversation = self._conversation(session, documents, way)
            for reading in conversation.read_documents():
                session.ahead_reading = reading
                tell(reading)
                if session.conversations.get(way) is not conversation:  # its memory went to somebody else
                    return

        try:
            session.ahead = self.lane.submit(work, Rank.AHEAD, expected=self.reading_seconds(session, way))
        except DcaHubError:  # so many wait already that nobody may read ahead
            return None
        return session.ahead

    def is_ready(self, session: Session) -> bool:
        """Whether the session's documents are in the cache, or come there with the first question at once."""
        if not session.readable or not self.host.ready or session.generation not in (0, self.host.generation):
            return False
        documents, way = session.documents, self.way(session)
        if self._example_cache(documents, way) is not None:
            return True
        conversation = session.conversations.get(way)
        return (
            conversation is not None and list(conversation.documents) == documents and conversation.has_read_documents
        )

    def read_example(self) -> Job | None:
        """Reads the example once, for all who will ask about it."""
        if not self._may_read_ahead() or not self.host.ready:
            return None

        def work(tell: Tell) -> None:
            generation, document = self.host.generation, self.example.document()
            tokens = self.host.count(document.text)
            bytes_ = (tokens + _QUESTION_ROOM) * self.host.loaded.cache_bytes_per_token
            if tokens + _QUESTION_ROOM > self.host.limit() or bytes_ > self.sessions.bound // 4:
                return
            conversation = self._converse([document], "exact")
            for reading in conversation.read_documents():
                tell(reading)  # others may use the model meanwhile
            if generation == self.host.generation:
                self._shared = (generation, conversation)

        return self.lane.submit(work, Rank.AHEAD)

    def forget_example(self) -> None:
        self._shared = None

    def _example_cache(self, documents: Sequence[Document], way: Way) -> Conversation | None:
        if self._shared is None or way != "exact" or self._shared[0] != self.host.generation:
            return None
        return self._shared[1] if list(documents) == list(self._shared[1].documents) else None

    def _may_read_ahead(self) -> bool:
        return self.host.settings.read_ahead and not self.host.settings.endpoint and not zero.is_zero_gpu()

    def _end_reading_ahead(self, session: Session) -> None:
        """What it has read so far stays; nobody else touches the conversation after this."""
        if session.ahead is not None:
            session.ahead.stop()
            if session.ahead.begun:
                session.ahead.wait()
            session.ahead = None


def begin_turn(session: Session, question: str, mode: Mode) -> Turn:
    """Puts a question at the end of the conversation. Raises DcaHubError for one that cannot be asked."""
    if not question.strip():
        raise DcaHubError("The question is empty: ask something about the document.")
    if len(question) > LONGEST_QUESTION:
        raise DcaHubError(f"The question has more than {LONGEST_QUESTION:,} characters: ask a shorter one.")
    about = session.readable
    names = tuple(upload.name for upload in about) if len(about) > 1 else ()
    paths = tuple(upload.path for upload in about)
    turn = Turn(question.strip(), {side: Answer() for side in SIDES[mode]}, names, paths)
    session.turns.append(turn)
    return turn


def sampling_of(longest: float, temperature: float, guard: bool, most: int) -> Sampling:
    """What the sliders ask for; a browser may send anything, so that it is brought within bounds."""
    longest, temperature = min(max(float(longest or 0), 1.0), most), min(max(float(temperature or 0), 0.0), 2.0)
    return Sampling(int(longest), temperature, 0.95 if temperature > 0 else 1.0, stop_repeats=guard)
