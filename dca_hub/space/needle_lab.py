"""The tab where a model's memory is tested: needles in haystacks."""

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from dca_hub.errors import UserError
from dca_hub.evaluation import needle
from dca_hub.evaluation.needle import Grid
from dca_hub.space import needle_view as view
from dca_hub.space.context import AT_ONCE, MODEL_LANE, PAGES_LANE, PRIVATE, Context
from dca_hub.space.markup import notice, tag, text
from dca_hub.space.places import clicked, place, uploads_only
from dca_hub.space.sessions import Session
from dca_hub.space.turns import SIDES

MODES = [("DCA", "dca"), ("Plain", "plain"), ("Both", "both")]
HAYSTACKS = [("Prose", "prose"), ("Grass", "grass"), ("My own text", "own")]
_MULTIPLES = (0.5, 1, 2, 4, 8, 16, 32)
_USUAL = (0.5, 1, 2, 4, 8)
_LONGEST_TEXT = 2_000_000  # characters of one's own haystack
_LARGEST_FILE = 20_000_000  # bytes of results that are loaded


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
            **MODEL_LANE,
            **PRIVATE,
        )
        p.stop.click(self.stop, p.mode, shown, **AT_ONCE, **PRIVATE)
        p.stop.click(None, cancels=[running])
        p.clear.click(self.clear, None, [*shown, p.detail], **AT_ONCE, **PRIVATE)
        p.maps.click(self.show_cell, None, p.detail, **AT_ONCE, **PRIVATE)
        p.load.upload(
            self.load, [p.load, p.mode], [*shown, p.lengths, p.mode], show_progress="hidden", **PAGES_LANE, **PRIVATE
        )

    def begin(self, lengths, depths, trials, haystack, own, mode, request: gr.Request) -> tuple:
        """Checks what was chosen and shows the empty map."""
        session = self.context.session(request)
        try:
            if session.busy:
                raise UserError("The model still works on your last request: wait for it, or stop it.")
            grid = self._grid(lengths, depths, trials, haystack, own, mode)
        except UserError as error:
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
        session.grid_ready = False
        job = session.job = self.context.lane.submit(lambda tell: self._work(session, mode, own or "", tell))
        problem = ""
        try:
            for words, running, new in job.events():
                maps = self._maps(session, mode, running) if new else gr.skip()
                yield (_line(words), maps, *[gr.skip()] * 3)
        except UserError as error:
            problem = notice(str(error), "error")
        words = (
            _stopped(session, mode) if job.stopped and not problem else _line(_summary(session, mode), spinning=False)
        )
        yield self._shown(session, mode, problem or words)

    def stop(self, mode: str, request: gr.Request) -> tuple:
        session = self.context.session(request)
        session.grid_ready = False
        if session.job is not None:
            session.job.stop()
            session.job.wait(5)
        return self._shown(session, mode, _stopped(session, mode))

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

    def load(self, path: str, mode: str, request: gr.Request) -> tuple:
        """Results of an earlier run, to be shown and gone on with."""
        session = self.context.session(request)
        try:
            results = _read_results(path)
            unlike = {(r.model, r.haystack, r.seed) for r in results}
            if len(unlike) != 1:
                raise UserError("The file mixes models or haystacks: give the results of one run.")
        except UserError as error:
            return (notice(str(error), "error"), *[gr.skip()] * 6)
        trials = 1 + max(r.trial for r in results)
        session.grid = Grid(
            tuple(r.length for r in results), tuple(r.depth for r in results), trials, results[0].haystack
        )
        session.needle[:] = results
        sides = {r.dca for r in results}
        mode = "both" if len(sides) == 2 else "dca" if True in sides else "plain"
        words = notice(f"{len(results):,} results of {results[0].model}: Run measures what is missing.")
        known, _ = lengths_for(self.context)
        choices = sorted({*(value for _, value in known), *session.grid.lengths})
        update = gr.update(choices=[(f"{n:,}", n) for n in choices], value=list(session.grid.lengths))
        return (*self._shown(session, mode, words), update, mode)

    def _grid(self, lengths, depths, trials, haystack, own, mode) -> Grid:
        if haystack not in {value for _, value in HAYSTACKS} or mode not in SIDES:
            raise UserError("Choose a haystack and an attention from the list.")
        grid = Grid(tuple(int(n) for n in lengths or ()), needle.spread(int(depths)), int(trials), haystack)
        prompts = grid.prompts * len(SIDES[mode])
        if prompts > self.context.settings.max_cells:
            raise UserError(
                f"That is {prompts:,} prompts, more than the {self.context.settings.max_cells:,} of one run: "
                "choose fewer lengths, depths or trials."
            )
        most = self.context.host.fits()
        if max(grid.lengths) > most:
            raise UserError(f"{max(grid.lengths):,} tokens do not fit in memory here: choose at most {most:,}.")
        if haystack == "own":  # a text has its own name, so that results of another one are not taken for its
            text_of = needle.haystack_text(haystack, own or "")
            return dataclasses.replace(grid, haystack=f"own-{hashlib.sha256(text_of.encode()).hexdigest()[:8]}")
        return grid

    def _work(self, session: Session, mode: str, own: str, tell) -> None:
        loaded, grid = self.context.host.loaded, session.grid
        session.needle[:] = [r for r in session.needle if r.model == loaded.name]
        longest = max(grid.lengths)
        self.context.sessions.make_room(longest * loaded.cache_bytes_per_token, session)
        total, order = grid.prompts * len(SIDES[mode]), list(grid.places())
        for side in SIDES[mode]:
            model, dca = (loaded.model, True) if side == "dca" else (loaded.base, False)
            known = {r.place[-3:] for r in session.needle if r.dca == dca}
            waiting = iter([key for key in order if key not in known])
            at = _Position(side, next(waiting, None))

            def progress(done: int, of: int, at=at) -> None:
                tell((f"{at.words()}: {done:,} of {of:,} tokens read · {_done(session, grid, mode)} of {total} prompts",
                      at.key(), at.fresh()))  # fmt: skip

            for result in needle.run(
                model, loaded.tokenizer, grid, name=loaded.name, dca=dca, text=own,
                done=list(session.needle), progress=progress,
            ):  # fmt: skip
                session.needle.append(result)
                at.go_to(next(waiting, None))
                tell((f"{_done(session, grid, mode)} of {total} prompts", at.key(), True))

    def _maps(self, session: Session, mode: str, running: str = "") -> str:
        trained = self.context.host.loaded.trained if self.context.host.ready else 0
        return view.maps(session.needle, session.grid, trained, SIDES.get(mode, SIDES["both"]), running)

    def _shown(self, session: Session, mode: str, status: str, busy: bool = False) -> tuple:
        host = self.context.host
        links = "" if busy or not host.ready else view.links(
            session.needle, session.grid, host.loaded.trained, host.loaded.name
        )  # fmt: skip
        return (status, self._maps(session, mode), links, gr.update(visible=not busy), gr.update(visible=busy))


