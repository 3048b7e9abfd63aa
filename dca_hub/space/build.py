"""The whole interface, and how it is served."""

import socket

import gradio as gr
from starlette.middleware import Middleware

from dca_hub.errors import DcaHubError
from dca_hub.space import api, chat, explain, leftovers, model, needle_lab, theme, uploads
from dca_hub.space.context import AT_ONCE, PRIVATE, Context
from dca_hub.space.guard import Guard
from dca_hub.space.markup import tag, text
from dca_hub.space.settings import Settings

TITLE = "DCA Hub"
_PORTS = 50
_SESSIONS = 500  # of which Gradio keeps 90 KB each, when a client that never said goodbye made them
_UPLOADS_SWEPT = 30  # seconds
_MARK = (
    '<svg viewBox="0 0 24 24" width="26" height="26" aria-hidden="true">'
    '<rect x="2" y="14" width="6" height="8" rx="1.5" fill="#0072b2"/>'
    '<rect x="9" y="8" width="6" height="14" rx="1.5" fill="#e69f00"/>'
    '<rect x="16" y="2" width="6" height="20" rx="1.5" fill="#009e73"/></svg>'
)


def build(settings: Settings) -> tuple[gr.Blocks, Context]:
    """The interface over a model that is loaded, and what it runs on.

    Raises DcaHubError when the model that the settings name cannot be loaded.
    """
    context = Context(settings)
    context.host.begin()
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, delete_cache=(_UPLOADS_SWEPT, leftovers.KEPT), fill_width=True
    ) as blocks:
        header = gr.HTML(_header(context), elem_id="header", elem_classes="dh-place", apply_default_css=False)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("PDF chat", id="chat", elem_id="tab-chat"):
                meter, past = chat.build(context)
            with gr.Tab("Needle lab", id="needle", elem_id="tab-needle"):
                needle_lengths = needle_lab.build(context)
            with gr.Tab("What DCA does", id="explain", elem_id="tab-explain"):
                curve_lengths = explain.build(context)
            with gr.Tab("Model", id="model", elem_id="tab-model"):
                loaded = model.build(context)
        api.build(context)
        follow = [header, meter, past, needle_lengths, curve_lengths]
        loaded.then(_follow(context), None, follow, **AT_ONCE, **PRIVATE)
        blocks.load(_follow(context, known=context.host.generation), None, follow, **AT_ONCE, **PRIVATE)
        blocks.unload(_leave(context))
    blocks.queue(max_size=settings.queue, default_concurrency_limit=8, api_open=False)
    return blocks, context


def serve(blocks: gr.Blocks, settings: Settings, *, wait: bool = True, port: int | None = None) -> str:
    """Serves the interface, until Ctrl-C if `wait`; returns its address."""
    _, address, _ = blocks.launch(
        server_name=settings.host,
        server_port=_free_port(settings.host, settings.port) if port is None else port,
        share=settings.share,
        mcp_server=settings.mcp,
        state_session_capacity=_SESSIONS,
        max_file_size=settings.limits.file_bytes,
        show_error=False,
        ssr_mode=False,
        run_history=False,
        enable_monitoring=False,
        app_kwargs={"middleware": [Middleware(Guard)]},
        footer_links=["api"],
        prevent_thread_lock=not wait,
        quiet=not wait,
        theme=theme.theme(),
        css=theme.css(),
        head=theme.head(),
    )
    return address


def _follow(context: Context, known: int | None = None):
    """What is to be shown anew when a page opens or the model has changed; nothing but the header while the model is
    the `known` one, which the page was built for: a visitor may have chosen something by then."""

    def follow(request: gr.Request) -> list:
        if not context.host.ready or context.host.generation == known:
            return [_header(context), *[gr.skip()] * 4]
        session = context.session(request)
        uploads.recount(session, context.host)
        needle_choices, needle_usual = needle_lab.lengths_for(context)
        curve_choices, curve_usual = explain.lengths_for(context)
        return [
            _header(context),
            uploads.meter(session, context.host),
            gr.skip() if session.turns else chat.past(session, context),
            gr.update(choices=needle_choices, value=needle_usual),
            gr.update(choices=curve_choices, value=curve_usual),
        ]

    return follow


def _leave(context: Context):
    def leave(request: gr.Request) -> None:
        context.sessions.close(request.session_hash)

    return leave


def _free_port(host: str, wanted: int) -> int:
    """The wanted port or the next free one."""
    for port in range(wanted, wanted + _PORTS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise DcaHubError(f"Ports {wanted} to {wanted + _PORTS - 1} are all in use: choose another one with --port.")


def _header(context: Context) -> str:
    loaded = context.host.loaded if context.host.ready else None
    facts = "loading a model" if loaded is None else f"trained at {loaded.trained:,} tokens"
    chip = tag(
        "span", tag("strong", text(loaded.name if loaded else "")), text(facts), class_="dh-model", id="model-chip"
    )
    brand = tag("div", _MARK, tag("div", tag("h1", TITLE), tag("p", "Read far beyond a model's trained window"),
                                  class_="dh-words"), class_="dh-brand")  # fmt: skip
    switch = "Switch between light and dark"
    toggle = tag("button", "◐", type="button", id="theme-toggle", class_="dh-quiet", title=switch, aria_label=switch)
    return tag("header", brand, tag("div", chip, toggle, class_="dh-right"), class_="dh-header")
