"""Documents and questions as the tokens of a prompt, in the chat format of a model or, without one, as plain text."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from dca_hub import thoughts
from dca_hub.control_tokens import ControlTokens, encode, starts
from dca_hub.documents import Document
from dca_hub.documents.document import page_mark
from dca_hub.errors import DcaHubError

INSTRUCTION = "Answer the questions from the following document. Say so when it does not hold the answer.\n\n"
_QUESTION, _ANSWER = "\n\nQuestion: ", "\nAnswer:"
STOP_STRINGS = ["\nQuestion:"]


PageKey = tuple[int, int]  # the index of a document, and the number of a page in it


@dataclass(frozen=True)
class Turn:
    """A question and, once it is given, its answer."""

    question: str
    answer: str | None = None


@dataclass(frozen=True)
class Prompter:
    """Writes prompts for one tokenizer."""

    tokenizer: PreTrainedTokenizerBase

    def tokens(self, document: str, turns: Sequence[Turn]) -> list[int]:
        """The whole conversation, as token ids, up to where the answer of its last turn begins."""
        safe = self._controls.defused
        # An answer may repeat what a document made the model say.
        turns = [Turn(safe(turn.question), None if turn.answer is None else safe(turn.answer)) for turn in turns]
        text = self.text(safe(document), turns)
        return encode(self.tokenizer, text, opening=not self.is_chat)

    def page_spans(self, documents: Sequence[Document], turns: Sequence[Turn]) -> dict[PageKey, tuple[int, int]]:
        """Where each page stands among the tokens of a conversation about documents: (index of the document, number of
        the page) to (first token, the one after its last). Empty where the tokenizer or the format does not let it be
        known."""
        text = self.text(self._controls.defused(join(documents)), turns)
        at = starts(self.tokenizer, text, opening=not self.is_chat)
        spans, end = {}, 0
        for source, document in enumerate(documents):
            for page in document.pages if at is not None else ():
                words = self._controls.defused(f"{page_mark(page.number)}\n{page.text}").rstrip()
                begin = text.find(words, end) if page.text else -1
                if begin >= 0 and at is not None:
                    end = begin + len(words)
                    spans[source, page.number] = (bisect_left(at, begin), bisect_left(at, end))
        return spans

    def continued(self, begun: str) -> list[int]:
        """The tokens of an answer that goes on, behind thoughts that are over."""
        closed = f"{thoughts.CLOSING}\n\n" if self.opens_thoughts else ""
        return encode(self.tokenizer, closed + self._controls.defused(begun))

    def count(self, text: str) -> int:
        """Tokens of a text by itself."""
        return len(encode(self.tokenizer, self._controls.defused(text)))

    @cached_property
    def _controls(self) -> ControlTokens:
        return ControlTokens(self.tokenizer)

    def text(self, document: str, turns: Sequence[Turn]) -> str:
        """The prompt as text. The document begins the first message of the user: small models follow a question behind
        it, and lose one that stands in another message."""
        if not self.is_chat:
            said = [f"{_QUESTION}{turn.question}{_ANSWER}{_answered(turn)}" for turn in turns]
            return document.rstrip() + "".join(said)
        messages = [message for turn in turns for message in _messages(turn)]
        if self.has_no_roles:
            return self._render([{"role": "system", "content": document.rstrip()}, *messages])
        if not document:
            return self._render(messages)
        question = turns[0].question if turns else ""
        first = {"role": "user", "content": f"{INSTRUCTION}{document}\n\n{question}"}
        return self._render([first, *messages[1:]])

    @property
    def is_chat(self) -> bool:
        return bool(getattr(self.tokenizer, "chat_template", None))

    @cached_property
    def _template(self) -> str:
        """The chat template that is called default, or the only one.

        Raises DcaHubError for several of which none is.
        """
        known = self.tokenizer.chat_template
        if not isinstance(known, dict):
            return known
        if "default" not in known and len(known) > 1:
            raise DcaHubError(
                f"The tokenizer has the chat templates {', '.join(sorted(known))}, and none is called default: rename "
                "one in its tokenizer_config.json."
            )
        return known.get("default") or next(iter(known.values()))

    @cached_property
    def opens_thoughts(self) -> bool:
        """Whether the chat format itself opens the thoughts of a reasoning model, at the end of each prompt."""
        return self.is_chat and thoughts.ends_within(self._probe)

    @cached_property
    def thinks(self) -> bool:
        """Whether answers are to be expected behind thoughts."""
        return self.is_chat and thoughts.are_written(self._template, self._probe)

    @cached_property
    def _probe(self) -> str:
        return self.text("the document", [Turn("a question")])

    @cached_property
    def has_no_roles(self) -> bool:
        """Whether the format sets a system message as it is, so that instructions would be text."""
        try:
            probe = self._render([{"role": "system", "content": "the document"}], add_generation_prompt=False)
        except Exception:  # templates raise what they like where they know no system message
            return False
        return probe == f"{self.tokenizer.bos_token or ''}the document"

    def _render(self, messages: list[dict[str, Any]], add_generation_prompt: bool = True) -> str:
        text = self.tokenizer.apply_chat_template(
            messages,
            chat_template=self._template,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            enable_thinking=False,
        )
        return str(text)  # with tokenize=False it is one


def join(documents: Sequence[Document]) -> str:
    """Several documents as one text, each under its name; one alone as it is."""
    if len(documents) == 1:
        return documents[0].text
    return "\n\n".join(f"[document {document.name}]\n{document.text}" for document in documents)


def _messages(turn: Turn) -> list[dict[str, str]]:
    said = [{"role": "user", "content": turn.question}]
    return said if turn.answer is None else [*said, {"role": "assistant", "content": turn.answer}]


def _answered(turn: Turn) -> str:
    return "" if turn.answer is None else f" {turn.answer}"
