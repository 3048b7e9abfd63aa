"""The tab where the model is chosen and loaded."""

import time
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import torch
from gradio.events import Dependency

from dca_hub import catalogue
from dca_hub.devices import usual_dtype
from dca_hub.errors import DcaHubError
from dca_hub.progress import Progress
from dca_hub.space import host as hosts
from dca_hub.space.context import AT_ONCE, LOADING_LANE, PRIVATE, Context
from dca_hub.space.failures import FULL, sentence
from dca_hub.space.lane import Job, Tell, aside
from dca_hub.space.markup import amount, bar, notice, tag, text
from dca_hub.space.places import place
from dca_hub.space.sessions import Session

_QUANTIZATIONS = [("none", ""), ("8-bit", "8bit"), ("4-bit", "4bit")]
_TICK = 0.1  # seconds from one sight of the progress to the next
_STOPPING = object()


def build(context: Context) -> Dependency:
    """Lays the tab out and connects it; gives the event of a model that was loaded."""
    settings = context.settings
    names = settings.choices()
    begin = names[0]
    with gr.Row(elem_id="model-row"):
        with gr.Column(scale=4, min_width=290):
            name = gr.Dropdown(
                [(_shown_name(n), n) for n in names], value=begin, label="Model", elem_id="model-name", filterable=True
            )
            other = gr.Textbox(
                label="or a Hub id, or a folder", placeholder="owner/name", max_lines=1, elem_id="model-other",
                visible=settings.any_model,
            )  # fmt: skip
            can = hosts.can_quantize()
            quantization = gr.Radio(
                _QUANTIZATIONS if can else _QUANTIZATIONS[:1], value="", label="Quantization of the weights",
                info=None if can else "bitsandbytes is not installed here, so weights stay as they are.",
                elem_id="model-quantization",
            )  # fmt: skip
            devices = hosts.devices()
            device = gr.Radio(devices, value=devices[0], label="Device", elem_id="model-device")
            with gr.Row():
                load = gr.Button("Load", variant="primary", elem_id="model-load")
                stop = gr.Button("Stop", variant="stop", elem_id="model-stop", visible=False)
        with gr.Column(scale=7, min_width=320):
            state = place("model-state", _state(context))
            facts = place("model-facts", _facts(begin, "", devices[0], context))
    with gr.Accordion("All models", open=len(names) <= 12, elem_id="model-all"):
        place("model-table", _table(names, devices[0], context))

    def show(name: str, other: str, quantization: str, device: str) -> str:
        return _facts((other or "").strip() if settings.any_model and other else name, quantization, device, context)

    chosen = [name, other, quantization, device]
    gr.on([part.change for part in chosen], show, chosen, facts, **AT_ONCE, **PRIVATE)
    tab = _Model(context)
    shown = [state, load, stop]
    begun = load.click(tab.begin, chosen, shown, **AT_ONCE, **PRIVATE)
    loading = begun.success(tab.load, None, shown, show_progress="hidden", **LOADING_LANE, **PRIVATE)
    loading.failure(tab.turned_away, None, shown, **AT_ONCE, **PRIVATE)
    stop.click(tab.stop, None, None, **AT_ONCE, **PRIVATE)
    return loading


class _Model:
    """The loading, with its progress."""

    def __init__(self, context: Context):
        self.context = context

    def begin(self, name: str, other: str, quantization: str, device: str, request: gr.Request) -> tuple:
        """Answers at once: what is wrong with the choice, or that it has been heard."""
        session = self.context.session(request)
        try:
            choice = self._choice(session, name, other, quantization, device)
        except DcaHubError as error:
            return notice(sentence(error), "error") + _state(self.context), gr.skip(), gr.skip()
        host, lane = self.context.host, self.context.lane

        def work(tell: Tell) -> None:
            # The download needs no model: meanwhile the others go on with the one that is loaded.
            host.fetch(choice, tell)
            lane.run_within(job, lambda tell: host.change(choice, tell))

        job = session.loading = Job(work)
        session.loading_name = _shown_name(choice.name)
        return _line(f"Waiting to load {session.loading_name}"), gr.update(visible=False), gr.update(visible=True)

    def load(self, request: gr.Request) -> Iterator[tuple]:
        session = self.context.session(request)
        job, name, problem, told = session.loading, session.loading_name, "", 0.0
        if job is None or job.begun:  # what was chosen was refused
            yield (gr.skip(),) * 3
            return
        try:
            for progress in aside(job).events(stopping=_STOPPING):
                if progress is _STOPPING:
                    before = "" if self.context.host.ready else "; the model before comes back"
                    yield _line(f"Stopping{before}"), gr.skip(), gr.skip()
                elif time.monotonic() - told > _TICK and not job.stopped:
                    told = time.monotonic()
                    yield _progress(name, progress), gr.skip(), gr.skip()
        except Exception as error:
            problem = notice(sentence(error), "error")
        if job.stopped and not problem:
            problem = notice(f"Stopped: {name} was not loaded.")
        yield problem + _state(self.context), gr.update(visible=True), gr.update(visible=False)

    def turned_away(self, request: gr.Request) -> tuple:
        self.context.session(request).loading = None
        return notice(FULL, "warning") + _state(self.context), gr.update(visible=True), gr.update(visible=False)

    def stop(self, request: gr.Request) -> None:
        session = self.context.session(request)
        if session.loading is not None and not session.loading.wait(0):
            session.loading.stop()  # the loading's own event shows it, and the end

    def _choice(self, session: Session, name: str, other: str, quantization: str, device: str) -> hosts.Choice:
        """What is meant. Raises DcaHubError for a choice that is none."""
        settings, other = self.context.settings, (other or "").strip()
        wanted = other if settings.any_model and other else (name or "")
        if session.loading is not None and not session.loading.wait(0):
            raise DcaHubError("A model is being loaded already: wait for it, or stop it.")
        self.context.host.check(wanted)
        if quantization not in ("", "8bit", "4bit") or device not in hosts.devices():
            raise DcaHubError("Choose a quantization and a device from the list.")
        return hosts.Choice(wanted, quantization or None, device)


