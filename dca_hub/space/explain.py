"""The tab that shows what Dual Chunk Attention does: positions as a picture, and what it does to perplexity."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr
from markupsafe import Markup

from dca_hub.control_tokens import opening_tokens
from dca_hub.errors import DcaHubError
from dca_hub.evaluation import needle, perplexity
from dca_hub.loading import Loaded
from dca_hub.space import picture, run_bounds
from dca_hub.space.context import AT_ONCE, PRIVATE, Context
from dca_hub.space.lane import QUIET, Rank, Tell, Waiting
from dca_hub.space.markup import download, notice, scrolls, tag
from dca_hub.space.sessions import Session
from dca_hub.space.stoppable import StoppableRun, Updates, in_line
from dca_hub.space.widgets import html_slot

_SCORED, _WINDOWS = 128, 4
_PIECE = 512  # tokens between two looks at Stop
_MULTIPLES = (0.5, 1, 2, 4, 8, 16)
_USUAL = (0.5, 1, 2, 4, 8)

_DRAWN = 16  # cells of a picture for the trained length

# The name, the label, the least and the greatest value.
_SLIDERS = (
    ("trained", "L, trained length", 4, 64),
    ("chunk", "C, largest distance", 2, 64),
    ("local", "w, exact across a border", 0, 32),
    ("length", "Length of the text", 4, picture.LONGEST),
)

_WORDS = (
    "A model with rotary positions knows only the distances it met in training. Dual Chunk Attention cuts the text "
    "into chunks of s = C − w tokens and numbers the keys of each chunk from 0 again. A query is then placed in one "
    "of three ways, by how its chunk lies to the key's, so that no distance exceeds C, and C is at most L, the "
    "trained length. Nothing is trained, and up to s tokens it is the plain model, bit for bit."
)

_DRAW = """
const draw = () => window.dcaDrawPictures?.(element);
watch('value', draw);
setTimeout(draw, 0);
new ResizeObserver(draw).observe(element);
"""


def build(context: Context) -> "Parts":
    """Lays the tab out and connects it; gives what follows the model."""
    gr.HTML(tag("p", _WORDS, class_="dh-words-wide"), apply_default_css=False, elem_classes="dh-place")
    begin = drawn_sizes(context)
    about = html_slot("picture-model", _about(context))
    with gr.Row():
        sliders = [
            gr.Slider(least, most, value=value, step=1, label=label, elem_id=f"slider-{name}", min_width=250)
            for (name, label, least, most), value in zip(_SLIDERS, begin, strict=True)
        ]
    shown = html_slot("picture", _picture(*begin), script=_DRAW)
    changes = [slider.change for slider in sliders]
    gr.on(changes, _draw, sliders, shown, trigger_mode="always_last", **AT_ONCE, **PRIVATE)
    for (name, *_), slider in zip(_SLIDERS, sliders, strict=True):
        slider.change(functools.partial(_settle, name), sliders, sliders, **AT_ONCE, **PRIVATE)
    lengths = _build_curve(context)
    return Parts(lengths, sliders, about)


@dataclass
class Parts:
    """What follows the model."""

    lengths: gr.CheckboxGroup
    sliders: list[gr.Slider]
    about: gr.HTML

    def follow(self, context: Context) -> Updates:
        choices, usual = lengths_for(context)
        sizes = dict(zip(self.sliders, drawn_sizes(context), strict=True))
        return {self.lengths: gr.update(choices=choices, value=usual), self.about: _about(context), **sizes}

    @property
    def outputs(self) -> list[gr.components.Component]:
        return [self.lengths, self.about, *self.sliders]


def drawn_sizes(context: Context) -> tuple[int, int, int, int]:
    """L, C, w and a length, in the loaded model's proportions, as small as can be drawn."""
    geometry = context.host.loaded.geometry
    scale = geometry.pretraining_length / _DRAWN
    most = _DRAWN - (geometry.chunk_size < geometry.pretraining_length)  # below L where the model's C is
    chunk = min(most, max(2, round(geometry.chunk_size / scale)))
    length = min(chunk, max(1, round(geometry.chunk_length / scale)))
    return _DRAWN, chunk, chunk - length, 2 * _DRAWN


