"""The tab where a model's memory is tested: needles in haystacks."""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import gradio as gr

from dca_hub.errors import DcaHubError
from dca_hub.evaluation import needle
from dca_hub.evaluation.grid import Grid
from dca_hub.space import needle_file, needle_link, needle_run, run_bounds
from dca_hub.space import needle_view as view
from dca_hub.space.context import AT_ONCE, PAGES_LANE, PRIVATE, Context, full
from dca_hub.space.failures import sentence
from dca_hub.space.lane import QUIET, Rank, Waiting
from dca_hub.space.markup import notice, tag
from dca_hub.space.sessions import BUSY, Session
from dca_hub.space.stoppable import StoppableRun, Updates, in_line
from dca_hub.space.turns import SIDES
from dca_hub.space.widgets import clicked, html_slot, uploads_only

MODES = [("DCA", "dca"), ("Plain", "plain"), ("Both", "both")]
HAYSTACKS = [("Prose", "prose"), ("Grass", "grass"), ("My own text", "own"), ("My PDF", "pdf")]
_USUAL = (0.5, 1, 2, 4, 8)
_STOPPING = ("Stopping", "", False)
_ADDRESS = "() => [location.search]"
_MOST_DEPTHS, _MOST_TRIALS = 11, 5  # of the sliders
_LONGEST_TEXT = 2_000_000  # characters of one's own haystack


@dataclass
class _Parts:
    lengths: gr.CheckboxGroup
    depths: gr.Slider
    trials: gr.Slider
    haystack: gr.Radio
    own: gr.Textbox
    mode: gr.Radio
    run: gr.Button
    stop: gr.Button
    clear: gr.Button
    load: gr.UploadButton
    status: gr.HTML
    maps: gr.HTML
    detail: gr.HTML
    links: gr.HTML
    follow: gr.Button
    address: gr.Textbox


def build(context: Context) -> "Lab":
    """Lays the tab out and connects it."""
    with gr.Row(elem_id="needle-row"):
        with gr.Column(scale=3, min_width=270, elem_id="needle-side"):
            choices, usual = lengths_for(context)
            lengths = gr.CheckboxGroup(choices, value=usual, label="Lengths, in tokens", elem_id="needle-lengths")
            depths = gr.Slider(1, _MOST_DEPTHS, value=5, step=1, label="Depths", elem_id="needle-depths")
            trials = gr.Slider(1, _MOST_TRIALS, value=1, step=1, label="Trials per cell", elem_id="needle-trials")
            haystack = gr.Radio(HAYSTACKS, value="prose", label="Haystack", elem_id="needle-haystack")
            own = gr.Textbox(
                label="My own text", lines=5, max_lines=8, max_length=_LONGEST_TEXT, visible=False, elem_id="needle-own"
            )
            mode = gr.Radio(MODES, value="both", label="Attention", elem_id="needle-mode")
            with gr.Row():
                run = gr.Button("Run", variant="primary", elem_id="needle-run", min_width=90)
                stop = gr.Button("Stop", variant="stop", visible=False, elem_id="needle-stop", min_width=90)
                clear = gr.Button("Clear", elem_id="needle-clear", min_width=90)
            load = gr.UploadButton("Load results", file_types=[".jsonl"], size="sm", elem_id="needle-load")
            uploads_only(load, context.settings)
        with gr.Column(scale=8, min_width=320, elem_id="needle-main"):
            status = html_slot("needle-status")
            maps = html_slot("needle-maps", view.maps([], None, 0, ()))
            links = html_slot("needle-links")
            detail = html_slot("needle-detail")
            # Pressed by the page where its address holds the settings of a test.
            follow = gr.Button("Follow the link", elem_id="needle-follow", elem_classes="dh-pressed")
            address = gr.Textbox(elem_id="address", elem_classes="dh-pressed", label="Address", container=False)
    parts = _Parts(
        lengths, depths, trials, haystack, own, mode, run, stop, clear, load, status, maps, detail, links, follow,
        address,
    )  # fmt: skip
    lab = Lab(context, parts)
    lab.connect()
    return lab


