"""Dialogues from files, and as token ids whose labels are the answers.

Three formats, as a JSON list or as JSON lines: the authors' (L4NLP/chunkllama-long-dialog: `inputs`, what a user says,
and `outputs`, the answer to each), that of ShareGPT and LongChat (`conversations` of `from` human or gpt, and `value`),
and message lists (`messages` of `role` and `content`).
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from dca_hub import json_lines, thoughts
from dca_hub.control_tokens import SEAM, ControlTokens
from dca_hub.errors import DcaHubError

Message = dict[str, str]
_SHOWN = 3  # odd dialogues that are named
IGNORED = -100  # the label that the loss leaves out
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
# For models without a chat format of their own: that of Vicuna, on which the authors' recipe rests.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] + ' ' }}"
    "{% elif message['role'] == 'user' %}{{ 'USER: ' + message['content'] }}"
    "{% else %}{{ ' ASSISTANT: ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"
)


@dataclass(frozen=True)
class Document:
    """A dialogue as tokens: `labels` are the ids of answers, and IGNORED elsewhere."""

    input_ids: list[int]
    labels: list[int]

    def cut(self, length: int) -> "Document":
        return Document(self.input_ids[:length], self.labels[:length])

    @property
    def teaches(self) -> bool:
        """Whether there is anything to learn; the first token is predicted from nothing and does not count."""
        return any(label != IGNORED for label in self.labels[1:])


class OddDialogue(DcaHubError):
    """One dialogue cannot be used; others can."""


def read(path: Path, on_message: Callable[[str], None] = lambda note: None) -> list[list[Message]]:
    """The dialogues in a file, with roles user, assistant and system; `on_message` is told what was left out, and why.

    Raises DcaHubError for a file that is not JSON, and when no entry can be used.
    """
    text = json_lines.read_text(path, "dialogues")
    entries = list(_entries(text, path.name))
    if not entries:
        raise DcaHubError(f"{path.name!r} holds no dialogues: give a JSON list or JSON lines of them.")
    return usable(entries, lambda one: _dialogue(one[1], one[0]), on_message)


def usable(given: Sequence[Any], make: Callable[[Any], Any], on_message: Callable[[str], None]) -> list[Any]:
    """What `make` makes of each dialogue. The odd ones are left out, and how many and why is said.

    Raises DcaHubError when all are odd, with what the first one lacks.
    """
    found, odd = [], []
    for one in given:
        try:
            found.append(make(one))
        except OddDialogue as error:
            odd.append(str(error))
    if odd and not found:
        raise DcaHubError(odd[0])
    if odd:
        shown = " ".join(odd[:_SHOWN]) + (f" (and {len(odd) - _SHOWN:,} more)" if len(odd) > _SHOWN else "")
        on_message(f"note: {len(odd):,} of {len(given):,} dialogues cannot be used and are left out. {shown}")
    return found


def _entries(text: str, name: str) -> Iterator[tuple[str, Any]]:
    """Each entry with where it stands: of a JSON list, of JSON lines, or of one object over several lines."""
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("["):
            raise DcaHubError(f"{name!r} is not valid JSON ({error}): correct it.") from None
        yield from json_lines.parse(text, name, "give a JSON list or JSON lines")
        return
    for number, entry in enumerate(entries if isinstance(entries, list) else [entries], 1):
        yield f"{name}, entry {number}", entry


def _dialogue(entry: Any, where: str) -> list[Message]:
    entry = entry if isinstance(entry, dict) else {}
    turns = _paired(entry, where) if "inputs" in entry else entry.get("messages", entry.get("conversations"))
    if not isinstance(turns, list) or not turns:
        raise OddDialogue(
            f"{where} has neither messages (role, content) nor conversations (from, value) nor inputs and outputs."
        )
    found = []
    for turn in turns:
        said = turn if isinstance(turn, dict) else {}
        role, content = said.get("role", said.get("from")), said.get("content", said.get("value"))
        if role not in _ROLES or not isinstance(content, str):
            raise OddDialogue(f"{where}: a turn needs a role ({', '.join(_ROLES)}) and a text, got {turn!r:.80}.")
        found.append({"role": _ROLES[role], "content": content})
    if not any(message["role"] == "assistant" for message in found):
        raise OddDialogue(f"{where} holds no answer, so there is nothing to learn from it.")
    if next(message["role"] for message in found if message["role"] != "system") == "assistant":
        raise OddDialogue(f"{where} begins with an answer.")
    return found


def _paired(entry: dict, where: str) -> list[Message]:
    """The turns of the authors' format."""
    asked, answered = entry["inputs"], entry.get("outputs")
    if not isinstance(asked, list) or not isinstance(answered, list) or len(asked) != len(answered):
        raise OddDialogue(f"{where}: inputs and outputs must be lists of texts, an output for each input.")
    roles = ("user", "assistant")
    return [{"role": r, "content": text} for pair in zip(asked, answered) for r, text in zip(roles, pair)]


