"""The tab where a model's memory is tested: needles in haystacks."""

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from dca_hub.errors import DcaHubError
from dca_hub.evaluation import needle
from dca_hub.evaluation.grid import Grid, spread
from dca_hub.space import needle_file, needle_run
from dca_hub.space import needle_view as view
from dca_hub.space.context import AT_ONCE, MODEL_LANE, PAGES_LANE, PRIVATE, Context
from dca_hub.space.failures import FULL, sentence
from dca_hub.space.markup import notice, tag, text
from dca_hub.space.places import clicked, place, uploads_only
from dca_hub.space.sessions import Session
from dca_hub.space.turns import SIDES

MODES = [("DCA", "dca"), ("Plain", "plain"), ("Both", "both")]
HAYSTACKS = [("Prose", "prose"), ("Grass", "grass"), ("My own text", "own")]
_MULTIPLES = (0.5, 1, 2, 4, 8, 16, 32)
_USUAL = (0.5, 1, 2, 4, 8)
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


def build(context: Context) -> gr.CheckboxGroup:
    """Lays the tab out and connects it; gives the lengths, whose choices follow the model."""
    with gr.Row(elem_id="needle-row"):
        with gr.Column(scale=3, min_width=270, elem_id="needle-side"):
            choices, usual = lengths_for(context)
            lengths = gr.CheckboxGroup(choices, value=usual, label="Lengths, in tokens", elem_id="needle-lengths")
            depths = gr.Slider(1, 11, value=5, step=1, label="Depths", elem_id="needle-depths")
            trials = gr.Slider(1, 5, value=1, step=1, label="Trials in each cell", elem_id="needle-trials")
            haystack = gr.Radio(HAYSTACKS, value="prose", label="Haystack", elem_id="needle-haystack")
            own = gr.Textbox(
                label="My own text", lines=5, max_lines=8, max_length=_LONGEST_TEXT, visible=False, elem_id="needle-own"
            )
            mode = gr.Radio(MODES, value="both", label="Attention", elem_id="needle-mode")
            with gr.Row():
                run = gr.Button("Run", variant="primary", elem_id="needle-run", min_width=90)
                stop = gr.Button("Stop", variant="stop", visible=False, elem_id="needle-stop", min_width=90)
                clear = gr.Button("Clear", elem_id="needle-clear", min_width=90)
            load = gr.UploadButton(
                "Go on from a file of results", file_types=[".jsonl"], size="sm", elem_id="needle-load"
            )
            uploads_only(load, context.settings)
        with gr.Column(scale=8, min_width=320, elem_id="needle-main"):
            status = place("needle-status")
            maps = place("needle-maps", view.maps([], None, 0, ()))
            links = place("needle-links")
            detail = place("needle-detail")
    parts = _Parts(lengths, depths, trials, haystack, own, mode, run, stop, clear, load, status, maps, detail, links)
    _Lab(context, parts).connect()
    return lengths


def lengths_for(context: Context) -> tuple[list[tuple[str, int]], list[int]]:
    """The lengths to choose from, as multiples of the trained one, and those chosen at first."""
    trained = context.host.loaded.trained
    most = max(2 * trained, min(context.host.fits(), 32 * trained))
    multiples = [m for m in _MULTIPLES if m * trained <= most and m * trained >= 128]
    choices = [(f"{int(m * trained):,} ({m:g}×)", int(m * trained)) for m in multiples]
    return choices, [int(m * trained) for m in multiples if m in _USUAL]


