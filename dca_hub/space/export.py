"""A conversation to take away, as Markdown and as JSON."""

import json
from dataclasses import asdict
from typing import Any

from dca_hub.space.markup import download, tag
from dca_hub.space.sessions import Session
from dca_hub.space.turns import Turn


def as_json(session: Session, model: str) -> str:
    """Everything: documents, settings, turns, citations, timings."""
    value = {
        "model": model,
        "documents": [
            {"name": u.name, "pages": [p.number for p in u.document.pages], "tokens": u.tokens}
            for u in session.readable
        ],
        "turns": [turn_as_json(turn) for turn in session.turns],
    }
    return json.dumps(value, indent=2, ensure_ascii=False)


def turn_as_json(turn: Turn) -> dict[str, Any]:
    """A question with its answers, citations and timings."""
    answers = {
        side: {
            "state": answer.state,
            "sparse": answer.sparse,
            "text": answer.text,
            "problem": answer.problem or None,
            "thoughts": answer.thoughts or None,
            "citations": [asdict(citation) for citation in answer.citations],
            "looks": [asdict(look) for look in answer.looks],
            "stats": asdict(answer.stats) if answer.stats else None,
        }
        for side, answer in turn.answers.items()
    }
    return {"question": turn.question, "answers": answers}


def as_markdown(session: Session, model: str) -> str:
    """For reading. What others wrote stands in fenced blocks, so that it stays text."""
    lines = ["# Conversation", "", f"Model: {_code(model)}", ""]
    lines += [f"- {_code(u.name)}: {_pages(len(u.document.pages))}, {u.tokens:,} tokens" for u in session.readable]
    for number, turn in enumerate(session.turns, 1):
        lines += ["", f"## Question {number}", "", *_fenced(turn.question)]
        for side, answer in turn.answers.items():
            lines += ["", f"### {answer.name(side)}", "", *_fenced(answer.text or answer.problem or "(no answer)")]
            if answer.citations:
                pages = ", ".join(f"{_code(c.document)} page {c.page}" for c in answer.citations)
                lines += ["", f"Sources: {pages}."]
            if answer.stats:
                lines += [
                    "",
                    f"First token after {answer.stats.first_token_seconds:.2f} s, "
                    f"{answer.stats.answer_tokens_per_second:.0f} tokens/s.",
                ]
    return "\n".join(lines) + "\n"


def _pages(count: int) -> str:
    return f"{count:,} page{'s' * (count != 1)}"


def _fenced(content: str) -> list[str]:
    fence = "```"
    while fence in content:
        fence += "`"
    return [fence + "text", content, fence]


def _code(content: str) -> str:
    ticks = "`"
    while ticks in content:
        ticks += "`"
    return f"{ticks} {content} {ticks}" if "`" in content else f"`{content}`"


def links(session: Session, model: str) -> str:
    """Two links that save the conversation; nothing before there is one."""
    if not session.turns:
        return ""
    markdown = as_markdown(session, model).encode()
    return tag(
        "div",
        tag("button", "Copy all", type="button", class_="dh-quiet", data_copy=markdown.decode(), id="copy-all"),
        download("Markdown", "conversation.md", markdown, "text/markdown", id="export-markdown"),
        download("JSON", "conversation.json", as_json(session, model).encode(), "application/json", id="export-json"),
        class_="dh-links",
    )
