"""The tab where the model is chosen and loaded."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from gradio.events import Dependency
from markupsafe import Markup

from dca_hub import catalogue
from dca_hub.errors import DcaHubError
from dca_hub.progress import LoadProgress
from dca_hub.space import host as hosts
from dca_hub.space.context import AT_ONCE, PRIVATE, Context
from dca_hub.space.failures import sentence
from dca_hub.space.lane import QUIET, Job, Tell, aside
from dca_hub.space.machine import Machine
from dca_hub.space.markup import amount, bar, notice, scrolls, seconds, tag
from dca_hub.space.sessions import Session
from dca_hub.space.stoppable import StoppableRun, Updates
from dca_hub.space.widgets import html_slot

_QUANTIZATIONS = [("none", ""), ("8-bit", "8bit"), ("4-bit", "4bit")]
_FOR_ALL = (
    "Everyone here shares one model. Loading another changes it for all visitors, and their documents are read again."
)
_TICK = 0.1  # seconds from one sight of the progress to the next
_STOPPING = object()


def build(context: Context) -> tuple[Dependency, "Parts"]:
    """Lays the tab out and connects it; gives the event of a model that was loaded, and what follows the model."""
    settings = context.settings
    names = settings.choices()
    begin = names[0]
    devices = hosts.devices()
    offered = _Offered(context, names, devices[0])
    wanted = offered.wanted
    gr.HTML(tag("p", _FOR_ALL, class_="dh-words-wide"), apply_default_css=False, elem_classes="dh-place")
    get = gr.Button(
        f"Get a model that understands: {wanted.name}, {amount(wanted.weights_bytes(wanted.dtype))}" if wanted else "",
        variant="primary", visible=wanted is not None, elem_id="model-get",
    )  # fmt: skip
    with gr.Row(elem_id="model-row"):
        with gr.Column(scale=4, min_width=290):
            name = gr.Dropdown(
                [(_shown_name(n), n) for n in offered.order], value=begin, label="Model", elem_id="model-name",
                filterable=True,
            )  # fmt: skip
            other = gr.Textbox(
                label="Or a Hub id or a folder", placeholder="owner/name", max_lines=1, elem_id="model-other",
                visible=settings.any_model,
            )  # fmt: skip
            can = hosts.can_quantize()
            quantization = gr.Radio(
                _QUANTIZATIONS if can else _QUANTIZATIONS[:1], value="", label="Quantization of the weights",
                info=None if can else "bitsandbytes is not installed here, so weights stay as they are.",
                elem_id="model-quantization",
            )  # fmt: skip
            device = gr.Radio(devices, value=devices[0], label="Device", elem_id="model-device")
            with gr.Row():
                load = gr.Button("Load for everybody", variant="primary", elem_id="model-load")
                stop = gr.Button("Stop", variant="stop", elem_id="model-stop", visible=False)
        with gr.Column(scale=7, min_width=320):
            state_place = html_slot("model-state", state(context))
            facts = html_slot("model-facts", _facts(begin, "", devices[0], context))
    with gr.Accordion("Models that fit this machine", open=len(offered.fitting) <= 12, elem_id="model-all"):
        table = html_slot("model-table", offered.table())
    with gr.Accordion("Too large for this machine", open=False, elem_id="model-large", visible=bool(offered.others)):
        html_slot("model-large-table", _table(offered.others, offered.machine))

    def show(name: str, other: str, quantization: str, device: str) -> str:
        return _facts((other or "").strip() if settings.any_model and other else name, quantization, device, context)

    chosen = [name, other, quantization, device]
    gr.on([part.change for part in chosen], show, chosen, facts, **AT_ONCE, **PRIVATE)
    running = StoppableRun(context, load, stop, state_place, [state_place], what="loading")
    tab = _Model(context, state_place)
    loading = running.on([load.click], tab.load, chosen)
    parts = Parts(offered, state_place, table, get)
    if wanted is not None:
        got = running.on([get.click], lambda session, device: tab.load(session, wanted.name, "", "", device), device)
        parts.got = got
    running.stops()
    return loading, parts


class _Offered:
    """The models of the list: those that fit this machine, those that do not, and the one that is recommended."""

    def __init__(self, context: Context, names: list[str], device: str):
        host = context.host
        self.machine = Machine(device, context.settings.dtype, host.freed(device), host.paces)
        entries = [entry for entry in map(catalogue.get, names) if entry is not None]
        self.unknown = [name for name in names if catalogue.get(name) is None]
        self.fitting, self.others = self.machine.sorted(entries)
        self.wanted = self.machine.recommended(entries) if len(names) > 1 else None

    @property
    def order(self) -> list[str]:
        fitting, others = ([entry.name for entry in entries] for entries in (self.fitting, self.others))
        return [*fitting, *self.unknown, *others]

    def table(self) -> Markup:
        return _table(sorted(self.fitting, key=self.machine.seconds), self.machine) + _others(self.unknown)


@dataclass
class Parts:
    """What follows the model. got: the event of the recommended model's button, if there is one."""

    offered: _Offered
    state: gr.HTML
    table: gr.HTML
    get: gr.Button
    got: Dependency | None = None

    def follow(self, context: Context, keep_state: bool) -> Updates:
        """keep_state: whether the card of the loaded model stays as it is."""
        wanted = self.offered.wanted
        has_it = wanted is None or context.host.loaded.name == wanted.name
        return {
            self.state: gr.skip() if keep_state else state(context),
            self.table: self.offered.table(),
            self.get: gr.update(visible=not has_it),
        }

    @property
    def outputs(self) -> list[gr.components.Component]:
        return [self.state, self.table, self.get]


