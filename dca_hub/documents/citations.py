"""Which pages an answer rests on, by its words alone: explainable, and the same for every model.

A page supports an answer by the words that it shares, each weighted by its rarity over the pages, numbers three times.
Words within a run that page and answer share (four words or more, or the whole answer) count fully, words that only
stand together in one passage count half, numbers always fully. The page with most support is cited, then the page that
explains most of what is left, until what is left is too thin to name a source.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .document import Document
from .evidence import PageWords, Run, pages_with, pages_with_phrase, tells, weight, words_of

_MOST_ANSWER_WORDS = 300
_CANDIDATES = 16
_PHRASES, _PHRASE_WORDS = 8, 5  # samples of the answer that are looked for word for word
_LEAST_SUPPORT = 0.2
_LEAST_SCATTERED = 0.3  # of a possible 0.5: three fifths of the answer's weight within one passage
_FEWEST_SCATTERED = 3
_LONGEST_QUOTE, _SENTENCE_REACH = 600, 200
_SENTENCE_END = re.compile(r"[.!?][\"'”’)]?\s|\n")


@dataclass(frozen=True)
class Citation:
    """`quote` stands in the text of page `page` of `document` (its name) word for word: the passage to highlight.

    score: the share of the answer that the page explains, 0 to 1. source: the document's place among those given, which
    tells two of the same name apart.
    """

    document: str
    page: int
    quote: str
    score: float
    source: int = 0


def cite(answer: str, documents: Document | Sequence[Document], question: str = "", *, most: int = 5) -> list[Citation]:
    """At most `most` pages that `answer` rests on, best first; none when no page supports it.

    question: its words break ties between pages that support the answer equally.
    """
    if isinstance(documents, Document):
        documents = [documents]
    words = words_of(answer)[:_MOST_ANSWER_WORDS]
    search = _Search(words, documents, set(words_of(question)))
    citations = []
    while len(citations) < most and (support := search.best()):
        citations.append(search.accept(support))
    return citations


@dataclass(frozen=True)
class _Support:
    index: int
    score: float
    asked: float
    passage: Run


class _Search:
    """One answer against all pages; `left` is the part of its words that no citation has explained yet."""

    def __init__(self, answer: list[str], documents: Sequence[Document], question: set[str]) -> None:
        self.answer = answer
        self.places = [(s, d.name, p) for s, d in enumerate(documents) for p in d.pages if p.text]
        lowered = [page.text.lower() for _, _, page in self.places]
        self.holders = {word: pages_with(word, lowered) for word in set(answer) if tells(word)}
        self.left = {word: weight(word, len(found), len(lowered)) for word, found in self.holders.items()}
        self.total = sum(self.left.values())
        self.asked = [0.0] * len(lowered)
        for word in filter(tells, question - set(answer)):
            holders = pages_with(word, lowered)
            for index in holders:
                self.asked[index] += weight(word, len(holders), len(lowered))
        self.phrases = self._phrases(lowered)
        self.read: dict[int, PageWords] = {}

    def _phrases(self, lowered: list[str]) -> Counter[int]:
        """How many samples of the answer each page has word for word: finds a quote that has only common words."""
        found: Counter[int] = Counter()
        last = max(0, len(self.answer) - _PHRASE_WORDS)
        for start in sorted({last * sample // max(1, _PHRASES - 1) for sample in range(_PHRASES)}):
            phrase = self.answer[start : start + _PHRASE_WORDS]
            holders = [self.holders[word] for word in phrase if word in self.holders]
            if holders:
                found.update(pages_with_phrase(phrase, lowered, set.intersection(*holders)))
        return found

    def best(self) -> _Support | None:
        overlap: dict[int, float] = {}
        for word, value in self.left.items():
            for index in self.holders[word]:
                overlap[index] = overlap.get(index, 0.0) + value
        ranked = sorted(overlap, key=lambda index: (-overlap[index], -self.asked[index], index))
        quoting = sorted(overlap.keys() & self.phrases.keys(), key=lambda index: (-self.phrases[index], index))
        candidates = dict.fromkeys(quoting[:_CANDIDATES] + ranked[:_CANDIDATES])
        supports = filter(None, map(self._support, candidates))
        return max(supports, key=lambda s: (round(s.score, 6), s.asked, -s.index), default=None)

    def accept(self, support: _Support) -> Citation:
        source, name, page = self.places[support.index]
        for run in (*self.read[support.index].runs, support.passage):
            for word in run.words:
                self.left.pop(word, None)
        quote = _quote(self.read[support.index], support.passage)
        return Citation(name, page.number, quote, round(support.score, 3), source)

    def _support(self, index: int) -> _Support | None:
        page = self.read.setdefault(index, PageWords(self.places[index][2].text, self.answer))
        in_runs = {word for run in page.runs for word in run.words if word in self.left}
        dense = page.densest(self.left)
        if dense is None:
            return None
        numbers = {word for word in dense.words if word[0].isdigit()}
        full = in_runs | numbers
        score = (self._sum(full) + 0.5 * self._sum(dense.words - full)) / self.total
        if not self._convinces(index, score, in_runs, numbers, dense):
            return None
        run = max(page.runs, key=lambda run: (self._sum(run.words), run.stop - run.start), default=None)
        return _Support(index, score, self.asked[index], run if in_runs and run else dense)

    def _convinces(self, index: int, score: float, in_runs: set[str], numbers: set[str], dense: Run) -> bool:
        if score < _LEAST_SUPPORT:
            return False
        if len(in_runs) > 1 or any(self._is_rare(word) for word in numbers):
            return True
        if in_runs:  # an answer of one word: it names its page if it is rare, or if the question's words are there
            return all(map(self._is_rare, in_runs)) or self.asked[index] > 0
        return score >= _LEAST_SCATTERED and len(dense.words) >= _FEWEST_SCATTERED

    def _is_rare(self, word: str) -> bool:
        return len(self.holders[word]) <= max(1, len(self.places) // 10)

    def _sum(self, words: set[str] | frozenset[str]) -> float:
        return sum(self.left.get(word, 0.0) for word in words)


def _quote(page: PageWords, passage: Run) -> str:
    """The passage, and the rest of its sentences where they end nearby."""
    text = page.text
    start, stop = page.spans[passage.start][0], page.spans[passage.stop - 1][1]
    stop = min(stop, start + _LONGEST_QUOTE)
    reach = max(0, min(_SENTENCE_REACH, (_LONGEST_QUOTE - (stop - start)) // 2))
    before = list(_SENTENCE_END.finditer(text, max(0, start - reach), start))
    if before:
        start = before[-1].end()
    elif start <= reach:
        start = 0
    after = _SENTENCE_END.search(text, max(start, stop - 1), min(len(text), stop + reach))
    if after:
        stop = after.end()
    elif len(text) - stop <= reach:
        stop = len(text)
    return text[start:stop].strip()
