"""What an answer and a page have in common: words, their weights, shared runs of words, dense passages."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

_TOKEN = re.compile(r"\d+(?:[.,]\d+)*(?![^\W_])|[^\W_]+")
_NUMBER_COUNTS = 3.0
_WINDOW = 60  # words of a page that may support an answer together
SHORTEST_RUN = 4
_MOST_RUNS = 1000  # a page and an answer that repeat one word have a run for each pair of places
_ENGLISH = (
    "a about after all also an and any are as at be because been before being both but by can cannot could did do does "
    "don done each for from had has have he her here hers him himself his how i if in into is it its itself just like "
    "may me might more most much must my no nor not now of off on once only or other our out over own s same say says "
    "said shall she should so some such t than that the their them then there these they this those through to too "
    "under until up upon us very was we were what when where which while who whom why will with would yes yet you your "
    "answer document know page pages pdf question text"
)
_FUNCTION_WORDS = frozenset(_ENGLISH.split())  # what any two English texts share


def words_of(text: str) -> list[str]:
    return [match[0].lower() for match in _TOKEN.finditer(text)]


def tells(word: str) -> bool:
    """Whether sharing this word says anything: no function words, no single letters."""
    return word not in _FUNCTION_WORDS and (len(word) > 1 or word.isdigit())


def pages_with(word: str, lowered: list[str]) -> set[int]:
    """Indices of the lower-case texts that hold `word` as a word of its own."""
    literal = re.escape(word)
    # The literal comes first and what stands before it is checked from behind: only so does `re` skip ahead quickly.
    edges = r"(?![^\W_])(?![.,]\d)" if word[-1].isdigit() else r"(?![^\W_])"
    start = rf"(?<![^\W_]{literal})" + (rf"(?<!\d[.,]{literal})" if word[0].isdigit() else "")
    search = re.compile(literal + edges + start).search
    return {index for index, text in enumerate(lowered) if word in text and search(text)}


def pages_with_phrase(phrase: list[str], lowered: list[str], among: set[int]) -> set[int]:
    """Indices in `among` of the texts where these words follow each other, whatever stands between them."""
    search = re.compile(r"[\W_]{1,8}".join(map(re.escape, phrase)) + r"(?![^\W_])").search
    return {index for index in among if search(lowered[index])}


def weight(word: str, found: int, pages: int) -> float:
    """Rarity over the pages, log(1 + pages / pages with the word); numbers count three times."""
    rarity = math.log(1 + pages / max(found, 1))
    return rarity * _NUMBER_COUNTS if any(c.isdigit() for c in word) else rarity


def _grams(words: list[str], length: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[offset:] for offset in range(length)))


@dataclass(frozen=True)
class Run:
    """Words `start` to `stop` of a page that stand in the answer in the same order without a gap."""

    start: int
    stop: int
    words: frozenset[str]


class PageWords:
    """A page's words with their places in the text, against one answer."""

    def __init__(self, text: str, answer: list[str]) -> None:
        self.text, self.answer = text, answer
        matches = list(_TOKEN.finditer(text))
        self.words = [match[0].lower() for match in matches]
        self.spans = [match.span() for match in matches]

    @cached_property
    def runs(self) -> list[Run]:
        """The maximal runs shared with the answer that say something: four words, two of them telling, or all of it."""
        length = min(SHORTEST_RUN, len(self.answer))
        places = defaultdict(list)
        for first, gram in enumerate(_grams(self.answer, length)):
            places[gram].append(first)
        starts = (
            (first, start)
            for start, gram in enumerate(_grams(self.words, length))
            for first in places.get(gram, ())
            if not (first and start and self.answer[first - 1] == self.words[start - 1])  # it began earlier
        )
        runs = (self._run(first, start) for first, start in islice(starts, _MOST_RUNS))
        return [run for run in runs if self._says_something(run)]

    def _run(self, first: int, start: int) -> Run:
        length = 1
        limit = min(len(self.answer) - first, len(self.words) - start)
        while length < limit and self.answer[first + length] == self.words[start + length]:
            length += 1
        told = frozenset(word for word in self.words[start : start + length] if tells(word))
        return Run(start, start + length, told)

    def _says_something(self, run: Run) -> bool:
        whole = run.stop - run.start == len(self.answer) and bool(run.words)
        return whole or len(run.words) >= 2

    def densest(self, weights: dict[str, float]) -> Run | None:
        """The passage of at most 60 words that holds most of `weights`, each word counted once."""
        hits = [index for index, word in enumerate(self.words) if word in weights]
        best, most, first = None, 0.0, 0
        counts: dict[str, int] = defaultdict(int)
        total = 0.0
        for last in hits:
            word = self.words[last]
            total += 0 if counts[word] else weights[word]
            counts[word] += 1
            while last - hits[first] >= _WINDOW or counts[self.words[hits[first]]] > 1:
                gone = self.words[hits[first]]
                counts[gone] -= 1
                total -= 0 if counts[gone] else weights[gone]
                first += 1
            if total > most + 1e-9:
                best, most = (hits[first], last + 1), total
        if best is None:
            return None
        return Run(*best, frozenset(word for word in self.words[best[0] : best[1]] if word in weights))