class _Model:
    """The loading, with its progress."""

    def __init__(self, context: Context, state: gr.HTML):
        self.context, self.state = context, state

    def load(self, session: Session, name: str, other: str, quantization: str, device: str) -> Iterator[Updates]:
        """Fetches and loads the chosen model; Stop brings the one before back."""
        c = self.context
        try:
            choice = self._choice(name, other, quantization, device)
        except DcaHubError as error:
            yield {self.state: notice(sentence(error), "error") + state(c)}
            return
        shown, told, problem = _shown_name(choice.name), 0.0, ""

        def work(tell: Tell) -> None:
            # The download needs no model: meanwhile the others go on with the one that is loaded.
            c.host.fetch(choice, tell)
            c.lane.run_within(job, lambda tell: c.host.change(choice, tell))

        job = session.loading = Job(work)
        yield {self.state: _line(f"Waiting to load {shown}")}
        try:
            for progress in aside(job).events(stopping=_STOPPING):
                if progress is _STOPPING:
                    before = "" if c.host.ready else "; the previous model comes back"
                    yield {self.state: _line(f"Stopping{before}")}
                elif progress is QUIET:
                    yield {self.state: gr.skip()}
                elif time.monotonic() - told > _TICK and not job.stopped:
                    told = time.monotonic()
                    yield {self.state: _progress(shown, progress)}
        except Exception as error:
            problem = notice(sentence(error), "error")
        finally:
            session.shown_generation = c.host.generation  # first: the page's timer then leaves what is said below
            session.loading = None
        if job.stopped and not problem:
            problem = notice(f"Stopped: {shown} was not loaded.")
        if c.host.ready and not problem:
            c.answers.read_example()
        yield {self.state: problem + state(c)}

    def _choice(self, name: str, other: str, quantization: str, device: str) -> hosts.Choice:
        """What is meant. Raises DcaHubError for a choice that is none."""
        settings, other = self.context.settings, (other or "").strip()
        wanted = other if settings.any_model and other else (name or "")
        self.context.host.check(wanted)
        if quantization not in ("", "8bit", "4bit") or device not in hosts.devices():
            raise DcaHubError("Choose a quantization and a device from the list.")
        return hosts.Choice(wanted, quantization or None, device)


def _line(words: str) -> str:
    return tag("div", tag("span", class_="dh-spinner"), tag("span", words), class_="dh-progress", role="status")


def _progress(name: str, progress: LoadProgress) -> str:
    done, total = progress.done, progress.total
    if not total:
        return _line(f"Asking the Hub for {name}")
    if progress.stage == "downloading":
        words, count = f"Downloading {name}", f"{amount(done)} of {amount(total)}"
    else:
        words, count = f"Loading {name}", f"{done:,} of {total:,} tensors"
    return bar(words, count, done / total)


