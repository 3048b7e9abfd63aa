"""Model cards as text: the metadata at their head, and their sections by title."""

import re
from typing import Any

import yaml

from dca_hub.errors import DcaHubError

TRAINING = "dca_training"  # the key under which a fine-tuned checkpoint's card says how it was trained


def front_matter(text: str) -> tuple[dict[str, Any], str]:
    """The metadata at the head of a card, empty where there is none, and the text that follows it.

    Raises DcaHubError when it is not YAML.
    """
    found = re.match(r"\s*---\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|$)", text, re.DOTALL)
    if found is None:
        return {}, text
    try:
        metadata = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        raise DcaHubError(f"The metadata at the head of README.md is not valid YAML ({error}): fix it.") from None
    return (metadata if isinstance(metadata, dict) else {}), text[found.end() :]


def with_front_matter(metadata: dict[str, Any], text: str) -> str:
    """A card of that metadata and text."""
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=1000)}---\n{text}"


def section(title: str, text: str) -> str:
    return f"## {title}\n\n{text.strip()}"


def replace_section(body: str, title: str, text: str, before: str | None = None) -> str:
    """The card with the section of that title rewritten; where there is none, put before another or at the end."""
    new = section(title, text) + "\n"
    found = _find_section(body, title)
    if found:
        return body[: found.start()] + new + body[found.end() :]
    other = _find_section(body, before) if before else None
    if other:
        return body[: other.start()] + new + "\n" + body[other.start() :]
    return body.rstrip() + "\n\n" + new


def _find_section(body: str, title: str) -> re.Match | None:
    return re.search(rf"^## {re.escape(title)}\n.*?(?=\n## |\Z)", body, re.DOTALL | re.MULTILINE)


def section_text(body: str, title: str) -> str:
    found = _find_section(body, title)
    return found[0].partition("\n")[2].strip() if found else ""
