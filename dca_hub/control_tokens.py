"""Text of others within a prompt: documents, haystacks, tasks. None of it becomes a control token, whatever it holds.

Tokenizers find their control tokens in any text, and what follows one is taken for a turn of the format. So
`ControlTokens.defused` marks where such a string has to be taken apart, and `encode` makes tokens of the parts. A text
without control strings is tokenized as ever, and no text loses a character.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

SEAM = "\ue0d4"  # a private character, which `encode` takes a text apart at
# What templates write around a message, where it is more than letters: [INST], <start_of_turn>, USER:, ### Human:.
_MARKERS = re.compile(
    r"[<\[{(【][^\s<>\[\]{}()【】]{1,40}[>\]})】]|(?m:(?<!\S)[A-Z]{2,20}:|^#{1,4} ?[A-Z][A-Za-z ]{1,30}:)"
)
_PROBE = "a7f3c9"


@dataclass(frozen=True)
class ControlTokens:
    """The strings that a tokenizer, or the chat format that it comes with, gives a meaning of their own."""

    tokenizer: PreTrainedTokenizerBase

    def defused(self, text: str) -> str:
        """The text of somebody else, for a prompt that `encode` makes tokens of."""
        text = text.replace(SEAM, "")
        if self._normalizes:
            backend: Any = self.tokenizer  # only tokenizers with a backend of the tokenizers library normalize
            normal = backend.backend_tokenizer.normalizer.normalize_str(text)
            if len(self._tokens.findall(normal)) > len(self._tokens.findall(text)):
                text = normal.replace("\u2581", " ")  # written in other characters that become those of the token
        for pattern, seam in ((self._words, " "), (self._tokens, SEAM)):
            while pattern and pattern.search(text):
                text = pattern.sub(lambda found, seam=seam: f"{found[0][0]}{seam}{found[0][1:]}", text)
        return text

    def spaced(self, text: str) -> str:
        """The text with a blank in each control string: for what is made tokens of elsewhere."""
        return self.defused(text).replace(SEAM, " ")

    @cached_property
    def _strings(self) -> set[str]:
        added = self.tokenizer.added_tokens_decoder.values()
        # Runs of blanks and words are added for their length; they mean what they say.
        named = {token.content for token in added if token.special or not re.match(r"[\w\s]", token.content)}
        return {string for string in (*named, *self.tokenizer.all_special_tokens) if len(string) > 1}

    @cached_property
    def _tokens(self) -> re.Pattern:
        return _any_of(self._strings | {one for one in self._template_markers if self._is_one_token(one)})

    @cached_property
    def _words(self) -> re.Pattern | None:
        """Markers that are several tokens: taken apart they would be the same tokens, so a blank goes into them."""
        words = {one for one in self._template_markers if not self._is_one_token(one)} - self._strings
        return _any_of(words, flags=0) if words else None

    @cached_property
    def _template_markers(self) -> set[str]:
        written = "\n".join(_written_by_template(self.tokenizer)).replace(_PROBE, "\n")
        return set(_MARKERS.findall(written))

    @cached_property
    def _normalizes(self) -> bool:
        core = getattr(self.tokenizer, "backend_tokenizer", None)
        return bool(core and core.normalizer) and any(
            token.normalized for token in self.tokenizer.added_tokens_decoder.values()
        )

    def _is_one_token(self, string: str) -> bool:
        return len(self.tokenizer(string, add_special_tokens=False, verbose=False)["input_ids"]) == 1


def encode(tokenizer: PreTrainedTokenizerBase, text: str, *, opening: bool = False) -> list[int]:
    """The ids of a prompt, in which defused text of others is taken apart.

    opening: whether the tokenizer adds what it puts before a text; a chat format writes that itself.
    """
    first, *rest = text.split(SEAM)
    ids = [*(opening_tokens(tokenizer) if opening else ()), *_ids(tokenizer, first)]
    for part in rest:
        ids += _ids(tokenizer, part)
    return ids


def starts(tokenizer: PreTrainedTokenizerBase, text: str, *, opening: bool = False) -> list[int] | None:
    """For each id that `encode` gives, the character of `text` that it begins at, -1 for what the tokenizer adds; None
    for a tokenizer that does not keep count (those without the tokenizers library)."""
    if not tokenizer.is_fast:
        return None
    found, at = [-1] * len(opening_tokens(tokenizer) if opening else ()), 0
    for part in text.split(SEAM):
        given = tokenizer(part, add_special_tokens=False, verbose=False, return_offsets_mapping=True)
        found += [at + start for start, _ in given["offset_mapping"]]
        at += len(part) + len(SEAM)
    return found


def opening_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer itself puts before a text: a beginning-of-sequence token, or nothing."""
    bare, whole = _ids(tokenizer, "a"), tokenizer("a", verbose=False)["input_ids"]
    at = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), 0)
    return list(whole[:at])


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _any_of(strings: set[str], flags: int = re.IGNORECASE) -> re.Pattern:
    """Finds the longest of some strings; nothing, if there are none."""
    return re.compile("|".join(map(re.escape, sorted(strings, key=len, reverse=True))) or r"(?!)", flags)


def _written_by_template(tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """What chat formats make of short messages, with and without a system message; nothing where there is no format."""
    templates = getattr(tokenizer, "chat_template", None) or {}
    templates = templates if isinstance(templates, dict) else {"default": templates}
    turns = [{"role": role, "content": _PROBE} for role in ("user", "assistant", "user")]
    for template in templates.values():
        for messages in ([{"role": "system", "content": _PROBE}, *turns], turns):
            try:
                yield str(
                    tokenizer.apply_chat_template(
                        messages, chat_template=template, tokenize=False, add_generation_prompt=True
                    )
                )
            except Exception:  # templates raise what they like where they know no system message
                continue
