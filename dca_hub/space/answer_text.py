"""What a model writes, as HTML: Markdown without anything that could fetch, run or lead away.

No raw HTML, no images, and links shown as text with their address, since a document can make a model write them.
"""

import re
from collections.abc import Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup

from dca_hub.space.markup import tag

_BEGIN, _END = "\ue000", "\ue001"  # of a mark, while the text is Markdown
_MARK = re.compile(f"{_BEGIN}(\\d{{1,4}}){_END}")
_THOUGHT = re.compile(r"\s*(?:<think(?:ing)?>)?(.*)</think(?:ing)?>\s*", re.DOTALL)
_OPEN_THOUGHT = re.compile(r"\s*<think(?:ing)?>(.*)$", re.DOTALL)
_LONGEST = 20_000  # characters that are rendered; the rest is left as it is


class _Renderer(RendererHTML):
    """Every block takes its direction from its own first letter; code can be copied."""

    def renderAttrs(self, token: Token) -> str:
        # Of attributes only those that this renderer sets itself: a style comes from a table's alignment.
        kept = {key: value for key, value in token.attrs.items() if key in ("start", "style", "dir", "class")}
        token.attrs = kept
        return super().renderAttrs(token)

    def link_open(self, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
        env.setdefault("links", []).append(str(tokens[at].attrs.get("href", "")))
        return ""

    def link_close(self, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
        address = env["links"].pop()
        said = "".join(token.content for token in tokens[:at] if token.type == "text")
        return "" if not address or address in said else str(tag("span", f" ({address})", class_="dh-address"))

    def fence(self, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
        return _code(tokens[at].content, tokens[at].info.strip().split(" ")[0][:20])

    def code_block(self, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
        return _code(tokens[at].content, "")

    def table_open(self, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
        return '<div class="dh-scroll" role="group" aria-label="Table" tabindex="0"><table class="dh-table" dir="auto">'

    def table_close(self, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
        return "</table></div>"


def _code(content: str, language: str) -> str:
    content = _MARK.sub("", content)
    copy = tag("button", "Copy code", type="button", class_="dh-quiet", data_copy=content)
    head = tag("div", tag("span", language or "code"), copy, class_="dh-code-head")
    return str(tag("div", head, tag("pre", tag("code", content), tabindex="0"), class_="dh-code", dir="ltr"))


def _make() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False, "linkify": False, "breaks": True}, renderer_cls=_Renderer)
    return made.enable(["table", "strikethrough"]).disable(["image", "html_block", "html_inline", "reference"])


_MARKDOWN = _make()
_BLOCKS = ("paragraph_open", "heading_open", "bullet_list_open", "ordered_list_open", "blockquote_open")


def render(written: str, marks: Sequence[tuple[int, str]] = ()) -> Markup:
    """Markdown as HTML. marks: markup to set in, each with the index of the character that it stands before."""
    if len(written) > _LONGEST:
        return tag("p", written, dir="auto", class_="dh-plain")
    written = _set_in(written, [at for at, _ in marks])
    env: dict = {}
    tokens = _MARKDOWN.parse(written, env)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):  # below the page's own headings
            token.tag = f"h{min(6, int(token.tag[1]) + 3)}"
        if token.type in _BLOCKS:
            token.attrSet("dir", "auto")
    shown = _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, env)
    return Markup(_MARK.sub(lambda found: marks[int(found[1])][1] if int(found[1]) < len(marks) else "", shown))


def split_thought(written: str) -> tuple[str, str, int]:
    """What a reasoning model thinks before it answers, the answer, and the index where that begins. Some formats open
    the thought in the prompt, so that only its end is written; one that is not ended yet is all thought."""
    found = _THOUGHT.match(written) or _OPEN_THOUGHT.match(written)
    if not found:
        return "", written, 0
    return found[1].strip(), written[found.end() :], found.end()


def _set_in(written: str, places: Sequence[int]) -> str:
    """The text with a mark at each place, in characters that no answer keeps."""
    written = "".join(" " if char in _BEGIN + _END else char for char in written)
    for number, at in sorted(enumerate(places), key=lambda item: (-item[1], -item[0])):
        written = f"{written[:at]}{_BEGIN}{number}{_END}{written[at:]}"
    return written