class _Position:
    """The prompt that is being asked."""

    def __init__(self, side: str, place: tuple | None):
        self.side, self.place, self._told = side, place, False

    def go_to(self, place: tuple | None) -> None:
        self.place, self._told = place, True

    def key(self) -> str:
        return view.key_of(self.side, *self.place[:2]) if self.place else ""

    def fresh(self) -> bool:
        """Whether the map does not show this prompt as running yet."""
        told, self._told = self._told, True
        return not told

    def words(self) -> str:
        length, depth, _ = self.place or (0, 0, 0)
        return f"{'DCA' if self.side == 'dca' else 'Plain'}, {length:,} tokens, depth {100 * depth:.0f} %"


def _done(session: Session, grid: Grid, mode: str) -> int:
    wanted = set(grid.places())
    return sum(r.place[-3:] in wanted and ("dca" if r.dca else "plain") in SIDES[mode] for r in session.needle)


def _summary(session: Session, mode: str) -> str:
    if session.grid is None:
        return ""
    total = session.grid.prompts * len(SIDES.get(mode, SIDES["both"]))
    return f"{_done(session, session.grid, mode if mode in SIDES else 'both')} of {total} prompts are done."


def _stopped(session: Session, mode: str) -> str:
    return _line(f"Stopped; {_summary(session, mode)} Run goes on from here.", spinning=False)


def _line(words: str, spinning: bool = True) -> str:
    sign = tag("span", class_="dh-spinner") if spinning else ""
    return tag("div", sign, tag("span", text(words)), class_="dh-progress", role="status") if words else ""


def _read_results(path: str) -> list[needle.Result]:
    file = Path(path)
    if file.stat().st_size > _LARGEST_FILE:
        raise UserError("The file is too large to be the results of a needle test.")
    results = needle.from_lines(file.read_text(encoding="utf-8", errors="replace").splitlines())
    if not results:
        raise UserError("The file holds no results: give the one that a run has written.")
    return results