class _Lab:
    """The events of the tab."""

    def __init__(self, context: Context, parts: _Parts):
        self.context, self.parts = context, parts

    def connect(self) -> None:
        p = self.parts
        shown = [p.status, p.maps, p.links, p.run, p.stop]
        chosen = [p.lengths, p.depths, p.trials, p.haystack, p.own, p.mode]
        p.haystack.change(lambda kind: gr.update(visible=kind == "own"), p.haystack, p.own, **AT_ONCE, **PRIVATE)
        begun = p.run.click(self.begin, chosen, shown, **AT_ONCE, **PRIVATE)
        running = begun.success(
            self.run,
            [p.own, p.mode],
            shown,
            show_progress="minimal",
            show_progress_on=p.status,
            trigger_mode="multiple",  # the one before may not quite have ended when it was stopped
            **MODEL_LANE,
            **PRIVATE,
        )
        running.failure(self.turned_away, p.mode, shown, **AT_ONCE, **PRIVATE)
        p.stop.click(self.stop, p.mode, shown, **AT_ONCE, **PRIVATE)
        p.clear.click(self.clear, None, [*shown, p.detail], **AT_ONCE, **PRIVATE)
        p.maps.click(self.show_cell, None, p.detail, **AT_ONCE, **PRIVATE)
        restored = [p.lengths, p.mode, p.depths, p.trials, p.haystack]
        p.load.upload(self.load, p.load, [*shown, *restored], show_progress="hidden", **PAGES_LANE, **PRIVATE)

    def begin(self, lengths, depths, trials, haystack, own, mode, request: gr.Request) -> tuple:
        """Checks what was chosen and shows the empty map."""
        session = self.context.session(request)
        try:
            if session.busy:
                raise DcaHubError("The model still works on your last request: wait for it, or stop it.")
            grid = self._grid(lengths, depths, trials, haystack, own, mode)
        except DcaHubError as error:
            session.grid_ready = False
            return (notice(str(error), "warning"), *[gr.skip()] * 4)
        if session.grid is not None and session.grid.haystack != grid.haystack:
            session.needle.clear()
        session.grid, session.grid_ready = grid, True
        return self._shown(session, mode, _line("Waiting for the model"), busy=True)

    def run(self, own: str, mode: str, request: gr.Request) -> Iterator[tuple]:
        session = self.context.session(request)
        if session.grid is None or not session.grid_ready:
            yield (gr.skip(),) * 5  # a generator that yields nothing would empty its outputs
            return
        session.grid_ready, grid = False, session.grid
        job = session.job = self.context.lane.submit(
            lambda tell: needle_run.work(self.context, session, mode, own or "", tell)
        )
        problem = ""
        try:
            for words, running, new in job.events(stopping=("Stopping", "", False)):
                maps = self._maps(session, mode, running) if new else gr.skip()
                yield (_line(words), maps, *[gr.skip()] * 3)
        except Exception as error:
            problem = notice(sentence(error), "error")
        if session.grid is not grid:  # cleared, and perhaps another run is on the screen already
            yield (gr.skip(),) * 5
            return
        words = _stopped(session, mode) if job.stopped else _line(needle_run.summary(session, mode), spinning=False)
        yield self._shown(session, mode, problem or words)

    def turned_away(self, mode: str, request: gr.Request) -> tuple:
        session = self.context.session(request)
        session.grid_ready = False
        return self._shown(session, mode, notice(FULL, "warning"))

    def stop(self, mode: str, request: gr.Request) -> tuple:
        session = self.context.session(request)
        waited, session.grid_ready = session.grid_ready, False
        if session.busy:
            # The run's own event shows the end: a Run that is clicked before that event is over would not be heard.
            session.job.stop()
            return (gr.skip(),) * 5
        return self._shown(session, mode, _stopped(session, mode) if waited else gr.skip())

    def clear(self, request: gr.Request) -> tuple:
        session = self.context.session(request)
        if session.job is not None:
            session.job.stop()
            session.job.wait(5)
        session.needle.clear()
        session.grid = None
        return (*self._shown(session, "both", ""), "")

    def show_cell(self, event: gr.EventData, request: gr.Request) -> str:
        session = self.context.session(request)
        return view.detail(session.needle, clicked(event, "cell") or "")

    def load(self, path: str, request: gr.Request) -> tuple:
        """Results of an earlier run, to be shown and gone on with: what was chosen then is chosen again."""
        session = self.context.session(request)
        try:
            if session.busy:
                raise DcaHubError("The model still works on your last request: wait for it, or stop it.")
            saved = needle_file.read(path)
        except DcaHubError as error:
            return (notice(str(error), "error"), *[gr.skip()] * 9)
        grid = session.grid = saved.grid
        session.needle[:] = saved.results
        own = grid.haystack not in ("prose", "grass")
        model, loaded = saved.results[0].model, self.context.host.loaded.name
        rest = "Run measures what is missing." if model == loaded else f"{loaded} is loaded, and Run measures it anew."
        words = f"{len(saved.results):,} results of {model}: {'paste the same text, and ' if own else ''}{rest}"
        known = {value: label for label, value in lengths_for(self.context)[0]}
        choices = [(known.get(n, f"{n:,}"), n) for n in sorted({*known, *grid.lengths})]
        return (
            *self._shown(session, saved.mode, notice(words)),
            gr.update(choices=choices, value=list(grid.lengths)),
            saved.mode,
            len(grid.depths),
            grid.trials,
            "own" if own else grid.haystack,
        )

    def _grid(self, lengths, depths, trials, haystack, own, mode) -> Grid:
        if haystack not in {value for _, value in HAYSTACKS} or mode not in SIDES:
            raise DcaHubError("Choose a haystack and an attention from the list.")
        grid = Grid(tuple(int(n) for n in lengths or ()), spread(int(depths)), int(trials), haystack)
        prompts = grid.prompts * len(SIDES[mode])
        if prompts > self.context.settings.max_cells:
            raise DcaHubError(
                f"That is {prompts:,} prompts, more than the {self.context.settings.max_cells:,} of one run: "
                "choose fewer lengths, depths or trials."
            )
        most = self.context.host.fits()
        if max(grid.lengths) > most:
            raise DcaHubError(f"{max(grid.lengths):,} tokens do not fit in memory here: choose at most {most:,}.")
        if haystack == "own":  # a text has its own name, so that results of another one are not taken for its
            text_of = needle.haystack_text(haystack, own or "")
            return dataclasses.replace(grid, haystack=f"own-{hashlib.sha256(text_of.encode()).hexdigest()[:8]}")
        return grid

    def _maps(self, session: Session, mode: str, running: str = "") -> str:
        trained = self.context.host.loaded.trained if self.context.host.ready else 0
        return view.maps(session.needle, session.grid, trained, SIDES.get(mode, SIDES["both"]), running)

    def _shown(self, session: Session, mode: str, status: str, busy: bool = False) -> tuple:
        host = self.context.host
        links = "" if busy or not host.ready else view.links(session.needle, session.grid, mode, host.loaded)
        return (status, self._maps(session, mode), links, gr.update(visible=not busy), gr.update(visible=busy))


def _stopped(session: Session, mode: str) -> str:
    return _line(f"Stopped; {needle_run.summary(session, mode)} Run goes on from here.", spinning=False)


def _line(words: str, spinning: bool = True) -> str:
    sign = tag("span", class_="dh-spinner") if spinning else ""
    return tag("div", sign, tag("span", text(words)), class_="dh-progress", role="status") if words else ""
