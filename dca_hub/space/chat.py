"""The tab where PDFs are asked."""

from collections.abc import Iterator
from typing import Any

import gradio as gr
from markupsafe import Markup

from dca_hub.conversation import Reading
from dca_hub.errors import DcaHubError
from dca_hub.space import export, fit, transcript, uploads, viewer, welcome
from dca_hub.space.answers import LONGEST_QUESTION, begin_turn, sampling_of
from dca_hub.space.chat_layout import ALL, Parts, lay_out
from dca_hub.space.context import AT_ONCE, PAGES_LANE, PRIVATE, Context, full
from dca_hub.space.failures import sentence
from dca_hub.space.lane import is_beat
from dca_hub.space.markup import notice, tag
from dca_hub.space.sessions import Session, Upload
from dca_hub.space.stoppable import StoppableRun, Updates
from dca_hub.space.turns import Turn
from dca_hub.space.widgets import clicked

_NOTHING_TO_ASK = "There is no document to ask about yet: drop a PDF, or try the example."


def build(context: Context) -> "Chat":
    """Lays the tab out and connects it."""
    chat = Chat(context, lay_out(context))
    chat.connect()
    return chat


def past(session: Session, context: Context) -> Markup:
    """The finished turns, or what stands there before the first one."""
    finished = session.turns[:-1] if session.turns and not session.turns[-1].finished else session.turns
    if finished:
        return transcript.past(finished)
    return Markup("") if session.turns else welcome.before(session, context)


