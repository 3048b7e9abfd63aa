"""The tab where PDFs are asked."""

from collections.abc import Iterator

import gradio as gr

from dca_hub.conversation import Sampling
from dca_hub.errors import DcaHubError
from dca_hub.space import export, transcript, uploads, viewer, welcome
from dca_hub.space.answers import begin_turn
from dca_hub.space.chat_layout import Parts, lay_out
from dca_hub.space.context import AT_ONCE, MODEL_LANE, PAGES_LANE, PRIVATE, Context
from dca_hub.space.failures import FULL
from dca_hub.space.markup import notice
from dca_hub.space.places import clicked
from dca_hub.space.sessions import Session

_NOTHING_TO_ASK = "There is no document to ask yet: drop a PDF, or try the example."


def build(context: Context) -> tuple[gr.HTML, gr.HTML]:
    """Lays the tab out and connects it; gives what follows the model: the context meter and the conversation."""
    parts = lay_out(context)
    _Chat(context, parts).connect()
    return parts.meter, parts.past


def past(session: Session, context: Context) -> str:
    """The finished turns, or what stands there before the first one."""
    return transcript.past(session.turns) or welcome.before(session, context)


class _Chat:
    """The events of the tab."""

    def __init__(self, context: Context, parts: Parts):
        self.context, self.parts = context, parts

    def connect(self) -> None:
        p = self.parts
        documents = [p.drop, p.listing, p.meter, p.past, p.live, p.export, p.problem, p.reading_options]
        reading = {"outputs": documents, "show_progress": "hidden", **PAGES_LANE, **PRIVATE}
        options = [p.pages, p.password]
        again = [p.apply.click, p.pages.submit, p.password.submit]
        for event in (
            p.drop.upload(self.add, [p.drop, *options], **reading),
            p.example.click(self.add_example, options, **reading),
            gr.on(again, self.read_again, options, **reading),
        ):
            event.failure(lambda: (None, notice(FULL, "warning")), None, [p.drop, p.problem], **AT_ONCE, **PRIVATE)
        p.listing.click(self.remove, None, documents, **AT_ONCE, **PRIVATE)

        shown = [p.past, p.live, p.problem, p.export, p.ask, p.stop]
        begun = gr.on(
            [p.ask.click, p.question.submit],
            self.begin,
            [p.question, p.mode],
            [p.question, *shown],
            **AT_ONCE,
            **PRIVATE,
        )
        again = p.retry.click(self.begin_again, [p.mode], shown, **AT_ONCE, **PRIVATE)
        sampling = [p.longest, p.temperature]
        answering = {
            "outputs": shown,
            "show_progress": "minimal",
            "show_progress_on": p.live,
            "trigger_mode": "multiple",  # the one before may not quite have ended when it was stopped
            **MODEL_LANE,
            **PRIVATE,
        }
        answered = [event.success(self.answer, sampling, **answering) for event in (begun, again)]
        for event in answered:
            event.failure(self.turned_away, None, shown, **AT_ONCE, **PRIVATE)
        p.stop.click(self.stop, None, shown, **AT_ONCE, **PRIVATE)
        p.undo.click(self.undo, None, [p.question, *shown], **AT_ONCE, **PRIVATE)
        p.clear.click(self.clear, None, shown, **AT_ONCE, **PRIVATE)

        page = [p.page, p.page_column, p.problem]
        for part in (p.past, p.live):
            part.click(self.open_page, None, page, show_progress="hidden", **PAGES_LANE, **PRIVATE)
        p.page.click(lambda: ("", gr.update(visible=False), ""), None, page, **AT_ONCE, **PRIVATE)

    # Documents

    def add(self, paths: list[str] | None, pages: str, password: str, request: gr.Request) -> Iterator[list]:
        session = self._options(request, pages, password)
        added, problem = [], ""
        for path in paths or []:
            try:
                added.append(uploads.take(session, path, self.context.settings))
            except DcaHubError as error:
                problem = notice(str(error), "error")
        yield from self._read(session, added, problem)

    def add_example(self, pages: str, password: str, request: gr.Request) -> Iterator[list]:
        session = self._options(request, pages, password)
        added = uploads.take_example(session)
        yield from self._read(session, [added] if added else [])

    def read_again(self, pages: str, password: str, request: gr.Request) -> Iterator[list]:
        session = self._options(request, pages, password)
        yield from self._read(session, session.uploads)

    def remove(self, event: gr.EventData, request: gr.Request) -> list:
        session = self.context.session(request)
        index = clicked(event, "remove")
        if index and index.isdecimal() and not session.busy:
            uploads.remove(session, int(index))
        return self._documents(session)

    def _options(self, request: gr.Request, pages: str, password: str) -> Session:
        session = self.context.session(request)
        session.pages, session.password = (pages or "").strip(), password or ""
        session.forgotten = False
        if session.job is not None:
            session.job.stop()
            session.job.wait(5)
        return session

    def _read(self, session: Session, added: list, problem: str = "") -> Iterator[list]:
        for words in uploads.read(session, list(added), self.context.host, self.context.settings):
            yield self._documents(session, words, problem)
        yield self._documents(session, problem=problem)

    def _documents(self, session: Session, progress: str = "", problem: str = "") -> list:
        wanted = any(upload.wants_password for upload in session.uploads)
        return [
            None,
            uploads.listing(session, progress),
            uploads.meter(session, self.context.host),
            past(session, self.context),
            "",
            self._links(session),
            problem,
            gr.update(open=True) if wanted else gr.skip(),
        ]

    # Questions

    def begin(self, question: str, mode: str, request: gr.Request) -> tuple:
        """Puts the question on the screen at once; the answer waits for the model."""
        session = self.context.session(request)
        try:
            self._check(session)
            begin_turn(session, question or "", mode)
        except DcaHubError as error:
            return (gr.skip(), *self._refused(error))
        return ("", *self._asked(session))

    def begin_again(self, mode: str, request: gr.Request) -> tuple:
        session = self.context.session(request)
        try:
            self._check(session)
            if not session.turns:
                raise DcaHubError("There is no question to try again yet.")
            begin_turn(session, session.turns.pop().question, mode)
        except DcaHubError as error:
            return self._refused(error)
        return self._asked(session)

    def answer(self, longest: float, temperature: float, request: gr.Request) -> Iterator[tuple]:
        session = self.context.session(request)
        if not session.turns or session.turns[-1].finished:
            yield (gr.skip(),) * 6  # the question was refused; a generator that yields nothing would empty its outputs
            return
        number, turn = len(session.turns) - 1, session.turns[-1]
        top_p = 0.95 if temperature > 0 else 1.0
        sampling = Sampling(min(int(longest), self.context.settings.max_answer), float(temperature), top_p)
        skipped = [gr.skip()] * 4
        for _ in self.context.answers.ask(session, turn.mode, sampling):
            yield (gr.skip(), transcript.live(number, turn), *skipped)
        if session.turns and not session.turns[-1].finished:  # stopped, and the next question is on the screen
            yield (gr.skip(),) * 6
            return
        yield self._shown(session)

    def turned_away(self, request: gr.Request) -> tuple:
        """The queue took no more, so nothing answers: the question goes back where it can be asked again."""
        session = self.context.session(request)
        if not session.busy and session.turns:
            session.turns[-1].fail(FULL)
        return self._shown(session)

    def stop(self, request: gr.Request) -> tuple:
        session = self.context.session(request)
        self._end(session)
        return self._shown(session)

    def undo(self, request: gr.Request) -> tuple:
        session = self.context.session(request)
        self._end(session)
        question = session.turns.pop().question if session.turns else gr.skip()
        return (question, *self._shown(session))

    def clear(self, request: gr.Request) -> tuple:
        session = self.context.session(request)
        self._end(session)
        session.turns.clear()
        return self._shown(session)

    def open_page(self, event: gr.EventData, request: gr.Request) -> tuple:
        session = self.context.session(request)
        citation = viewer.find(session, clicked(event, "cite"))
        if citation is None:
            problem = notice(self._idle(), "warning") if session.forgotten and clicked(event, "cite") else gr.skip()
            return gr.skip(), gr.skip(), problem
        try:
            return viewer.page(session, citation, self.context.settings), gr.update(visible=True), ""
        except DcaHubError as error:
            return gr.skip(), gr.skip(), notice(str(error), "error")

    def _check(self, session: Session) -> None:
        if session.busy:
            raise DcaHubError("The last question is still being answered: wait for it, or stop it.")
        if not session.readable:
            raise DcaHubError(self._idle() if session.forgotten else _NOTHING_TO_ASK)

    def _idle(self) -> str:
        minutes = self.context.settings.idle_minutes
        return f"Nothing was asked here for {minutes} minutes, so your documents were deleted: bring them again."

    def _end(self, session: Session) -> None:
        if session.job is not None:
            session.job.stop()
            session.job.wait(5)
        if session.turns:
            session.turns[-1].stop()

    def _refused(self, error: DcaHubError) -> tuple:
        return (gr.skip(), gr.skip(), notice(str(error), "warning"), gr.skip(), gr.skip(), gr.skip())

    def _asked(self, session: Session) -> tuple:
        live = transcript.live(len(session.turns) - 1, session.turns[-1])
        before = transcript.past(session.turns[:-1])
        return (before, live, "", gr.skip(), gr.update(visible=False), gr.update(visible=True))

    def _shown(self, session: Session) -> tuple:
        shown = past(session, self.context)
        return (shown, "", "", self._links(session), gr.update(visible=True), gr.update(visible=False))

    def _links(self, session: Session) -> str:
        return export.links(session, self.context.host.loaded.name if self.context.host.ready else "")
