"""How the Space looks: system fonts, one accent, light and dark; nothing comes from another host."""

from importlib import resources

import gradio as gr

_SANS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"]


def theme() -> gr.themes.Base:
    """Names of fonts as plain strings: Gradio fetches only those given as GoogleFont."""
    made = gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        font=_SANS,
        font_mono=_MONO,
    )
    return made.set(
        body_background_fill="#f6f7f9",
        body_background_fill_dark="#0d1117",
        block_background_fill="#ffffff",
        block_background_fill_dark="#151b23",
        block_border_width="1px",
        block_info_text_color="#5d6c77",
        block_info_text_color_dark="#93a2ae",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_hover="#eef3f5",
        button_secondary_background_fill_dark="#1d2630",
        button_secondary_background_fill_hover_dark="#273340",
        button_secondary_border_color="#d3dae0",
        button_secondary_border_color_dark="#33404c",
        button_border_width="1px",
        button_small_text_weight="500",
        button_cancel_background_fill="#fdecec",
        button_cancel_background_fill_hover="#fbdcdc",
        button_cancel_background_fill_dark="#4a2226",
        button_cancel_background_fill_hover_dark="#5c2b30",
        button_cancel_text_color="#a3242b",
        button_cancel_text_color_dark="#ffc9c9",
        button_cancel_border_color="#f1b8b8",
        button_cancel_border_color_dark="#7a3a40",
        checkbox_label_background_fill="#f3f6f8",
        checkbox_label_background_fill_dark="#1d2630",
        checkbox_label_background_fill_selected="#d8efec",
        checkbox_label_background_fill_selected_dark="#123733",
        input_background_fill="#ffffff",
        input_background_fill_dark="#10161d",
        input_border_width="1px",
        input_placeholder_color="#5d6c77",
        input_placeholder_color_dark="#93a2ae",
        color_accent="#0f766e",
        checkbox_background_color_selected="#0f766e",
        checkbox_background_color_selected_dark="#0f766e",
        checkbox_border_color_selected="#0f766e",
        checkbox_border_color_selected_dark="#3fb9ae",
        input_border_color="#cfd7dd",
        input_border_color_dark="#33404c",
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_hover="#115e59",
        button_primary_background_fill_dark="#0f766e",
        button_primary_background_fill_hover_dark="#12817a",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
    )


def css(limits: str) -> str:
    """The style; `limits` are those of one PDF, in words."""
    drop = f".gradio-container {{ --dh-drop: 'Drop PDFs here, up to {limits} each, or click to choose'; }}\n"
    return drop + _read("style.css")


def head() -> str:
    """The page's own script, and a description for who finds the page."""
    description = '<meta name="description" content="Chat with PDFs far beyond a model\'s trained length.">'
    return f"{description}<script>{_read('script.js')}</script>"


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
