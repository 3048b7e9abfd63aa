"""How well a model quotes out of a long document: words are given, the passage must go on as it does there."""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dca_hub.generation import PIECE, PromptCache, Sampling, decode
from examples.demo_model import wordings
from examples.demo_model.questions import ask

COMPARED = 8  # words of the answer that must be the document's
ROOM = 110  # tokens of the length that are left to question and answer


@dataclass(frozen=True)
class Quote:
    """One question: `kind` is next, whole or absent; `expected` is what the answer must begin with."""

    length: int
    kind: str
    quoted: str
    expected: str
    answer: str

    @property
    def right(self) -> bool:
        return self.answer.split()[: len(self.expected.split())] == self.expected.split()


def run(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    lengths: list[int],
    *,
    documents: int = 3,
    questions: int = 8,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Quote]:
    """`documents` places of the text at each length, laid out as pages, and `questions` about each, kinds in turns."""
    words = text.split()
    cells = [(length, number) for length in lengths for number in range(documents)]
    for done, (length, number) in enumerate(cells):
        rng = random.Random(f"{seed} {length} {number}")
        document, ids = _document(tokenizer, words, length - ROOM, rng)
        cache = PromptCache(model)
        for k in range(questions):
            kind = ("next", "whole", "next", "absent")[k % 4]
            quoted, expected = _chosen(words if kind == "absent" else document, kind, rng)
            options = wordings.WHOLE_QUESTIONS if kind == "whole" else wordings.NEXT_QUESTIONS
            question = ask(rng.choice(options).format(q=quoted))
            prompt = [*ids, *tokenizer.encode(question, add_special_tokens=False)]
            for _ in cache.read(prompt, PIECE):
                pass
            answer = decode(model, tokenizer, cache.generate(prompt, Sampling(64)))
            yield Quote(length, kind, quoted, expected, answer.strip())
        if progress:
            progress(done + 1, len(cells))


def _document(tokenizer, words: list[str], tokens: int, rng: random.Random) -> tuple[list[str], list[int]]:
    """Words out of the text and their token ids: pages of 300 words with marks between them, lines of 72 characters."""
    start = rng.randrange(max(1, len(words) - tokens))
    chosen = words[start : start + tokens]
    ids = tokenizer(_pages(chosen))["input_ids"]
    while len(ids) > tokens:
        chosen = chosen[: min(len(chosen) - 1, len(chosen) * tokens // len(ids))]
        ids = tokenizer(_pages(chosen))["input_ids"]
    return chosen, ids


def _pages(words: list[str], words_a_page: int = 300) -> str:
    pages = [" ".join(words[k : k + words_a_page]) for k in range(0, len(words), words_a_page)]
    wrapped = [re.sub(r"(.{60,72}) ", "\\1\n", page) for page in pages]
    return "".join(f"\n[page {n}]\n{page}\n" for n, page in enumerate(wrapped, 1)).strip()


def _chosen(words: list[str], kind: str, rng: random.Random) -> tuple[str, str]:
    """Five to eight words without quotation marks, and what must follow them in an answer."""
    while True:
        size = rng.randint(5, 8)
        begin = rng.randrange(len(words) - size - COMPARED)
        quoted = words[begin : begin + size]
        if not any('"' in word for word in quoted):
            break
    if kind == "absent":
        return " ".join(quoted), wordings.NO_PASSAGE
    start = begin if kind == "whole" else begin + size
    return " ".join(quoted), " ".join(words[start : begin + size + COMPARED])