class Chat:
    """The events of the tab."""

    def __init__(self, context: Context, parts: Parts):
        self.context, self.parts = context, parts
        shown = [parts.question, parts.past, parts.live, parts.export, parts.ready, parts.way]
        self.run = StoppableRun(context, parts.ask, parts.stop, parts.problem, shown)

    @property
    def followers(self) -> list[gr.components.Component]:
        """What `follow` may change."""
        p = self.parts
        return [p.listing, p.meter, p.ready, p.way, p.line, p.past, p.export, p.which]

    def follow(self, session: Session) -> Updates:
        """Everything of the tab, after the model or the page has changed."""
        return {key: value for key, value in self._documents(session).items() if key in self.followers}

    def connect(self) -> None:
        self._connect_documents()
        p = self.parts
        sampling = [p.longest, p.temperature, p.guard]
        self.run.on([p.ask.click, p.question.submit], self.ask, [p.question, p.mode, *sampling])
        self.run.on([p.retry.click], self.ask_again, [p.mode, *sampling])
        self.run.on([p.more.click], self.ask_more, sampling)
        self.run.stops(lambda session: session.turns and session.turns[-1].stop())

        shown = [p.question, p.past, p.live, p.export, p.problem]
        p.undo.click(self.undo, None, shown, **AT_ONCE, **PRIVATE)
        p.clear.click(self.clear, None, shown, **AT_ONCE, **PRIVATE)
        p.restore.click(self.restore, None, shown, **AT_ONCE, **PRIVATE)

        page = [p.page, p.page_column, p.problem]
        for part in (p.past, p.live, p.page, p.listing):
            event = part.click(self.open_page, None, page, **PAGES_LANE, **PRIVATE)
            event.failure(lambda: {self.parts.problem: full()}, None, page, **AT_ONCE, **PRIVATE)

    def _connect_documents(self) -> None:
        p = self.parts
        outputs = [
            p.drop, p.listing, p.meter, p.ready, p.way, p.line, p.past, p.problem, p.reading_options, p.which, p.export,
        ]  # fmt: skip
        for triggers, handler, inputs in (
            ([p.drop.upload], self.add, [p.drop]),
            ([p.example.click], self.add_example, None),
            ([p.apply.click, p.pages.submit, p.password.submit], self.read_again, [p.which, p.pages, p.password]),
            ([p.fit_first.click], self.fit, None),
            ([p.fit_question.click], self.fit, [p.question]),
        ):
            event = gr.on(triggers, self._reads(handler), inputs, outputs, **PAGES_LANE, **PRIVATE)
            event.failure(lambda: {p.drop: None, p.problem: full()}, None, outputs, **AT_ONCE, **PRIVATE)
            event.then(self.get_ready, None, [p.ready], **self.context.listening("ready"), **PRIVATE)
        removed = p.listing.click(self.remove, None, outputs, **AT_ONCE, **PRIVATE)
        chosen = p.way.input(self.choose_way, [p.way], [p.ready, p.way], **AT_ONCE, **PRIVATE)
        for event in (removed, chosen):
            event.then(self.get_ready, None, [p.ready], **self.context.listening("ready"), **PRIVATE)

    # Documents

    def _reads(self, handler):
        """For handlers that choose what is to be read: reads it, and shows how far that is."""

        def reading(request: gr.Request, *values: Any) -> Iterator[Updates]:
            session, problem = self.context.session(request), ""
            session.why_gone = ""
            try:
                chosen, problem = handler(session, *values)
                c = self.context
                yield self._documents(session, "Reading" if chosen else "", problem)
                for words in uploads.read(session, chosen, c.host, c.sessions, c.settings):
                    yield {self.parts.listing: uploads.listing(session, words)}
            except Exception as error:
                problem = notice(sentence(error), "error")
            yield self._documents(session, problem=problem)

        return reading

    def add(self, session: Session, paths: list[str] | None) -> tuple[list[Upload], str]:
        added, problem = [], ""
        for path in paths or []:
            try:
                added.append(uploads.take(session, path, self.context.sessions, self.context.settings))
            except DcaHubError as error:
                problem = notice(sentence(error), "error")
        return added, problem

    def add_example(self, session: Session) -> tuple[list[Upload], str]:
        uploads.take_example(session, self.context.example, self.context.host)
        return [], ""

    def read_again(self, session: Session, which: str, pages: str, password: str) -> tuple[list[Upload], str]:
        """One document, or all, over another range of pages or with a password."""
        chosen = [upload for upload in session.uploads if which in (ALL, str(upload.path))]
        for upload in chosen:
            upload.pages, upload.password = (pages or "").strip(), password or upload.password
        return chosen, ""

    def fit(self, session: Session, question: str | None = None) -> tuple[list[Upload], str]:
        """Cuts the longest document to the pages that fit: the first ones, or the best ones for a question."""
        upload, host = fit.longest(session), self.context.host
        if upload is None:
            return [], ""
        if question is not None and not question.strip():
            raise DcaHubError("Write your question first: the pages are chosen by its words.")
        room = fit.room(session, host)
        if question is None:
            pages = fit.first_pages(upload.document, room, host)
        else:
            pages = fit.best_pages(upload.document, question[:LONGEST_QUESTION], room, host)
        if not pages:
            raise DcaHubError("Not even one page fits: remove another document, or choose a smaller model.")
        upload.pages = fit.written(pages)
        return [upload], notice(f"Reading pages {upload.pages} of {upload.name}.")

    def remove(self, event: gr.EventData, request: gr.Request) -> Updates:
        session = self.context.session(request)
        index = clicked(event, "remove")
        problem = ""
        if index is None:  # a page was opened
            return {self.parts.problem: gr.skip()}
        if index.isdecimal() and len(index) < 4:
            if session.busy or session.reading:
                problem = notice("Your documents are in use right now: wait for the answer, or stop it.", "warning")
            else:
                uploads.remove(session, int(index))
        return self._documents(session, problem=problem)

    def choose_way(self, way: str, request: gr.Request) -> Updates:
        """How this visitor's long documents are read from now on."""
        session = self.context.session(request)
        session.sparse = way == "sparse"
        return self._ready(session)

    def get_ready(self, request: gr.Request) -> Iterator[str]:
        """Reads the documents into the cache before anybody asks, and shows how far that is."""
        session = self.context.session(request)
        job = None if session.reading else self.context.answers.read_ahead(session)
        if job is not None:
            yield uploads.ready(session, self.context, Reading(0, 0, 0.0))
            try:
                for event in job.events():
                    reading = session.ahead_reading
                    if not is_beat(event) and reading is not None and reading.total:
                        yield uploads.ready(session, self.context, reading)
            except Exception as error:
                sentence(error)  # for the log; the question reads what is missing, and says what is wrong with it
        # An answer says itself how far its reading is, and what is ready after it.
        yield "" if session.busy else uploads.ready(session, self.context)

    def _documents(self, session: Session, progress: str = "", problem: str = "") -> Updates:
        p = self.parts
        wants = next((upload for upload in session.uploads if upload.wants_password), None)
        choices = [("All documents", ALL), *((upload.name, str(upload.path)) for upload in session.uploads)]
        return {
            p.drop: None,
            p.listing: uploads.listing(session, progress),
            p.meter: uploads.meter(session, self.context.host),
            **self._ready(session),
            p.line: uploads.line(session),
            p.past: gr.skip() if session.busy else past(session, self.context),
            p.problem: problem,
            p.export: self._links(session),
            p.reading_options: gr.update(open=True) if wants else gr.skip(),
            p.which: gr.update(
                choices=choices, value=str(wants.path) if wants else ALL, visible=len(session.uploads) > 1
            ),
        }

    def _ready(self, session: Session) -> Updates:
        p = self.parts
        return {p.ready: uploads.ready(session, self.context), p.way: uploads.ways(session, self.context)}

    # Questions

    def ask(self, session: Session, question: str, mode: str, *sampling: Any) -> Iterator[Updates]:
        self._check(session)
        yield from self._answer(session, begin_turn(session, question or "", _mode(mode)), *sampling)

    def ask_again(self, session: Session, mode: str, *sampling: Any) -> Iterator[Updates]:
        self._check(session)
        if not session.turns:
            raise DcaHubError("There is no question to try again yet.")
        yield from self._answer(session, begin_turn(session, session.turns.pop().question, _mode(mode)), *sampling)

    def ask_more(self, session: Session, *sampling: Any) -> Iterator[Updates]:
        """The last answer goes on from where its length ended it."""
        self._check(session)
        turn = session.turns[-1] if session.turns else None
        if turn is None or len(turn.answers) != 1 or not next(iter(turn.answers.values())).text:
            raise DcaHubError("There is no answer to continue.")
        turn.reopen()
        yield from self._answer(session, turn, *sampling)

    def _answer(self, session: Session, turn: Turn, longest, temperature, guard) -> Iterator[Updates]:
        p, number = self.parts, session.turns.index(turn)
        session.cleared = []
        sampling = sampling_of(longest, temperature, bool(guard), self.context.settings.max_answer)
        live = lambda: transcript.live(number, turn)
        yield {
            p.question: "", p.past: transcript.past(session.turns[:number]), p.live: live(), p.problem: "",
            p.ready: gr.skip() if self.context.answers.is_ready(session) else "",
        }  # fmt: skip
        for _ in self.context.answers.ask(session, turn, sampling):
            yield {p.live: live()}
        # What stands there by now is not this answer's: that the conversation was cleared, or a document's problem.
        yield {**self._shown(session), p.problem: gr.skip(), **self._ready(session)}

    def undo(self, request: gr.Request) -> Updates:
        session = self.context.session(request)
        session.stop()
        question = session.turns.pop().question if session.turns else gr.skip()
        self._wait(session)
        return {**self._shown(session), self.parts.question: question}

    def clear(self, request: gr.Request) -> Updates:
        session = self.context.session(request)
        session.stop()
        session.cleared, session.turns = session.turns or session.cleared, []
        self._wait(session)
        shown = self._shown(session)
        if session.cleared:
            shown[self.parts.problem] = tag(
                "div", tag("span", "The conversation was cleared."),
                tag("button", "Bring it back", type="button", class_="dh-quiet", data_press="restore"),
                class_="dh-notice", role="status",
            )  # fmt: skip
        return shown

    def restore(self, request: gr.Request) -> Updates:
        """The conversation before Clear, behind what was asked since."""
        session = self.context.session(request)
        if session.busy:
            return {self.parts.problem: gr.skip()}
        session.turns, session.cleared = [*session.cleared, *session.turns], []
        return self._shown(session)

    def open_page(self, event: gr.EventData, request: gr.Request) -> Updates:
        p, session = self.parts, self.context.session(request)
        if clicked(event, "close") is not None:
            return {p.page: "", p.page_column: gr.update(visible=False)}
        try:
            wanted = viewer.find(session, event)
            if wanted is None:
                gone = bool(session.why_gone) and clicked(event, "cite") is not None
                return {p.problem: notice(session.why_gone, "warning") if gone else gr.skip()}
            shown = viewer.page(session, wanted, self.context.settings)
            return {p.page: shown, p.page_column: gr.update(visible=True), p.problem: ""}
        except Exception as error:
            return {p.problem: notice(sentence(error), "error")}

    def _check(self, session: Session) -> None:
        if not session.readable and not session.reading:
            raise DcaHubError(session.why_gone or _NOTHING_TO_ASK)

    def _wait(self, session: Session) -> None:
        """Until an answer that was stopped has ended, which then shows the turns that are left."""
        if session.job is not None:
            session.job.wait(5)

    def _shown(self, session: Session) -> Updates:
        p = self.parts
        return {
            p.past: past(session, self.context), p.live: "", p.problem: "", p.export: self._links(session),
            p.question: gr.skip(),
        }  # fmt: skip

    def _links(self, session: Session) -> str:
        return export.links(session, self.context.host.loaded.name if self.context.host.ready else "")


def _mode(mode: str) -> str:
    if mode not in ("dca", "plain", "both"):
        raise DcaHubError("Choose DCA, Plain or Side by side.")
    return mode
