"""The whole interface, and how it is served."""

import functools
import socket

import gradio as gr
from markupsafe import Markup
from starlette.middleware import Middleware

from dca_hub.errors import DcaHubError, one_line
from dca_hub.space import api, chat, explain, leftovers, model, needle_lab, theme, uploads
from dca_hub.space.callers import MarkCallers
from dca_hub.space.context import AT_ONCE, PRIVATE, Context
from dca_hub.space.failures import log
from dca_hub.space.guard import Guard
from dca_hub.space.markup import tag
from dca_hub.space.sessions import Session
from dca_hub.space.settings import Settings
from dca_hub.space.stoppable import Updates

TITLE = "DCA Hub"
_PORTS = 50
_BAD_ARGUMENT = "An argument is missing or not what it must be: a PDF must be an upload, Use via API tells the rest."
_SESSIONS = 500  # of which Gradio keeps 90 KB each, when a client that never said goodbye made them
_UPLOADS_SWEPT = 30  # seconds
_LOOK_SECONDS = 5  # from one look at whether the model has changed to the next
# A reload, or the way back, is the same visitor: the tab remembers which session it had, and says how it came.
_KNOWN_TOKEN = "(token, made_for) => [window.dcaToken?.() ?? '', made_for]"
_THREADS_BESIDE = 40  # for what answers at once, beside those who listen to a run
_MARK = Markup(
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
    with _Blocks(
        title=TITLE, analytics_enabled=False, delete_cache=(_UPLOADS_SWEPT, leftovers.KEPT), fill_width=True
    ) as blocks:
        header = gr.HTML(_header(context), elem_id="header", elem_classes="dh-place", apply_default_css=False)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("PDF chat", id="chat", elem_id="tab-chat"):
                chatting = chat.build(context)
            with gr.Tab("Needle lab", id="needle", elem_id="tab-needle"):
                lab = needle_lab.build(context)
            with gr.Tab("What DCA does", id="explain", elem_id="tab-explain"):
                explained = explain.build(context)
            with gr.Tab("Model", id="model", elem_id="tab-model"):
                loaded, models = model.build(context)
        api.build(context)
        token = gr.Textbox(elem_id="token", elem_classes="dh-pressed", label="Session", container=False)
        made_for = gr.Number(
            context.host.generation, precision=0, elem_classes="dh-pressed", label="Model", container=False
        )
        page = _Page(context, header, chatting, lab, explained, models, made_for)
        for event in filter(None, (loaded, models.got)):
            event.then(page.follow, None, page.outputs, **AT_ONCE, **PRIVATE)
        blocks.load(page.open, [token, made_for], [token, *page.outputs], js=_KNOWN_TOKEN, **AT_ONCE, **PRIVATE)
        gr.Timer(_LOOK_SECONDS).tick(page.look, None, page.outputs, **AT_ONCE, **PRIVATE)
        blocks.unload(_leave(context))
        context.host.after_change = functools.partial(page.renew, blocks)
    blocks.queue(max_size=settings.queue, default_concurrency_limit=8, api_open=False)
    return blocks, context


class _Blocks(gr.Blocks):
    """Says in a sentence, too, what a call is refused for before a function of ours has it."""

    async def preprocess_data(self, *args, **kwargs):
        try:
            return await super().preprocess_data(*args, **kwargs)
        except gr.Error:
            raise
        except Exception as error:
            log.info("an argument was refused: %s", one_line(error))
            raise gr.Error(_BAD_ARGUMENT, print_exception=False) from None


def serve(blocks: gr.Blocks, context: Context, *, wait: bool = True, port: int | None = None) -> str:
    """Serves the interface, until Ctrl-C if `wait`; returns its address."""
    settings = context.settings
    _, address, _ = blocks.launch(
        server_name=settings.host,
        server_port=_free_port(settings.host, settings.port) if port is None else port,
        share=settings.share,
        mcp_server=settings.mcp,
        state_session_capacity=_SESSIONS,
        max_file_size=settings.limits.file_bytes,
        max_threads=4 * settings.queue + _THREADS_BESIDE,
        show_error=False,
        ssr_mode=False,
        run_history=False,
        enable_monitoring=False,
        app_kwargs={"middleware": [Middleware(Guard), Middleware(MarkCallers, callers=context.callers)]},
        footer_links=["api"],
        prevent_thread_lock=not wait,
        quiet=not wait,
        theme=theme.theme(),
        css=theme.css(settings.limits_in_words),
        head=theme.head(),
    )
    return address


class _Page:
    """What every open page shows of the model, which changes for all of them. made_for: holds the generation of the
    model that a page was made for."""

    def __init__(
        self, context: Context, header, chatting: chat.Chat, lab: needle_lab.Lab, explained: explain.Parts,
        models: model.Parts, made_for: gr.Number,
    ):  # fmt: skip
        self.context, self.header, self.chatting = context, header, chatting
        self.lab, self.explained, self.models, self.made_for = lab, explained, models, made_for
        self.outputs = [header, *chatting.followers, lab.parts.lengths, *explained.outputs, *models.outputs]

    def renew(self, blocks: gr.Blocks) -> None:
        """Pages that open from now on are made for the model that is loaded now. So opening one sets nothing that its
        visitor may have chosen by then."""
        for component, update in {**self._of_model(), self.made_for: self.context.host.generation}.items():
            properties = update if isinstance(update, dict) else {"value": update}
            for name in properties.keys() - {"__type__"}:
                setattr(component, name, properties[name])
        blocks.config = blocks.get_config_file()

    def open(self, token: str, made_for: int | None, request: gr.Request) -> list:
        """A page that opens: with what it had, if it was loaded again."""
        way, _, token = (token or "")[:100].partition(" ")
        session = self.context.sessions.adopt(request.session_hash, token, reloaded=way == "reload")
        if session.turns and not session.turns[-1].finished and not session.busy:
            session.turns[-1].stop()
        session.shown_generation = generation = self.context.host.generation
        if made_for != generation:  # the model has changed since
            updates = self._all(session)
        elif session.uploads or session.turns:
            updates = self._of_session(session)
        else:
            updates = {self.header: _header(self.context)}
        return [session.token, *self._listed(updates)]

    def follow(self, request: gr.Request) -> list:
        """Everything that hangs on the model, but for how its loading ended: the loading itself has shown that, unless
        another visitor has changed the model since."""
        session, host = self.context.session(request), self.context.host
        keep_state = session.shown_generation == host.generation
        session.shown_generation = host.generation
        return self._listed(self._all(session, keep_state))

    def look(self, request: gr.Request) -> list:
        """Everything that hangs on the model where it has changed since the page was last shown one; nothing otherwise.

        A loading of the page's own visitor shows its progress and its end itself.
        """
        session = self.context.sessions.find(request.session_hash)
        host = self.context.host
        # Before the generations are compared: a loading marks the generation as shown, then ends.
        loading = session is not None and session.loading is not None
        if session is None or not host.ready or session.shown_generation == host.generation:
            return self._listed({})
        session.shown_generation = host.generation
        return self._listed(self._all(session, loading))

    def _all(self, session: Session, keep_state: bool = False) -> Updates:
        of_model = self._of_model(keep_state) if self.context.host.ready else {}
        return {**self._of_session(session), **of_model}

    def _of_session(self, session: Session) -> Updates:
        header = {self.header: _header(self.context)}
        if not self.context.host.ready:
            return header
        uploads.recount(session, self.context.host)
        return {**header, **self.chatting.follow(session)}

    def _of_model(self, keep_state: bool = False) -> Updates:
        return {
            self.header: _header(self.context),
            **self.lab.follow(),
            **self.explained.follow(self.context),
            **self.models.follow(self.context, keep_state),
        }

    def _listed(self, updates: Updates) -> list:
        return [updates.get(output, gr.skip()) for output in self.outputs]


def _leave(context: Context):
    def leave(request: gr.Request) -> None:
        context.sessions.leave(request.session_hash)

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
    chip = tag("span", tag("strong", loaded.name if loaded else ""), facts, class_="dh-model", id="model-chip")
    brand = tag("div", _MARK, tag("div", tag("h1", TITLE), tag("p", "Read far beyond a model's trained window"),
                                  class_="dh-words"), class_="dh-brand")  # fmt: skip
    switch = "Switch between light and dark"
    toggle = tag("button", "◐", type="button", id="theme-toggle", class_="dh-quiet", title=switch, aria_label=switch)
    return tag("header", brand, tag("div", chip, toggle, class_="dh-right"), class_="dh-header")