def _about(context: Context) -> Markup:
    loaded = context.host.loaded
    sizes, scale = loaded.geometry, loaded.geometry.pretraining_length / _DRAWN
    words = (
        f"Drawn in the proportions of {loaded.name}: L = {sizes.pretraining_length:,}, C = {sizes.chunk_size:,}, "
        f"w = {sizes.local_size:,}, so chunks of s = {sizes.chunk_length:,} tokens. "
        f"One cell stands for {scale:,.0f} of them."
    )
    return tag("p", words, class_="dh-hint")


def _build_curve(context: Context) -> gr.CheckboxGroup:
    gr.HTML(
        tag("h2", "Perplexity against length") + tag(
            "p", "How surprised the loaded model is by the words of a novel, by how much of it came before: lower is "
            "better. The same tokens are scored at every length.", class_="dh-hint"),
        apply_default_css=False, elem_classes="dh-place dh-section",
    )  # fmt: skip
    with gr.Row(elem_id="curve-row"):
        choices, usual = lengths_for(context)
        lengths = gr.CheckboxGroup(choices, value=usual, label="Lengths, in tokens", elem_id="curve-lengths", scale=6)
        run = gr.Button("Measure", variant="primary", elem_id="curve-run", scale=1, min_width=110)
        stop = gr.Button("Stop", variant="stop", visible=False, elem_id="curve-stop", scale=1, min_width=110)
    curve = html_slot("curve")
    running = StoppableRun(context, run, stop, curve, [curve])
    running.on([run.click], _Curve(context, curve).run, lengths)
    running.stops()
    return lengths


def lengths_for(context: Context) -> tuple[list[tuple[str, int]], list[int]]:
    """The lengths to choose from, and those chosen at first."""
    trained = context.host.loaded.trained
    most = min(context.host.fits(), _tokens(context), run_bounds.longest(context.host))
    fitting = [m for m in _MULTIPLES if _SCORED < m * trained <= most]
    choices = [(f"{int(m * trained):,} ({m:g}×)", int(m * trained)) for m in fitting]
    return choices, [int(m * trained) for m in fitting if m in _USUAL]


def _tokens(context: Context) -> int:
    return context.host.count(needle.haystack_text("prose"))


def _picture(trained: float, chunk: float, local: float, length: float) -> str:
    return picture.picture(picture.geometry(trained, chunk, local), min(max(2, int(length)), picture.LONGEST))


def _draw(trained: float, chunk: float, local: float, length: float) -> str:
    """The picture of sizes that describe one, whatever the sliders say on the way there."""
    return _picture(*_settled("length", trained, chunk, local, length))


def _settle(moved: str, *sizes: float) -> list:
    """Only what changes: a slider that is still being dragged must not be set back to where it was."""
    return [gr.skip() if now == was else now for now, was in zip(_settled(moved, *sizes), sizes, strict=True)]


def _settled(moved: str, trained: float, chunk: float, local: float, length: float) -> list[int]:
    """The sizes with room for the one that was moved, so that w < C and C <= L always."""
    bounds_of = {name: (low, high) for name, _, low, high in _SLIDERS}
    sizes = {"trained": trained, "chunk": chunk, "local": local, "length": length}
    sizes = {name: int(min(max(size or 0, bounds_of[name][0]), bounds_of[name][1])) for name, size in sizes.items()}
    if moved == "local":
        sizes["chunk"] = max(sizes["chunk"], sizes["local"] + 1)
    if moved in ("local", "chunk"):
        sizes["trained"] = max(sizes["trained"], sizes["chunk"])
    sizes["chunk"] = min(sizes["chunk"], sizes["trained"])
    sizes["local"] = min(sizes["local"], sizes["chunk"] - 1)
    return list(sizes.values())


