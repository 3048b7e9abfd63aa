"""HTML, written so that nothing from outside can be markup: every plain string is escaped, and only what an element was
made of here is a `Markup`."""

import base64
from collections.abc import Iterable
from typing import Any

from markupsafe import Markup, escape


def text(value: Any) -> Markup:
    """A value as text of an HTML page."""
    return escape(str(value))


def join(parts: Iterable[str]) -> Markup:
    """Markup one after another; plain strings are escaped."""
    return Markup("").join(parts)


def tag(name: str, *content: str, **attributes: Any) -> Markup:
    """An element. `class_` is `class`, `data_x` is `data-x`; None is left out, True stands alone."""
    written = []
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            written.append(f" {key}")
        elif value is not None and value is not False:
            written.append(f' {key}="{text(value)}"')
    opening = Markup(f"<{name}{''.join(written)}>")
    return opening if name in ("img", "input", "br") else opening + join(content) + Markup(f"</{name}>")


def data_url(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def download(label: str, name: str, content: bytes, kind: str, **attributes: Any) -> Markup:
    """A link that saves `content` under `name`; the content is in the page, so no file is left on this machine."""
    return tag("a", text(label), href=data_url(content, kind), download=name, class_="dh-button", **attributes)


def notice(message: str, kind: str = "info") -> Markup:
    """One sentence that stays on the screen: `kind` is info, warning or error."""
    sign = {"info": "i", "warning": "!", "error": "×"}[kind]
    role = "alert" if kind == "error" else "status"
    mark = tag("span", sign, class_="dh-sign", aria_hidden="true")
    return tag("div", mark, tag("span", text(message)), class_=f"dh-notice dh-{kind}", role=role)


def steps(*rows: tuple[str, str]) -> Markup:
    """What to do where nothing is yet, one after another: in a word or two, and in a sentence."""
    shown = []
    for number, (head, words) in enumerate(rows, 1):
        said = tag("div", tag("strong", text(head)), tag("p", text(words)))
        shown.append(tag("li", tag("span", str(number), class_="dh-step"), said))
    return tag("div", tag("ol", *shown, class_="dh-steps"), class_="dh-empty")


def bar(label: str, figures: str, share: float, kind: str = "") -> Markup:
    """Progress: what goes on, how far in figures, and a bar that is filled to `share`, 0 to 1."""
    percent = 100 * min(1.0, max(0.0, share))
    head = tag("span", tag("span", text(label)), tag("span", text(figures)), class_="dh-bar-head")
    fill = tag("span", class_="dh-fill dh-within", style=f"width:{percent:.1f}%")
    return tag(
        "div", head, tag("span", fill, class_="dh-track"), class_=f"dh-bar {kind}".strip(), role="progressbar",
        aria_valuenow=round(percent), aria_valuemin=0, aria_valuemax=100, aria_label=label,
    )  # fmt: skip


def scrolls(label: str, *content: str) -> Markup:
    """What may be wider than the screen, which the keyboard can scroll too."""
    return tag("div", *content, class_="dh-scroll", role="group", aria_label=label, tabindex="0")


def amount(count: float) -> str:
    """Bytes for people: 1.4 GB, 8.6 MB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= 0.95 * size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def seconds(value: float) -> str:
    if value < 0.995:
        return f"{value:.2f} s"
    if value < 60:
        return f"{value:.1f} s"
    return f"{int(value // 60)} min {int(value % 60)} s"
