"""Parts of a page that Gradio has no component for: a slot for markup of ours, and uploads that are bounded."""

import gradio as gr

from dca_hub.space.settings import Settings

# A button or a cell says what it is for in data-act and data-value; a click on it comes back as those two.
_CLICKS = """
element.addEventListener('click', (event) => {
  const found = event.target.closest('[data-act]');
  if (found) trigger('click', {act: found.dataset.act, value: found.dataset.value ?? ''});
});
"""


def html_slot(elem_id: str, value: str = "", script: str = "") -> gr.HTML:
    """An empty slot to fill from `markup`; its buttons come back as clicks, see `clicked`. `script` runs once, when
    the slot is there, and knows it as `element`."""
    return gr.HTML(
        value, elem_id=elem_id, elem_classes="dh-place", apply_default_css=False, js_on_load=_CLICKS + script
    )


def uploads_only(component: gr.File | gr.UploadButton, settings: Settings) -> gr.File | gr.UploadButton:
    """On a public Space, files come as uploads, whose size is bounded; Gradio would fetch an address without bound."""
    fetch = component.async_move_resource_to_block_cache

    async def fetch_uploads(place: str | None) -> str | None:
        if place and "://" in place:
            raise gr.Error("Upload the file itself: addresses are not fetched here.", print_exception=False)
        return await fetch(place)

    if settings.public:
        component.async_move_resource_to_block_cache = fetch_uploads
    return component


def clicked(event: gr.EventData, act: str) -> str | None:
    """What was clicked, if it was for that; a browser may send anything."""
    data = event._data if isinstance(event._data, dict) else {}
    value = data.get("value")
    return value if data.get("act") == act and isinstance(value, str) else None