def joined(dialogues: list[list[Message]], size: int, count) -> list[list[Message]]:
    """Dialogues one after another as longer ones of about `size` tokens, as the authors trained: `count` gives the
    tokens of one. System messages but the first of each are dropped."""
    found: list[list[Message]] = []
    room = 0
    for dialogue in dialogues:
        tokens = count(dialogue)
        if not found or tokens > room:
            found.append([])
            room = size
        more = [message for message in dialogue if message["role"] != "system"] if found[-1] else dialogue
        found[-1] = [*found[-1], *more]
        room -= tokens
    return found


def tokenize(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> Document:
    """A dialogue in the tokenizer's chat format, with the answers and what ends them as labels. No text of a turn
    becomes a control token, but for the tags around an answer's thoughts.

    Raises DcaHubError for a slow tokenizer, and OddDialogue where the format refuses the dialogue, or the answers
    cannot be told from the rest.
    """
    if not tokenizer.is_fast:
        raise DcaHubError("Loss on answers alone needs a fast tokenizer (tokenizer.json): convert this one first.")
    messages = _defused(ControlTokens(tokenizer), messages)
    text = _render(tokenizer, messages)
    spans = _spans_by_prefix(tokenizer, messages, text) or _spans_by_search(tokenizer, messages, text)
    ids, labels, number = [], [], 0
    for token, start, end in _placed(tokenizer, text):
        while number < len(spans) and start >= spans[number][1]:
            number += 1
        within = number < len(spans) and end > spans[number][0] and start < end
        ids.append(token)
        labels.append(token if within else IGNORED)
    return Document(ids, labels)


def _defused(controls: ControlTokens, messages: list[Message]) -> list[Message]:
    def safe(message: Message) -> str:
        if message["role"] != "assistant":
            return controls.defused(message["content"])
        parts = thoughts.parts(message["content"])  # the tags are at the odd places
        return "".join(part if at % 2 else controls.defused(part) for at, part in enumerate(parts))

    return [{**message, "content": safe(message)} for message in messages]


def _placed(tokenizer: PreTrainedTokenizerBase, text: str) -> Iterator[tuple[int, int, int]]:
    """The tokens of a text that is taken apart at its seams: (id, first character, character behind the last)."""
    at = 0
    for part in text.split(SEAM):
        found = tokenizer(part, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        for token, (start, end) in zip(found["input_ids"], found["offset_mapping"]):
            yield token, at + start, at + end
        at += len(part) + len(SEAM)


def _spans_by_prefix(tokenizer, messages: list[Message], text: str) -> list[tuple[int, int]] | None:
    """Where the answers begin and end in a dialogue's text, by the texts of its beginnings; None where the format
    writes earlier turns in another way than the last one."""
    spans = []
    for number, message in enumerate(messages):
        if message["role"] == "assistant":
            start = _agreed(_render(tokenizer, messages[:number], add_generation_prompt=True), text)
            end = _agreed(_render(tokenizer, messages[: number + 1]), text)
            if message["content"].strip() not in text[start:end]:
                return None
            spans.append((start, end))
    return spans


def _spans_by_search(tokenizer, messages: list[Message], text: str) -> list[tuple[int, int]]:
    """The same, by the words of the messages, one behind the other: for formats such as Qwen3's, whose last turn alone
    has a thought.

    Raises OddDialogue where an answer is not in the text.
    """
    spans, at = [], 0
    for number, message in enumerate(messages):
        said = message["content"].rpartition("</think>")[2].strip()  # earlier thoughts are left out of the text
        start = text.find(said, at)
        if message["role"] != "assistant":
            at = at if start < 0 else start + len(said)
            continue
        if start < 0 or not said:
            raise OddDialogue(
                "The chat format of this model rewrites earlier turns, so that its answers cannot be told from the "
                "rest: give the tokenizer a chat template that does not."
            )
        alone = _render(tokenizer, messages[: number + 1])  # the answer is the last turn there
        ending = alone[alone.rfind(said) + len(said) :]
        at = start + len(said)
        at += _agreed(ending, text[at : at + len(ending)])
        spans.append((start, at))
    return spans


def _agreed(a: str, b: str) -> int:
    """How many characters two texts have in common from the beginning."""
    if b.startswith(a):  # as formats mostly have it, and much faster
        return len(a)
    return next((k for k, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[Message], add_generation_prompt: bool = False) -> str:
    try:
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt, enable_thinking=False
        )
        return str(text)  # with tokenize=False it is one
    except Exception as error:  # templates raise what they like
        raise OddDialogue(f"The chat format of this model refuses a dialogue ({error}).") from None