class _Curve:
    """The events of the perplexity curve."""

    def __init__(self, context: Context, curve: gr.HTML):
        self.context, self.curve = context, curve

    def run(self, session: Session, lengths: list[int]) -> Iterator[Updates]:
        """Measures both models over the chosen lengths."""
        chosen = self._chosen(lengths)
        yield {self.curve: _progress("Waiting for the model", 0, 1)}
        curves: dict[str, list] = {}
        job = session.job = self.context.lane.submit(
            lambda tell: self._work(chosen, curves, tell), Rank.LAB, most=self.context.settings.job_seconds
        )
        for event in job.events(stopping=("Stopping", 0, 1)):
            if isinstance(event, Waiting):
                yield {self.curve: _progress(f"Waiting for the model: {in_line(event)}", 0, 1)}
            elif event is not QUIET:
                yield {self.curve: _progress(*event)}
        yield {self.curve: notice("Stopped.") if job.stopped else self._chart(curves)}

    def _chosen(self, lengths: list[int]) -> list[int]:
        allowed = {value for _, value in lengths_for(self.context)[0]}
        chosen = sorted({n for n in lengths or () if n in allowed})
        if not chosen:
            raise DcaHubError("Choose at least one length.")
        run_bounds.refuse_tokens(2 * _WINDOWS * sum(chosen), self.context.settings)
        return chosen

    def _work(self, chosen: list[int], curves: dict, tell: Tell) -> None:
        loaded = self.context.host.loaded
        with self.context.host.reserve(max(chosen)):  # others use the model between two pieces
            self._measure(loaded, chosen, curves, tell)

    def _measure(self, loaded: Loaded, chosen: list[int], curves: dict, tell: Tell) -> None:
        ids = loaded.tokenizer.encode(needle.haystack_text("prose"), add_special_tokens=False)
        bos = next(iter(opening_tokens(loaded.tokenizer)), None)
        for name, model in (("DCA", loaded.model), ("plain", loaded.base)):
            tell((name, 0, 1))
            found = perplexity.measure(
                model, ids, chosen, bos=bos, scored=_SCORED, windows=_WINDOWS, piece=_PIECE,
                progress=lambda done, total, name=name: tell((name, done, total)),
            )  # fmt: skip
            curves[name] = [(p.context, p.value) for p in found]

    def _chart(self, curves: dict[str, list]) -> str:
        if "DCA" not in curves or "plain" not in curves:
            return notice("Stopped before the curve was whole.")
        from dca_hub.evaluation import plots  # matplotlib takes a second to load, which the start need not wait for

        trained = self.context.host.loaded.trained
        drawn = plots.perplexity_curve(curves, trained, kind="svg", ink="#7b8894").decode()
        drawn = Markup(drawn[drawn.index("<svg") :])
        png = download("PNG", "perplexity.png", plots.perplexity_curve(curves, trained), "image/png", id="curve-png")
        head = tag("tr", tag("th", "Context", scope="col"), *(tag("th", n, scope="col") for n in curves))
        rows = [
            tag(
                "tr",
                tag("th", f"{length:,}", scope="row"),
                *(tag("td", f"{dict(curves[n])[length]:,.1f}") for n in curves),
            )
            for length, _ in curves["DCA"]
        ]
        table = tag("table", tag("tbody", head, *rows), class_="dh-table")
        label = "Perplexity by context length, with DCA and plain"
        chart = scrolls(label, tag("div", drawn, role="img", aria_label=label))
        return tag(
            "div", tag("div", chart, class_="dh-chart"), tag("div", table, png, class_="dh-beside"), class_="dh-curve"
        )


def _progress(name: str, done: int, total: int) -> str:
    share = 100 * done / max(1, total)
    words = f"Measuring, {name}: {done:,} of {total:,} tokens read" if done else f"{name}"
    bar = tag("span", tag("span", class_="dh-fill dh-within", style=f"width:{share:.1f}%"), class_="dh-track")
    return tag("div", tag("span", tag("span", words), class_="dh-bar-head"), bar, class_="dh-bar")
