"""An answer as claims: its sentences, each with what it says and the numbers that must be right."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dca_hub.documents.sentences import sentences
from dca_hub.documents.words import Token, is_exact, key_of, tells, tokens_of

_MOST_WORDS = 300  # of the answer
_CONTEXT = 5  # telling words next to a number that say what it is a number of
_THOUGHT = re.compile(r".*</think(?:ing)?>", re.DOTALL)
# Numbers that say nothing about the document: its pages, "a 5-digit number", and the answer's own enumeration.
_REFERENCE = re.compile(
    r"\[(?:page )?\d{1,3}(?:, ?\d{1,3})*\]|\bpages? \d+(?:[-–]\d+)?|\bpp?\. ?\d+"
    r"|\b\d+[- ]digit\b|^\s*\(?\d{1,2}[.)](?=[ \t]+\S)",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True)
class Claim:
    """One sentence of the answer.

    start, stop: its span in `answer`. keys: what it says. exact: those of the keys that veto (numbers, days and months
    that the question did not name).
    """

    answer: str
    start: int
    stop: int
    tokens: tuple[Token, ...]
    keys: frozenset[str]
    exact: frozenset[str]

    @property
    def words(self) -> list[str]:
        return [token.word for token in self.tokens]

    def text_of(self, token: Token) -> str:
        return self.answer[token.start : token.stop]

    def position_of(self, key: str) -> int:
        return next(index for index, token in enumerate(self.tokens) if key_of(token.word) == key)

    def context(self, key: str) -> list[str]:
        """The telling keys next to `key`, nearest first: what the number is a number of."""
        position = self.position_of(key)
        near = sorted(range(len(self.tokens)), key=lambda index: abs(index - position))
        words = (self.tokens[index].word for index in near)
        found = dict.fromkeys(key_of(word) for word in words if tells(word) and not is_exact(word))
        return list(found)[:_CONTEXT]


def claims_of(answer: str, question_keys: frozenset[str]) -> Iterator[Claim]:
    """The claims of `answer`; a reasoning model's thoughts are none."""
    thought = _THOUGHT.match(answer)
    begin = thought.end() if thought else 0
    # Blanked and not cut out, so that spans stay those of the answer.
    text = _REFERENCE.sub(lambda match: " " * len(match[0]), " " * begin + answer[begin:])
    words = 0
    for start, stop in sentences(text):
        tokens = tuple(
            Token(token.word, token.start + start, token.stop + start) for token in tokens_of(text[start:stop])
        )[: _MOST_WORDS - words]
        words += len(tokens)
        keys = frozenset(key_of(token.word) for token in tokens if tells(token.word))
        exact = frozenset(key_of(token.word) for token in tokens if is_exact(token.word) and tells(token.word))
        if keys:
            yield Claim(answer, start, stop, tokens, keys, exact - question_keys)


def keys_of(text: str) -> frozenset[str]:
    """What `text` says, as keys."""
    return frozenset(key_of(token.word) for token in tokens_of(text) if tells(token.word))