def _line(words: str) -> str:
    return tag("div", tag("span", class_="dh-spinner"), tag("span", text(words)), class_="dh-progress", role="status")


def _progress(name: str, progress: Progress) -> str:
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


def _state(context: Context) -> str:
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
    title = tag("h2", tag("span", "Loaded", class_="dh-badge"), text(loaded.name))
    return tag("section", title, _definitions(facts), class_="dh-card", id="loaded-model", data_name=loaded.name)


def _facts(name: str, quantization: str, device: str, context: Context) -> str:
    """What a model needs, before it is loaded."""
    entry = catalogue.get(name or "")
    if entry is None:
        words = "Not in the catalogue: its size is checked against the memory when it is loaded."
        return tag(
            "section", tag("h2", text(_shown_name(name or ""))), tag("p", words, class_="dh-hint"), class_="dh-card"
        )
    dtype = _dtype(entry, device, context)
    weights = entry.weights_bytes(dtype, quantization or None)
    reach = entry.longest_reach
    facts = [
        ("Download", "none, it comes along" if entry.is_local else amount(entry.weights_bytes(entry.dtype))),
        ("Memory", f"{amount(weights)} for the weights, {amount(1000 * entry.cache_bytes_per_token(dtype))} "
                   "for each 1,000 tokens"),
        ("Trained at", f"{entry.trained:,} tokens"),
        ("With DCA", f"{reach.stated} ({reach.by})" if reach else "not measured yet"),
        ("License", entry.license + (", gated: accept it on the model's Hub page first" if entry.gated else "")),
        ("Sizes from", entry.dca.source),
    ]  # fmt: skip
    base = "" if entry.is_local else tag("p", text(entry.base), class_="dh-label")
    return tag(
        "section", tag("h2", text(entry.name)), base, _definitions(facts),
        tag("p", text(entry.notes), class_="dh-hint"), class_="dh-card",
    )  # fmt: skip


def _dtype(entry: catalogue.Entry, device: str, context: Context) -> torch.dtype:
    """What the model would run in here, which for a small one on a CPU is more than what it is kept in."""
    if context.settings.dtype not in ("", "auto"):
        return getattr(torch, context.settings.dtype)
    return usual_dtype(getattr(torch, entry.dtype), entry.parameters, device)


def _definitions(facts: list[tuple[str, str]]) -> str:
    rows = [tag("div", tag("dt", text(head)), tag("dd", text(words))) for head, words in facts]
    return tag("dl", *rows, class_="dh-facts-list")


def _table(names: list[str], device: str, context: Context) -> str:
    heads = ("Model", "Download", "Memory for 1,000 tokens", "Trained", "With DCA", "License")
    rows = [tag("tr", *(tag("th", head, scope="col") for head in heads))]
    for name in names:
        entry = catalogue.get(name)
        if entry is None:
            rows.append(tag("tr", tag("th", text(_shown_name(name)), scope="row"), *[tag("td", "-")] * 5))
            continue
        reach = entry.longest_reach
        cells = (
            "none" if entry.is_local else amount(entry.weights_bytes(entry.dtype)),
            amount(1000 * entry.cache_bytes_per_token(_dtype(entry, device, context))),
            f"{entry.trained:,}",
            reach.stated if reach else "-",
            entry.license + (", gated" if entry.gated else ""),
        )
        rows.append(tag("tr", tag("th", text(name), scope="row"), *(tag("td", text(cell)) for cell in cells)))
    return tag("div", tag("table", tag("tbody", *rows), class_="dh-table"), class_="dh-scroll")
