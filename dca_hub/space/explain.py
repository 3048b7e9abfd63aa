"""The tab that shows what Dual Chunk Attention does: positions as a picture, and what it does to perplexity."""

from collections.abc import Iterator

import gradio as gr

from dca_hub.errors import DcaHubError
from dca_hub.evaluation import needle, perplexity
from dca_hub.space import picture
from dca_hub.space.context import AT_ONCE, MODEL_LANE, PRIVATE, Context
from dca_hub.space.failures import FULL, sentence
from dca_hub.space.markup import download, notice, tag, text
from dca_hub.space.places import place
from dca_hub.space.sessions import Session

_SCORED, _WINDOWS = 128, 4
_PIECE = 512  # tokens between two looks at Stop
_MULTIPLES = (0.5, 1, 2, 4, 8, 16)
_USUAL = (0.5, 1, 2, 4, 8)

# The name, the label, the least and the greatest value, and the first one.
_SLIDERS = (
    ("trained", "L, trained length", 4, 64, 16),
    ("chunk", "C, largest distance", 2, 64, 12),
    ("local", "w, exact across a border", 0, 32, 4),
    ("length", "Length of the text", 4, picture.LONGEST, 32),
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


def build(context: Context) -> gr.CheckboxGroup:
    """Lays the tab out and connects it; gives the lengths of the perplexity curve, whose choices follow the model."""
    gr.HTML(tag("p", text(_WORDS), class_="dh-words-wide"), apply_default_css=False, elem_classes="dh-place")
    with gr.Row():
        sliders = [
            gr.Slider(least, most, value=value, step=1, label=label, elem_id=f"slider-{name}", min_width=250)
            for name, label, least, most, value in _SLIDERS
        ]
    problem = place("picture-problem")
    shown = place("picture", _picture(*(slider[-1] for slider in _SLIDERS)), script=_DRAW)
    gr.on([slider.change for slider in sliders], _redraw, sliders, [shown, problem], trigger_mode="always_last",
          **AT_ONCE, **PRIVATE)  # fmt: skip
    return _build_curve(context)


def _build_curve(context: Context) -> gr.CheckboxGroup:
    gr.HTML(
        tag("h2", "Perplexity against length") + tag(
            "p", "How surprised the loaded model is by a novel, by how much of it stands before: lower is better. "
            "The same tokens are scored at every length.", class_="dh-hint"),
        apply_default_css=False, elem_classes="dh-place dh-section",
    )  # fmt: skip
    with gr.Row(elem_id="curve-row"):
        choices, usual = lengths_for(context)
        lengths = gr.CheckboxGroup(choices, value=usual, label="Lengths, in tokens", elem_id="curve-lengths", scale=6)
        run = gr.Button("Measure", variant="primary", elem_id="curve-run", scale=1, min_width=110)
        stop = gr.Button("Stop", variant="stop", visible=False, elem_id="curve-stop", scale=1, min_width=110)
    curve = place("curve")
    tab = _Curve(context)
    outputs = [curve, run, stop]
    begun = run.click(tab.begin, None, outputs, **AT_ONCE, **PRIVATE)
    running = begun.success(
        tab.run,
        lengths,
        outputs,
        show_progress="minimal",
        show_progress_on=curve,
        trigger_mode="multiple",  # the one before may not quite have ended when it was stopped
        **MODEL_LANE,
        **PRIVATE,
    )
    running.failure(tab.turned_away, None, outputs, **AT_ONCE, **PRIVATE)
    stop.click(tab.stop, None, outputs, **AT_ONCE, **PRIVATE)
    return lengths


def lengths_for(context: Context) -> tuple[list[tuple[str, int]], list[int]]:
    """The lengths to choose from, and those chosen at first."""
    trained = context.host.loaded.trained
    most = min(context.host.fits(), _tokens(context))
    fitting = [m for m in _MULTIPLES if _SCORED < m * trained <= most]
    choices = [(f"{int(m * trained):,} ({m:g}×)", int(m * trained)) for m in fitting]
    return choices, [int(m * trained) for m in fitting if m in _USUAL]


def _tokens(context: Context) -> int:
    return context.host.count(needle.haystack_text("prose"))


def _picture(trained: float, chunk: float, local: float, length: float) -> str:
    return picture.picture(picture.geometry(trained, chunk, local), min(max(2, int(length)), picture.LONGEST))


def _redraw(trained: float, chunk: float, local: float, length: float) -> tuple:
    try:
        return _picture(trained, chunk, local, length), ""
    except DcaHubError as error:
        return gr.skip(), notice(str(error), "warning")


class _Curve:
    """The events of the perplexity curve."""

    def __init__(self, context: Context):
        self.context = context

    def begin(self, request: gr.Request) -> tuple:
        session = self.context.session(request)
        if session.busy:
            raise gr.Error(
                "The model still works on your last request: wait for it, or stop it.", print_exception=False
            )
        session.curve_asked = True
        return _progress("Waiting for the model", 0, 1), gr.update(visible=False), gr.update(visible=True)

    def run(self, lengths: list[int], request: gr.Request) -> Iterator[tuple]:
        session = self.context.session(request)
        if not session.curve_asked:
            yield (gr.skip(),) * 3  # stopped while it waited; a generator that yields nothing would empty its outputs
            return
        session.curve_asked = False
        curves: dict[str, list] = {}
        job = session.job = self.context.lane.submit(lambda tell: self._work(lengths, curves, tell))
        problem = ""
        try:
            for name, done, total in job.events(stopping=("Stopping", 0, 1)):
                yield _progress(name, done, total), gr.skip(), gr.skip()
        except Exception as error:
            problem = notice(sentence(error), "error")
        chart = notice("Stopped.") if job.stopped else self._chart(curves)
        yield (problem or chart, gr.update(visible=True), gr.update(visible=False))

    def turned_away(self, request: gr.Request) -> tuple:
        self.context.session(request).curve_asked = False
        return notice(FULL, "warning"), gr.update(visible=True), gr.update(visible=False)

    def stop(self, request: gr.Request) -> tuple:
        session: Session = self.context.session(request)
        waited, session.curve_asked = session.curve_asked, False
        if session.busy:
            # The run's own event shows the end: a Measure that is clicked before that event is over would not be heard.
            session.job.stop()
            return (gr.skip(),) * 3
        return notice("Stopped.") if waited else gr.skip(), gr.update(visible=True), gr.update(visible=False)

    def _work(self, lengths: list[int], curves: dict, tell) -> None:
        loaded = self.context.host.loaded
        allowed = {value for _, value in lengths_for(self.context)[0]}
        chosen = sorted(int(n) for n in lengths or () if int(n) in allowed)
        if not chosen:
            raise DcaHubError("Choose at least one length.")
        ids = loaded.tokenizer.encode(needle.haystack_text("prose"), add_special_tokens=False)
        for name, model in (("DCA", loaded.model), ("plain", loaded.base)):
            tell((name, 0, 1))
            found = perplexity.measure(
                model, ids, chosen, bos=loaded.tokenizer.bos_token_id, scored=_SCORED, windows=_WINDOWS, piece=_PIECE,
                progress=lambda done, total, name=name: tell((name, done, total)),
            )  # fmt: skip
            curves[name] = [(p.context, p.value) for p in found]

    def _chart(self, curves: dict[str, list]) -> str:
        if "DCA" not in curves or "plain" not in curves:
            return notice("Stopped before the curve was whole.")
        from dca_hub.evaluation import plots  # matplotlib takes a second to load, which the start need not wait for

        trained = self.context.host.loaded.trained
        drawn = plots.perplexity_curve(curves, trained, kind="svg", ink="#7b8894").decode()
        drawn = drawn[drawn.index("<svg") :]
        png = download("PNG", "perplexity.png", plots.perplexity_curve(curves, trained), "image/png", id="curve-png")
        head = tag("tr", tag("th", "Context", scope="col"), *(tag("th", text(n), scope="col") for n in curves))
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
        chart = tag("div", drawn, class_="dh-chart", role="img", aria_label=label)
        return tag("div", chart, tag("div", table, png, class_="dh-beside"), class_="dh-curve")


def _progress(name: str, done: int, total: int) -> str:
    share = 100 * done / max(1, total)
    words = f"Measuring, {name}: {done:,} of {total:,} tokens read" if done else f"{name}"
    bar = tag("span", tag("span", class_="dh-fill dh-within", style=f"width:{share:.1f}%"), class_="dh-track")
    return tag("div", tag("span", tag("span", text(words)), class_="dh-bar-head"), bar, class_="dh-bar")
