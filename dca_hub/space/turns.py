"""Turns of a conversation as they are shown: a question, and an answer of each model that was asked."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dca_hub import prompts
from dca_hub.conversation import Answering, Citation, Event, Look, Reading, Stats
from dca_hub.space.lane import Waiting

Mode = Literal["dca", "plain", "both"]
Side = Literal["dca", "plain"]
Way = Literal["exact", "sparse", "plain"]  # how a text is read, of which each has a cache of its own
SIDES: dict[str, tuple[Side, ...]] = {"dca": ("dca",), "plain": ("plain",), "both": ("dca", "plain")}
NAMES = {"dca": "With DCA", "plain": "Plain, without DCA"}
SPARSE_NAME = "With DCA, read sparsely: an approximation"


@dataclass
class Answer:
    """What one model answers. `state` goes from waiting over reading and answering to done, stopped or failed."""

    state: Literal["waiting", "reading", "answering", "done", "stopped", "failed"] = "waiting"
    text: str = ""
    reading: Reading | None = None
    citations: tuple[Citation, ...] = ()
    looks: tuple[Look, ...] = ()
    stats: Stats | None = None
    problem: str = ""
    begun: str = ""  # what it is to go on from
    thoughts: str = ""  # of a reasoning model, before the text
    sparse: bool = False  # whether the documents were read sparsely for it

    def name(self, side: Side) -> str:
        """Which model answers, and how it reads."""
        return SPARSE_NAME if self.sparse else NAMES[side]

    @property
    def finished(self) -> bool:
        return self.state in ("done", "stopped", "failed")

    def take(self, event: Event) -> None:
        """What the conversation tells."""
        if self.finished:
            return
        if isinstance(event, Reading):
            self.state, self.reading = "reading", event
        elif isinstance(event, Answering):
            self.state, self.text = "answering", self.text + event.text
        else:
            self.state, self.text, self.thoughts = "done", event.text, event.thoughts or self.thoughts
            self.citations, self.looks, self.stats = event.citations, event.looks, event.stats


@dataclass
class Turn:
    """A question to one model or both. names: of the documents that it is about, where there are several; paths: of
    their files, by which they are found again when others have come or gone.

    waiting: where it is in line. note: what else it waits for.
    """

    question: str
    answers: dict[Side, Answer] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()
    waiting: Waiting | None = None
    note: str = ""

    @property
    def mode(self) -> Mode:
        return "both" if len(self.answers) == 2 else next(iter(self.answers))

    @property
    def finished(self) -> bool:
        return all(answer.finished for answer in self.answers.values())

    def reopen(self) -> None:
        """Its answers go on from what they have."""
        for side, answer in self.answers.items():
            self.answers[side] = Answer(text=answer.text, begun=answer.text, thoughts=answer.thoughts)

    def stop(self) -> None:
        """Whatever is not finished is stopped."""
        for answer in self.answers.values():
            if not answer.finished:
                answer.state = "stopped"

    def fail(self, problem: str) -> None:
        """Whatever is not finished has failed, for that reason."""
        for answer in self.answers.values():
            if not answer.finished:
                answer.state, answer.problem = "failed", problem


def history(turns: list[Turn], side: Side, until: Turn | None = None) -> list[prompts.Turn]:
    """The turns before `until` as one model is told them: its own answers, and the other's where it was not asked."""
    told = []
    for turn in list(turns):
        if turn is until:
            break
        answer = turn.answers.get(side) or next(iter(turn.answers.values()))
        if answer.text:
            told.append(prompts.Turn(turn.question, answer.text))
    return told