def lengths_for(context: Context) -> tuple[list[tuple[str, int]], list[int]]:
    """The lengths to choose from, as multiples of the trained one, and those chosen at first."""
    trained = context.host.loaded.trained
    most = run_bounds.longest(context.host)
    multiples = [m for m in run_bounds.MULTIPLES if run_bounds.SHORTEST <= m * trained <= most]
    choices = [(f"{int(m * trained):,} ({m:g}×)", int(m * trained)) for m in multiples]
    return choices, [int(m * trained) for m in multiples if m in _USUAL]


class Lab:
    """The events of the tab."""

    def __init__(self, context: Context, parts: _Parts):
        self.context, self.parts = context, parts
        shown = [parts.maps, parts.links, parts.detail]
        self.running = StoppableRun(context, parts.run, parts.stop, parts.status, shown)

    def connect(self) -> None:
        p = self.parts
        chosen = [p.lengths, p.depths, p.trials, p.haystack, p.own, p.mode]
        p.haystack.change(lambda kind: gr.update(visible=kind == "own"), p.haystack, p.own, **AT_ONCE, **PRIVATE)
        self.running.on([p.run.click], self.run, chosen)
        self.running.stops()
        shown = [p.status, p.maps, p.links, p.detail]
        p.clear.click(self.clear, None, shown, **AT_ONCE, **PRIVATE)
        p.maps.click(self.show_cell, None, p.detail, **AT_ONCE, **PRIVATE)
        settings = [p.lengths, p.mode, p.depths, p.trials, p.haystack]
        p.follow.click(self.linked, p.address, [*settings, p.status], js=_ADDRESS, **AT_ONCE, **PRIVATE)
        restored = [*shown, *settings]
        loading = p.load.upload(self.load, p.load, restored, **PAGES_LANE, **PRIVATE)
        loading.failure(lambda: {p.status: full()}, None, restored, **AT_ONCE, **PRIVATE)

    def follow(self) -> Updates:
        """The lengths of the model that is loaded now."""
        choices, usual = lengths_for(self.context)
        return {self.parts.lengths: gr.update(choices=choices, value=usual)}

    def linked(self, address: str) -> Updates:
        """What a link to the page asks for, if it holds a test's settings."""
        p, host = self.parts, self.context.host
        try:
            asked = needle_link.read(address, host)
        except DcaHubError as error:
            return {p.status: notice(f"This link cannot be followed here. {sentence(error)}", "warning")}
        if asked is None:
            return {p.status: gr.skip()}
        words = "The settings of the link are chosen: Run measures them."
        if asked.model and asked.model != host.loaded.name:
            words += f" It was made with {asked.model}; {host.loaded.name} is loaded."
        words += {"pdf": " Add your PDF on the PDF chat tab.", "own": " Paste your text."}.get(asked.haystack, "")
        return {**self._chosen(asked.lengths, asked.depths, asked.trials, asked.haystack, asked.mode),
                p.status: notice(words)}  # fmt: skip

    def _chosen(self, lengths: Sequence[int], depths: int, trials: int, haystack: str, mode: str) -> Updates:
        p, known = self.parts, {value: label for label, value in lengths_for(self.context)[0]}
        choices = [(known.get(n, f"{n:,}"), n) for n in sorted({*known, *lengths})]
        return {
            p.lengths: gr.update(choices=choices, value=list(lengths)),
            p.depths: min(depths, _MOST_DEPTHS), p.trials: min(trials, _MOST_TRIALS), p.haystack: haystack,
            p.mode: mode,
        }  # fmt: skip

    def run(self, session: Session, lengths, depths, trials, haystack, own, mode) -> Iterator[Updates]:
        """Measures what was chosen and is not known yet; the map fills in on the way."""
        p, c = self.parts, self.context
        own = _pdf_text(session) if haystack == "pdf" else own or ""
        grid = self._grid(lengths, depths, trials, haystack, own, mode)
        if session.grid is not None and session.grid.haystack != grid.haystack:
            session.needle.clear()
        session.grid = grid
        yield {p.status: _line("Waiting for the model"), p.maps: self._maps(session, mode), p.links: ""}
        job = session.job = c.lane.submit(
            lambda tell: needle_run.work(c, session, mode, own, tell), Rank.LAB, most=c.settings.job_seconds
        )
        problem = ""
        try:
            for event in job.events(stopping=_STOPPING):
                if isinstance(event, Waiting):
                    yield {p.status: _line(f"Waiting for the model: {in_line(event)}")}
                elif event is not QUIET:
                    words, running, new = event
                    yield {p.status: _line(words), **({p.maps: self._maps(session, mode, running)} if new else {})}
        except Exception as error:
            problem = notice(sentence(error), "error")
        if session.grid is not grid:  # cleared
            return
        words = _stopped(session, mode) if job.stopped else _line(needle_run.summary(session, mode), spinning=False)
        yield self._shown(session, mode, problem or words)

    def clear(self, request: gr.Request) -> Updates:
        session = self.context.session(request)
        if session.job is not None:
            session.job.stop()
            session.job.wait(5)
        session.needle.clear()
        session.grid = None
        return {**self._shown(session, "both", ""), self.parts.detail: ""}

    def show_cell(self, event: gr.EventData, request: gr.Request) -> str:
        session = self.context.session(request)
        return view.detail(session.needle, clicked(event, "cell") or "")

    def load(self, path: str, request: gr.Request) -> Updates:
        """Results of an earlier run, to be shown and gone on with: what was chosen then is chosen again."""
        p, session = self.parts, self.context.session(request)
        try:
            if session.busy:
                raise DcaHubError(BUSY)
            saved = needle_file.read(path)
        except Exception as error:
            return {p.status: notice(sentence(error), "error")}
        grid = session.grid = saved.grid
        session.needle[:] = saved.results
        own = grid.haystack not in ("prose", "grass")
        model, loaded = saved.results[0].model, self.context.host.loaded.name
        rest = "Run measures what is missing." if model == loaded else f"{loaded} is loaded: Run starts over with it."
        again = (
            ("add the same PDF, and " if grid.haystack.startswith("pdf-") else "paste the same text, and ")
            if own
            else ""
        )
        words = f"{len(saved.results):,} results of {model}: {again}{rest}"
        haystack = ("pdf" if grid.haystack.startswith("pdf-") else "own") if own else grid.haystack
        return {
            **self._shown(session, saved.mode, notice(words)),
            **self._chosen(grid.lengths, len(grid.depths), grid.trials, haystack, saved.mode),
        }

    def _grid(self, lengths, depths, trials, haystack, own, mode) -> Grid:
        if haystack not in {value for _, value in HAYSTACKS} or mode not in SIDES:
            raise DcaHubError("Choose a haystack and an attention from the list.")
        c = self.context
        grid = run_bounds.grid_of(lengths or (), depths, trials, haystack, len(SIDES[mode]), c.host, c.settings)
        if haystack in ("own", "pdf"):  # a text has its own name, so that results of another one are not taken for its
            text_of = needle.haystack_text(haystack, own[:_LONGEST_TEXT])
            return dataclasses.replace(grid, haystack=f"{haystack}-{hashlib.sha256(text_of.encode()).hexdigest()[:8]}")
        return grid

    def _maps(self, session: Session, mode: str, running: str = "") -> str:
        trained = self.context.host.loaded.trained if self.context.host.ready else 0
        return view.maps(session.needle, session.grid, trained, SIDES.get(mode, SIDES["both"]), running)

    def _shown(self, session: Session, mode: str, status: str) -> Updates:
        p, host = self.parts, self.context.host
        links = view.links(session.needle, session.grid, mode, host.loaded) if host.ready else ""
        return {p.status: status, p.maps: self._maps(session, mode), p.links: links}


def _pdf_text(session: Session) -> str:
    """The visitor's documents as a haystack. Raises DcaHubError where there is none."""
    if not session.readable:
        raise DcaHubError("There is no PDF to hide a number in yet: add one on the PDF chat tab.")
    return "\n\n".join(page.text for document in session.documents for page in document.pages if page.text)


def _stopped(session: Session, mode: str) -> str:
    return _line(f"Stopped; {needle_run.summary(session, mode)} Run continues from here.", spinning=False)


def _line(words: str, spinning: bool = True) -> str:
    sign = tag("span", class_="dh-spinner") if spinning else ""
    return tag("div", sign, tag("span", words), class_="dh-progress", role="status") if words else ""