def _shown_name(name: str) -> str:
    return Path(name).name if Path(name).is_dir() else name


def state(context: Context) -> Markup:
    """What is loaded now."""
    if not context.host.ready:
        return notice("No model is loaded: choose one.", "warning")
    loaded, quantized = context.host.loaded, context.host.quantization
    geometry = loaded.geometry
    facts = [
        ("Trained at", f"{loaded.trained:,} tokens"),
        ("Reach with DCA", f"{loaded.context:,} tokens"),
        ("Memory allows", f"{context.host.fits():,} tokens here"),
        ("Sizes", f"C = {geometry.chunk_size:,}, w = {geometry.local_size:,}, chunks of {geometry.chunk_length:,}"),
        ("Runs on", f"{loaded.device}, {quantized}" if quantized else loaded.runs_on),
    ]
    title = tag("h2", tag("span", "Loaded", class_="dh-badge"), loaded.name)
    return tag("section", title, _definitions(facts), class_="dh-card", id="loaded-model", data_name=loaded.name)


def _facts(name: str, quantization: str, device: str, context: Context) -> str:
    """What a model needs, before it is loaded."""
    entry = catalogue.get(name or "")
    if entry is None:
        words = "Not in the catalogue: its size is checked against the memory when it is loaded."
        return tag("section", _chosen(_shown_name(name or "")), tag("p", words, class_="dh-hint"), class_="dh-card")
    dtype = Machine(device, context.settings.dtype).runs_in(entry)
    weights = entry.weights_bytes(dtype, quantization or None)
    reach = entry.longest_reach
    facts = [
        ("Download", "included" if entry.is_local else amount(entry.weights_bytes(entry.dtype))),
        ("Memory", f"{amount(weights)} for the weights, {amount(1000 * entry.cache_bytes_per_token(dtype))} "
                   "for each 1,000 tokens"),
        ("Trained at", f"{entry.trained:,} tokens"),
        ("With DCA", f"{reach.stated} ({reach.by})" if reach else "not measured yet"),
        ("License", entry.license + (", gated: accept it on the model's Hub page first" if entry.gated else "")),
        ("Sizes from", entry.dca.source),
    ]  # fmt: skip
    base = "" if entry.is_local else tag("p", entry.base, class_="dh-label")
    return tag(
        "section", _chosen(entry.name), base, _definitions(facts),
        tag("p", entry.notes, class_="dh-hint"), class_="dh-card",
    )  # fmt: skip


def _chosen(name: str) -> Markup:
    return tag("h2", tag("span", "Chosen", class_="dh-badge"), name)


def _definitions(facts: list[tuple[str, str]]) -> str:
    rows = [tag("div", tag("dt", head), tag("dd", words)) for head, words in facts]
    return tag("dl", *rows, class_="dh-facts-list")


def _table(entries: list[catalogue.Entry], machine: Machine) -> Markup:
    """What each model takes here, and how long it reads."""
    heads = ("Model", "Download", "Reading 1,000 tokens", "Memory for 1,000 tokens", "Trained", "With DCA", "License")
    rows = [tag("tr", *(tag("th", head, scope="col") for head in heads))]
    for entry in entries:
        reach = entry.longest_reach
        cells = (
            "included" if entry.is_local else amount(entry.weights_bytes(entry.dtype)),
            f"{seconds(machine.seconds(entry))}, measured"
            if machine.measured(entry) is not None
            else f"about {seconds(machine.seconds(entry))}"
            if machine.fits(entry)
            else f"does not fit: {amount(machine.needs(entry))}",
            amount(1000 * entry.cache_bytes_per_token(machine.runs_in(entry))),
            f"{entry.trained:,}",
            reach.stated if reach else "-",
            entry.license + (", gated" if entry.gated else ""),
        )
        rows.append(tag("tr", tag("th", entry.name, scope="row"), *(tag("td", cell) for cell in cells)))
    return scrolls("Models", tag("table", tag("tbody", *rows), class_="dh-table dh-models"))


def _others(names: list[str]) -> Markup | str:
    """Models that are no catalogue's, of which nothing is known beforehand."""
    return tag("p", "Also: ", ", ".join(map(_shown_name, names)), class_="dh-hint") if names else ""
