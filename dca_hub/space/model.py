"""The tab where the model is chosen and loaded."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
from gradio.events import Dependency

from dca_hub import catalogue
from dca_hub.catalogue import Entry
from dca_hub.errors import UserError
from dca_hub.space import host as hosts
from dca_hub.space.context import AT_ONCE, MODEL_LANE, PRIVATE, Context
from dca_hub.space.markup import amount, notice, seconds, tag, text
from dca_hub.space.places import place

_QUANTIZATIONS = [("none", ""), ("8-bit", "8bit"), ("4-bit", "4bit")]
_TICK = 0.3


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
            load = gr.Button("Load", variant="primary", elem_id="model-load")
        with gr.Column(scale=7, min_width=320):
            state = place("model-state", _state(context))
            facts = place("model-facts", _facts(begin, "", context))
    with gr.Accordion("All models", open=len(names) <= 12, elem_id="model-all"):
        place("model-table", _table(names))

    def show(name: str, other: str, quantization: str) -> str:
        return _facts((other or "").strip() if settings.any_model and other else name, quantization, context)

    gr.on(
        [name.change, quantization.change, other.change], show, [name, other, quantization], facts, **AT_ONCE, **PRIVATE
    )
    tab = _Model(context)
    return load.click(
        tab.load, [name, other, quantization, device], state, show_progress="minimal", show_progress_on=state,
        **MODEL_LANE, **PRIVATE,
    )  # fmt: skip


class _Model:
    """The loading, with its progress."""

    def __init__(self, context: Context):
        self.context = context

    def load(self, name: str, other: str, quantization: str, device: str, request: gr.Request) -> Iterator[str]:
        context = self.context
        wanted = (other or "").strip() if context.settings.any_model and (other or "").strip() else name
        try:
            context.host.check(wanted or "")
            if quantization not in ("", "8bit", "4bit") or device not in hosts.devices():
                raise UserError("Choose a quantization and a device from the list.")
            yield from self._load(wanted, quantization or None, device)
        except UserError as error:
            yield notice(str(error), "error") + _state(context)
            return
        yield _state(context)

    def _load(self, name: str, quantization: str | None, device: str) -> Iterator[str]:
        host, started = self.context.host, time.monotonic()

        def work(tell) -> None:
            over = threading.Event()
            ticking = threading.Thread(target=_tick, args=(tell, over, name, started), daemon=True)
            ticking.start()
            try:
                host.change(name, quantization, device)
            finally:
                over.set()
                ticking.join()

        for words in self.context.lane.stream(work):
            yield tag("div", tag("span", class_="dh-spinner"), tag("span", text(words)), class_="dh-progress")


def _tick(tell, over: threading.Event, name: str, started: float) -> None:
    """Says how far loading is, until it is over: loading a model is one call that tells nothing by itself."""
    entry = catalogue.get(name)
    before = _downloaded(entry)
    while not over.wait(_TICK):
        passed, got = seconds(time.monotonic() - started), _downloaded(entry)
        words = f"Loading {_shown_name(name)}: {passed}"
        if entry is not None and not entry.is_local:
            total = entry.weights_bytes(entry.dtype)
            words += f" · downloaded {amount(got)} of {amount(total)}" if got > before else ""
        try:
            tell(words)
        except Exception:  # the visitor has left; loading itself goes on to its end
            return


def _downloaded(entry: Entry | None) -> int:
    """Bytes of that model in the Hub client's cache, unfinished files included."""
    if entry is None or entry.is_local:
        return 0
    from huggingface_hub.constants import HF_HUB_CACHE

    blobs = Path(HF_HUB_CACHE) / f"models--{entry.base.replace('/', '--')}" / "blobs"
    try:
        return sum(file.stat().st_size for file in blobs.iterdir())
    except OSError:
        return 0


def _shown_name(name: str) -> str:
    return Path(name).name if Path(name).is_dir() else name


def _state(context: Context) -> str:
    """What is loaded now."""
    if not context.host.ready:
        return notice("No model is loaded: choose one.", "warning")
    loaded = context.host.loaded
    geometry = loaded.geometry
    facts = [
        ("Trained at", f"{loaded.trained:,} tokens"),
        ("Reach with DCA", f"{loaded.context:,} tokens"),
        ("Memory allows", f"{context.host.limit():,} tokens here"),
        ("Sizes", f"C = {geometry.chunk_size:,}, w = {geometry.local_size:,}, chunks of {geometry.chunk_length:,}"),
        ("Runs on", f"{loaded.device}, {context.host.quantization or str(loaded.model.dtype).removeprefix('torch.')}"),
    ]
    title = tag("h2", tag("span", "Loaded", class_="dh-badge"), text(loaded.name))
    return tag("section", title, _definitions(facts), class_="dh-card", id="loaded-model", data_name=loaded.name)


def _facts(name: str, quantization: str, context: Context) -> str:
    """What a model needs, before it is loaded."""
    entry = catalogue.get(name or "")
    if entry is None:
        words = "Not in the catalogue: its size is checked against the memory when it is loaded."
        return tag(
            "section", tag("h2", text(_shown_name(name or ""))), tag("p", words, class_="dh-hint"), class_="dh-card"
        )
    weights = entry.weights_bytes(entry.dtype, quantization or None)
    reach = entry.longest_reach
    facts = [
        ("Download", "none, it comes along" if entry.is_local else amount(entry.weights_bytes(entry.dtype))),
        ("Memory", f"{amount(weights)} for the weights, {amount(1000 * entry.cache_bytes_per_token(entry.dtype))} "
                   "for each 1,000 tokens"),
        ("Trained at", f"{entry.trained:,} tokens"),
        ("With DCA", f"{reach.stated} ({reach.by})" if reach else "not measured yet"),
        ("Licence", entry.licence + (", gated: accept it on the model's Hub page first" if entry.gated else "")),
        ("Sizes from", entry.dca.source),
    ]  # fmt: skip
    base = "" if entry.is_local else tag("p", text(entry.base), class_="dh-label")
    return tag(
        "section", tag("h2", text(entry.name)), base, _definitions(facts),
        tag("p", text(entry.notes), class_="dh-hint"), class_="dh-card",
    )  # fmt: skip


def _definitions(facts: list[tuple[str, str]]) -> str:
    rows = [tag("div", tag("dt", text(head)), tag("dd", text(words))) for head, words in facts]
    return tag("dl", *rows, class_="dh-facts-list")


def _table(names: list[str]) -> str:
    heads = ("Model", "Download", "Memory for 1,000 tokens", "Trained", "With DCA", "Licence")
    rows = [tag("tr", *(tag("th", head, scope="col") for head in heads))]
    for name in names:
        entry = catalogue.get(name)
        if entry is None:
            rows.append(tag("tr", tag("th", text(_shown_name(name)), scope="row"), *[tag("td", "-")] * 5))
            continue
        reach = entry.longest_reach
        cells = (
            "none" if entry.is_local else amount(entry.weights_bytes(entry.dtype)),
            amount(1000 * entry.cache_bytes_per_token(entry.dtype)),
            f"{entry.trained:,}",
            reach.stated if reach else "-",
            entry.licence + (", gated" if entry.gated else ""),
        )
        rows.append(tag("tr", tag("th", text(name), scope="row"), *(tag("td", text(cell)) for cell in cells)))
    return tag("div", tag("table", tag("tbody", *rows), class_="dh-table"), class_="dh-scroll")
