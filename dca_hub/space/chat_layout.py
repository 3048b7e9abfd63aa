"""What stands where in the tab where PDFs are asked."""

from dataclasses import dataclass

import gradio as gr

from dca_hub.space import uploads, viewer, welcome
from dca_hub.space.context import Context
from dca_hub.space.widgets import html_slot, uploads_only

ALL = "*"  # every document, in the choice of those to read again
_SPARSE = "Sparse reading attends to the parts that hold most attention: an approximation, which can be quicker."
MODES = [("DCA", "dca"), ("Plain", "plain"), ("Side by side", "both")]


@dataclass
class Parts:
    """The parts that events read and change."""

    drop: gr.File
    example: gr.Button
    pages: gr.Textbox
    password: gr.Textbox
    apply: gr.Button
    reading_options: gr.Accordion
    which: gr.Dropdown
    listing: gr.HTML
    meter: gr.HTML
    ready: gr.HTML
    way: gr.Radio
    line: gr.HTML
    fit_first: gr.Button
    fit_question: gr.Button
    past: gr.HTML
    live: gr.HTML
    problem: gr.HTML
    question: gr.Textbox
    ask: gr.Button
    stop: gr.Button
    mode: gr.Radio
    longest: gr.Slider
    temperature: gr.Slider
    guard: gr.Checkbox
    retry: gr.Button
    undo: gr.Button
    clear: gr.Button
    more: gr.Button
    restore: gr.Button
    export: gr.HTML
    page_column: gr.Column
    page: gr.HTML


def lay_out(context: Context) -> Parts:
    """Places the parts in the tab that is being built."""
    with gr.Row(elem_id="chat-row", equal_height=False):
        with gr.Column(scale=3, min_width=270, elem_id="chat-side"):
            side = _side(context)
        with gr.Column(scale=6, min_width=320, elem_id="chat-main"):
            main = _main(context)
        with gr.Column(scale=5, min_width=320, visible=False, elem_id="page-column") as page_column:
            page = html_slot("page-view", script=viewer.COME_INTO_VIEW)
    return Parts(**side, **main, page_column=page_column, page=page)


def _side(context: Context) -> dict:
    line = html_slot("side-line")
    drop = gr.File(
        label=f"Drop PDFs here, up to {context.settings.limits_in_words} each",
        file_types=[".pdf"],
        file_count="multiple",
        height=132,
        elem_id="upload",
    )
    uploads_only(drop, context.settings)
    example = gr.Button("Try the example PDF", elem_id="example", size="sm")
    listing = html_slot("documents", uploads.NONE)
    meter = html_slot("meter")
    ready = html_slot("ready")
    way = gr.Radio(
        uploads.WAYS, value="exact", label="Reading of this long text", info=_SPARSE, visible=False, elem_id="way"
    )
    # Pressed by buttons within the meter.
    fit_first = gr.Button("Use the pages that fit", elem_id="fit-first", elem_classes="dh-pressed")
    fit_question = gr.Button("Use the best pages", elem_id="fit-question", elem_classes="dh-pressed")
    with gr.Accordion("Page range and password", open=False, elem_id="reading-options") as reading_options:
        which = gr.Dropdown(
            [("All documents", ALL)], value=ALL, label="Document", visible=False, elem_id="which", filterable=False
        )
        pages = gr.Textbox(label="Pages", placeholder="all, or such as 3-7,9", max_lines=1, elem_id="pages")
        password = gr.Textbox(label="Password", type="password", max_lines=1, elem_id="password")
        apply = gr.Button("Read again", size="sm", elem_id="apply")
    return {
        "drop": drop, "example": example, "which": which, "pages": pages, "password": password, "apply": apply,
        "reading_options": reading_options, "listing": listing, "meter": meter, "ready": ready, "way": way,
        "line": line, "fit_first": fit_first, "fit_question": fit_question,
    }  # fmt: skip


def _main(context: Context) -> dict:
    with gr.Column(elem_id="conversation"):
        past = html_slot("past", welcome.BEGIN)
        live = html_slot("live")
    problem = html_slot("problem")
    with gr.Row(elem_id="ask-row", equal_height=True):
        question = gr.Textbox(
            label="Your question", show_label=False, placeholder="Ask about the document", lines=1, max_lines=6,
            elem_id="question", scale=8, container=False, autofocus=False,
        )  # fmt: skip
        ask = gr.Button("Ask", variant="primary", elem_id="ask", scale=1, min_width=88)
        stop = gr.Button("Stop", variant="stop", elem_id="stop", scale=1, min_width=88, visible=False)
    with gr.Row(elem_id="mode-row"):
        mode = gr.Radio(
            MODES, value="dca", label="Who answers", show_label=False, container=False, elem_id="mode", scale=4
        )
        retry = gr.Button("Retry", size="sm", elem_id="retry", scale=1, min_width=64)
        undo = gr.Button("Undo", size="sm", elem_id="undo", scale=1, min_width=64)
        clear = gr.Button("Clear", size="sm", elem_id="clear", scale=1, min_width=64)
    # Pressed by buttons within the conversation.
    more = gr.Button("Continue", elem_id="continue", elem_classes="dh-pressed")
    restore = gr.Button("Bring it back", elem_id="restore", elem_classes="dh-pressed")
    exported = html_slot("export")
    with gr.Accordion("Answer options", open=False, elem_id="answer-options"), gr.Row():
        most = context.settings.max_answer
        longest = gr.Slider(
            8, most, value=min(128, most), step=8, label="Length limit of answers, in tokens", elem_id="longest"
        )
        temperature = gr.Slider(0, 1.5, value=0, step=0.05, label="Temperature (0 = greedy)", elem_id="temperature")
        guard = gr.Checkbox(True, label="Stop an answer that repeats itself", elem_id="guard")
    return {
        "past": past, "live": live, "problem": problem, "question": question, "ask": ask, "stop": stop,
        "mode": mode, "retry": retry, "undo": undo, "clear": clear, "export": exported,
        "longest": longest, "temperature": temperature, "guard": guard, "more": more, "restore": restore,
    }  # fmt: skip
