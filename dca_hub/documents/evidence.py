"""A page against one claim of an answer: shared runs of words, and the passage that holds most of it."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from dca_hub.documents.words import is_number, key_of, tells, tokens_of

PASSAGE_WORDS = 60  # words of a page that may support a claim together
SHORTEST_RUN = 4
_MOST_RUNS = 200  # a page and a claim that repeat one word have a run for each pair of positions
_MOST_STARTS = 20_000


@dataclass(frozen=True)
class Run:
    """Words `start` to `stop` of a page, and which keys of the claim they hold."""

    start: int
    stop: int
    keys: frozenset[str]


class PageWords:
    """A page's words, their keys, and their spans in its text."""

    def __init__(self, text: str) -> None:
        self.text = text
        tokens = tokens_of(text)
        self.words = [token.word for token in tokens]
        self.spans = [(token.start, token.stop) for token in tokens]
        keys = {word: key_of(word) for word in set(self.words)}
        self.keys = [keys[word] for word in self.words]

    @cached_property
    def _positions(self) -> dict[str, list[int]]:
        positions = defaultdict(list)
        for index, word in enumerate(self.words):
            positions[word].append(index)
        return positions

    @cached_property
    def positions_of_keys(self) -> dict[str, list[int]]:
        positions = defaultdict(list)
        for index, key in enumerate(self.keys):
            positions[key].append(index)
        return positions

    def runs(self, claim: list[str]) -> list[Run]:
        """The maximal runs shared with the claim that say something: four words, two of them telling, or all of it."""
        length = min(SHORTEST_RUN, len(claim))
        runs = (self._run(claim, first, start) for first, start in islice(self._starts(claim, length), _MOST_RUNS))
        return [run for run in runs if len(run.keys) >= 2 or (run.stop - run.start == len(claim) and run.keys)]

    def _starts(self, claim: list[str], length: int) -> Iterator[tuple[int, int]]:
        """(word of the claim, word of the page) where a run of at least `length` words begins."""
        seen = 0
        for first in range(len(claim) - length + 1):
            gram = claim[first : first + length]
            rarest = min(range(length), key=lambda offset: len(self._positions.get(gram[offset], ())))
            for position in self._positions.get(gram[rarest], ()):
                start = position - rarest
                seen += 1
                if seen > _MOST_STARTS:
                    return
                if start < 0 or self.words[start : start + length] != gram:
                    continue
                if not (first and start and claim[first - 1] == self.words[start - 1]):  # else it began earlier
                    yield first, start

    def _run(self, claim: list[str], first: int, start: int) -> Run:
        length = 1
        limit = min(len(claim) - first, len(self.words) - start)
        while length < limit and claim[first + length] == self.words[start + length]:
            length += 1
        shared = zip(self.words[start : start + length], self.keys[start : start + length])
        return Run(start, start + length, frozenset(key for word, key in shared if tells(word)))

    def densest(self, weights: dict[str, float]) -> Run | None:
        """The passage of at most PASSAGE_WORDS words that holds most of `weights`, each key counted once."""
        hits = sorted(index for key in weights for index in self.positions_of_keys.get(key, ()))
        best, most, first = None, 0.0, 0
        counts: dict[str, int] = defaultdict(int)
        total = 0.0
        for last in hits:
            key = self.keys[last]
            total += 0 if counts[key] else weights[key]
            counts[key] += 1
            while last - hits[first] >= PASSAGE_WORDS or counts[self.keys[hits[first]]] > 1:
                gone = self.keys[hits[first]]
                counts[gone] -= 1
                total -= 0 if counts[gone] else weights[gone]
                first += 1
            if total > most + 1e-9:
                best, most = (hits[first], last + 1), total
        if best is None:
            return None
        return Run(*best, frozenset(key for key in self.keys[best[0] : best[1]] if key in weights))

    def stands_near(self, key: str, context: dict[str, float], reach: int) -> bool:
        """Whether `key` stands here with at least half of `context` (by weight) within `reach` words."""
        needed = 0.5 * sum(context.values())
        for position in self.positions_of_keys.get(key, ()):
            around = set(self.keys[max(0, position - reach) : position + reach])
            if sum(value for word, value in context.items() if word in around) >= needed:
                return True
        return False

    def numbers_between(self, start: int, stop: int) -> list[int]:
        """The positions of the numbers among words `start` to `stop`."""
        return [index for index in range(max(0, start), min(stop, len(self.words))) if is_number(self.words[index])]
