"""Answering a question in a session: the work that the lane does, and what it changes on the screen."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from dca_hub import prompts
from dca_hub.conversation import Answered, Answering, Event, Reading, Sampling
from dca_hub.documents import Document
from dca_hub.errors import DcaHubError
from dca_hub.space import zero
from dca_hub.space.failures import sentence
from dca_hub.space.host import Host
from dca_hub.space.lane import Lane, Tell
from dca_hub.space.sessions import Session, Sessions
from dca_hub.space.turns import SIDES, Answer, Mode, Turn, history

LONGEST_QUESTION = 20_000  # characters


@dataclass(frozen=True)
class Ask:
    """Everything that answering once needs, as plain data: on ZeroGPU it travels to another process."""

    documents: Sequence[Document]
    past: Sequence[prompts.Turn]
    question: str
    sampling: Sampling
    dca: bool
    limit: int
    tokens: int


class Answers:
    """Answers questions, one after another, with the model that the host holds."""

    def __init__(self, host: Host, lane: Lane, sessions: Sessions):
        self.host, self.lane, self.sessions = host, lane, sessions
        self._on_gpu = zero.gpu(lambda ask: zero.seconds(ask.tokens, ask.sampling.max_new_tokens))(self._fresh)

    def ask(self, session: Session, mode: Mode, sampling: Sampling) -> Iterator[None]:
        """Answers the session's last turn; yields whenever there is more to show. Closing the iterator stops it."""
        turn = session.turns[-1]
        job = session.job = self.lane.submit(lambda tell: self._work(session, turn, mode, sampling, tell))
        try:
            yield from job.events()
        except Exception as error:
            turn.fail(sentence(error))
        finally:
            turn.stop()
            session.used = max(session.used, time.monotonic())

    def _work(self, session: Session, turn: Turn, mode: Mode, sampling: Sampling, tell: Tell) -> None:
        copies = len(SIDES[mode])
        if session.generation != self.host.generation:
            session.forget_caches()
            session.generation = self.host.generation
        held, wanted = session.cache_bytes(), session.document_tokens + sampling.max_new_tokens
        limit = self.host.limit(held, copies)
        if limit < wanted <= self.host.limit(held):
            raise DcaHubError(
                f"Side by side keeps the document twice, for which {wanted:,} tokens are too many here: ask DCA alone, "
                f"or choose a page range of at most {max(0, limit - sampling.max_new_tokens):,} tokens."
            )
        needed = min(wanted + 512, limit) * copies
        self.sessions.make_room(needed * self.host.loaded.cache_bytes_per_token, session)
        for side in SIDES[mode]:
            past = history(session.turns[: session.turns.index(turn)], side)
            ask = Ask(session.documents, past, turn.question, sampling, side == "dca", limit, session.document_tokens)
            self._side(session, turn.answers[side], ask, tell)
            tell(None)

    def _side(self, session: Session, answer: Answer, ask: Ask, tell: Tell) -> None:
        with closing(self._events(session, ask)) as events:
            for event in events:
                _take(answer, event)
                if not isinstance(event, Answered):
                    tell(None)

    def _events(self, session: Session, ask: Ask) -> Iterator[Event]:
        if zero.is_zero_gpu():
            return self._on_gpu(ask)
        conversation = session.conversations.get(ask.dca)
        if conversation is None:
            conversation = self.host.converse(ask.documents, dca=ask.dca)
            session.conversations[ask.dca] = conversation
        conversation.turns = list(ask.past)
        conversation.max_context = ask.limit
        return conversation.ask(ask.question, ask.sampling)

    def _fresh(self, ask: Ask) -> Iterator[Event]:
        """Without a cache from before and without leaving one."""
        conversation = self.host.converse(ask.documents, ask.dca, ask.limit, list(ask.past))
        try:
            yield from conversation.ask(ask.question, ask.sampling)
        finally:
            conversation.close()


def begin_turn(session: Session, question: str, mode: Mode) -> Turn:
    """Puts a question at the end of the conversation. Raises DcaHubError for one that cannot be asked."""
    if not question.strip():
        raise DcaHubError("The question is empty: ask something about the document.")
    if len(question) > LONGEST_QUESTION:
        raise DcaHubError(f"The question has more than {LONGEST_QUESTION:,} characters: ask a shorter one.")
    turn = Turn(question.strip(), {side: Answer() for side in SIDES[mode]}, len(session.readable))
    session.turns.append(turn)
    return turn


def _take(answer: Answer, event: Event) -> None:
    if isinstance(event, Reading):
        answer.state, answer.reading = "reading", event
    elif isinstance(event, Answering):
        answer.state, answer.text = "answering", answer.text + event.text
    else:
        answer.state, answer.text = "done", event.text
        answer.citations, answer.stats = event.citations, event.stats
