"""Cutting prompts to a length, at the document and at the side of it that an experiment cuts."""

from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from dca_hub.control_tokens import encode
from dca_hub.errors import DcaHubError, Fix

Side = Literal["left", "right"]
# Private characters around a document within a prompt, which no text holds; the first says which side is cut.
_STARTS, _END = {"left": "\ue0d1", "right": "\ue0d2"}, "\ue0d3"


@dataclass(frozen=True)
class Cut:
    """A prompt's token ids, and how many of its tokens had to go."""

    ids: list[int]
    removed: int


def marked(document: str, side: Side) -> str:
    """A document that `cut` will find in a prompt, and cut at that side where the prompt is too long."""
    return _STARTS[side] + document + _END


def cut(tokenizer: PreTrainedTokenizerBase, prompt: str, most: int, *, special: bool) -> Cut:
    """The prompt as at most `most` tokens: cut at its marked document or, where it has none, from the left.

    special: whether the tokenizer adds its beginning of a text; a chat format has one.

    Raises DcaHubError when what surrounds the document is too long already, or there is no room at all.
    """
    if most < 1:
        raise DcaHubError("The answers of a task leave no tokens for its prompts", Fix("give longer {}", "lengths"))
    side = next((side for side, mark in _STARTS.items() if mark in prompt), None)
    if side is None:
        ids = _encode(tokenizer, prompt, special)
        return Cut(ids[max(0, len(ids) - most) :], max(0, len(ids) - most))
    head, _, rest = prompt.partition(_STARTS[side])
    document, _, tail = rest.partition(_END)
    whole = _encode(tokenizer, head + document + tail, special)
    if len(whole) <= most:
        return Cut(whole, 0)
    before, inner, after = _encode(tokenizer, head, special), _encode(tokenizer, document), _encode(tokenizer, tail)
    room = most - len(before) - len(after)
    if room < 1:
        around = f"{len(before) + len(after):,} tokens around its document, and {most:,} are left beside the answer"
        raise DcaHubError(f"A prompt has {around}", Fix("give longer {}", "lengths"))
    kept = inner[-room:] if side == "left" else inner[:room]
    return Cut([*before, *kept, *after], len(inner) - len(kept))


def marked_document(prompt: str) -> str:
    """The document that is marked in a prompt; an empty text where none is."""
    start = next((mark for mark in _STARTS.values() if mark in prompt), None)
    return prompt.partition(start)[2].partition(_END)[0] if start else ""


def unmarked(prompt: str) -> str:
    for mark in (*_STARTS.values(), _END):
        prompt = prompt.replace(mark, "")
    return prompt


def _encode(tokenizer: PreTrainedTokenizerBase, text: str, special: bool = False) -> list[int]:
    return encode(tokenizer, text, opening=special)
