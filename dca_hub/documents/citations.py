"""Which pages an answer rests on, by its words alone: explainable, and the same for every model.

Each sentence of the answer is a claim, judged by itself. A page supports a claim by the words that it shares, compared
by their stems and weighted by their rarity over the pages, numbers three times. A claim that the page has word for
word is found verbatim. One whose words stand together in one passage, in whatever order, is likely; the words that the
question did not bring must be among them. Numbers, days and months must be right: one that no cited page has next to
the words that it belongs to vetoes the claim, and the citation then says what the page has in its place.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from enum import Enum

from dca_hub.documents.claims import Claim, claims_of, keys_of
from dca_hub.documents.document import Document
from dca_hub.documents.evidence import PageWords, Run
from dca_hub.documents.sentences import SENTENCE_END
from dca_hub.documents.words import holders, is_exact, is_number

_CANDIDATES = 16
_PHRASES, _PHRASE_WORDS = 3, 5  # samples of a claim that are looked for word for word
_MOST_PAGES_OF_CLAIM = 3
_NUMBER_COUNTS = 3.0
_VERBATIM = 0.8  # share of a claim, by weight, that stands on the page in runs
_LIKELY = 0.5  # share of a claim that stands within one passage
_PART = 0.25  # share that one of several pages must explain
_FRESH = 0.4  # share of what the question did not say
_FEWEST_SCATTERED = 3
_CONTEXT_REACH = 40  # words between a number and what it is a number of
_LONGEST_QUOTE, _SENTENCE_REACH = 600, 200


class Grade(str, Enum):
    """How sure a citation is. A member equals its string."""

    VERBATIM = "verbatim"  # the page says it in these words
    LIKELY = "likely"  # the page says it in other words
    NOT_FOUND = "not found"  # the nearest page, which says something else: see `Citation.differences`


@dataclass(frozen=True)
class Difference:
    """A number (or day, or month) of the answer that the page does not have, and what it has instead, "" if nothing."""

    answer: str
    page: str

    def __str__(self) -> str:
        return f"the page says {self.page}" if self.page else f"the page does not say {self.answer}"


@dataclass(frozen=True)
class Citation:
    """`quote` stands in the text of page `page` of `document` (its name) word for word: the passage to highlight.

    score: the share of the answer that the page supports, 0 to 1. source: the document's index among those given,
    which tells two of the same name apart. grade: a citation that is NOT_FOUND supports nothing. claims: the spans
    (start, stop) of the answer's sentences that rest on the page. differences: numbers that the page contradicts.
    """

    document: str
    page: int
    quote: str
    score: float
    source: int = 0
    grade: Grade = Grade.VERBATIM
    claims: tuple[tuple[int, int], ...] = ()
    differences: tuple[Difference, ...] = ()

    @property
    def supports(self) -> bool:
        return self.grade is not Grade.NOT_FOUND


def cite(answer: str, documents: Document | Sequence[Document], question: str = "", *, most: int = 5) -> list[Citation]:
    """At most `most` pages that `answer` rests on, best first, and behind them those that contradict it (NOT_FOUND).

    Empty when no page has anything to do with the answer. question: what it says already counts less, and it breaks
    ties between pages that support the answer equally.
    """
    pages = _Pages([documents] if isinstance(documents, Document) else documents, keys_of(question))
    claims = list(claims_of(answer, pages.question))
    total = sum(pages.weigh(claim.keys) for claim in claims)
    cited: dict[int, list[_Verdict]] = {}
    for claim in claims:
        for verdict in _judge(claim, pages):
            cited.setdefault(verdict.index, []).append(verdict)
    citations = [_citation(pages, index, verdicts, total) for index, verdicts in cited.items()]
    return sorted(citations, key=lambda citation: (not citation.supports, -citation.score))[:most]


@dataclass(frozen=True)
class _Verdict:
    """What one page has to say to one claim; it supports the claim unless there are differences."""

    index: int
    claim: Claim
    weight: float
    verbatim: bool
    passage: Run
    confirmed: frozenset[str] = frozenset()
    longest: int = 0  # words of the claim that stand on the page in a row
    asked: float = 0.0
    differences: tuple[Difference, ...] = ()

    @property
    def order(self) -> tuple[float, bool, int, float, int]:
        return round(self.weight, 6), self.verbatim, self.longest, self.asked, -self.index


class _Pages:
    """The pages of all documents, with what is known of the words on them."""

    def __init__(self, documents: Sequence[Document], question: frozenset[str]) -> None:
        entries = [(s, d.name, p, f) for s, d in enumerate(documents) for p, f in zip(d.pages, d.folded) if p.text]
        self.entries = [entry[:3] for entry in entries]
        self.folded = [entry[3] for entry in entries]
        self.question = question
        self._holders: dict[str, set[int]] = {}
        self._read: dict[int, PageWords] = {}

    def holders(self, key: str) -> set[int]:
        if key not in self._holders:
            self._holders[key] = holders(key, self.folded)
        return self._holders[key]

    def weight(self, key: str) -> float:
        """Rarity over the pages, log(1 + pages / pages with the word); numbers count three times."""
        rarity = math.log(1 + len(self.entries) / max(len(self.holders(key)), 1))
        return rarity * _NUMBER_COUNTS if is_number(key) else rarity

    def weigh(self, keys: Iterable[str]) -> float:
        return sum(map(self.weight, keys))

    def weights(self, keys: Iterable[str]) -> dict[str, float]:
        return {key: self.weight(key) for key in keys}

    def is_rare(self, key: str) -> bool:
        return len(self.holders(key)) <= max(1, len(self.entries) // 10)

    def asked(self, index: int) -> float:
        return sum(self.weight(key) for key in self.question if index in self.holders(key))

    def words(self, index: int) -> PageWords:
        if index not in self._read:
            self._read[index] = PageWords(self.entries[index][2].text)
        return self._read[index]

    def candidates(self, claim: Claim, weights: dict[str, float]) -> list[int]:
        """Pages that share most with the claim, those first that have a sample of it word for word."""
        overlap: dict[int, float] = {}
        for key, value in weights.items():
            for index in self.holders(key):
                overlap[index] = overlap.get(index, 0.0) + value
        ranked = sorted(overlap, key=lambda index: (-overlap[index], -self.asked(index), index))
        return list(dict.fromkeys([*self._quoting(claim)[:_CANDIDATES], *ranked[:_CANDIDATES]]))

    def _quoting(self, claim: Claim) -> list[int]:
        """Finds a quote that has only common words."""
        words = claim.words
        last = max(0, len(words) - _PHRASE_WORDS)
        found: dict[int, int] = {}
        for start in sorted({last * sample // max(1, _PHRASES - 1) for sample in range(_PHRASES)}):
            phrase = words[start : start + _PHRASE_WORDS]
            telling = [self.holders(key) for key in keys_of(" ".join(phrase)) & claim.keys]
            if telling and len(phrase) > 1:
                search = re.compile(r"[\W_]{1,8}".join(map(re.escape, phrase))).search
                for index in set.intersection(*telling):
                    found[index] = found.get(index, 0) + bool(search(self.folded[index]))
        return sorted((index for index in found if found[index]), key=lambda index: (-found[index], index))


def _judge(claim: Claim, pages: _Pages) -> list[_Verdict]:
    """The pages that together explain the claim, or the one that contradicts it."""
    left = pages.weights(claim.keys)
    verdicts: list[_Verdict] = []
    while len(verdicts) < _MOST_PAGES_OF_CLAIM and left:
        found = [_support(claim, pages, index, left, bool(verdicts)) for index in pages.candidates(claim, left)]
        best = max(filter(None, found), key=lambda verdict: verdict.order, default=None)
        if best is None:
            break
        verdicts.append(best)
        explained = best.passage.keys | best.confirmed
        for run in pages.words(best.index).runs(claim.words):
            explained |= run.keys
        left = {key: value for key, value in left.items() if key not in explained or key in _unproved(claim, best)}
    wrong = claim.exact.difference(*(verdict.confirmed for verdict in verdicts))
    return _contradicted(claim, pages, verdicts, wrong) if wrong else verdicts


def _unproved(claim: Claim, verdict: _Verdict) -> frozenset[str]:
    return claim.exact - verdict.confirmed


def _support(claim: Claim, pages: _Pages, index: int, left: dict[str, float], further: bool) -> _Verdict | None:
    """What page `index` explains of the `left` part of the claim, if that is enough to name it."""
    page = pages.words(index)
    runs = page.runs(claim.words)
    confirmed = frozenset(key for key in claim.exact if _confirms(claim, key, pages, index, runs))
    weights = {key: value for key, value in left.items() if key not in claim.exact or key in confirmed}
    passage = page.densest(weights)
    if passage is None:
        return None
    in_runs = {key for run in runs for key in run.keys if key in weights}
    run = max(runs, key=lambda run: (pages.weigh(run.keys & weights.keys()), run.stop - run.start), default=None)
    present = passage.keys | in_runs
    grade = _grade(claim, pages, index, present, in_runs, confirmed, further)
    if grade is None:
        return None
    weight = sum(weights[key] for key in present)
    shown = run if run and in_runs and pages.weigh(run.keys) >= 0.5 * pages.weigh(passage.keys) else passage
    longest = max((run.stop - run.start for run in runs), default=0)
    return _Verdict(index, claim, weight, grade is Grade.VERBATIM, shown, confirmed, longest, pages.asked(index))


def _grade(
    claim: Claim,
    pages: _Pages,
    index: int,
    present: set[str] | frozenset[str],
    in_runs: set[str],
    confirmed: frozenset[str],
    further: bool,
) -> Grade | None:
    total = pages.weigh(claim.keys)
    named = len(in_runs) > 1 or any(map(pages.is_rare, in_runs | confirmed))
    named = named or (bool(in_runs) and pages.asked(index) > 0)
    fresh = claim.keys - pages.question
    if pages.weigh(present & fresh) < (_PART if further else _FRESH) * pages.weigh(fresh):
        return None
    # A word that stands on no page is one that the document does not say, however little of the claim it is.
    foreign = not all(map(pages.holders, claim.keys))
    if named and pages.weigh(in_runs | confirmed) >= _VERBATIM * total and claim.exact <= confirmed and not foreign:
        return Grade.VERBATIM
    share = pages.weigh(present) / total
    several = len(present) >= _FEWEST_SCATTERED or (len(present) > 1 and any(map(pages.is_rare, present & fresh)))
    if share >= _LIKELY and not further and (several or confirmed):
        return Grade.LIKELY
    # A part of the claim: only what says something by itself, a run of words or a number in its context.
    if share >= _PART and ((len(in_runs) > 1 and in_runs & fresh) or confirmed):
        return Grade.LIKELY
    return None


def _confirms(claim: Claim, key: str, pages: _Pages, index: int, runs: list[Run]) -> bool:
    """Whether the page has this number next to the words that it belongs to in the claim."""
    if index not in pages.holders(key):
        return False
    if any(key in run.keys and len(run.keys) > 1 for run in runs):
        return True
    context = pages.weights(claim.context(key) or pages.question)
    page = pages.words(index)
    if page.stands_near(key, context, _CONTEXT_REACH):
        return True
    # A bare number names its page if it is rare and long, also when the question asks for it in other words.
    return not claim.context(key) and len(key) > 2 and pages.is_rare(key)


def _contradicted(claim: Claim, pages: _Pages, verdicts: list[_Verdict], wrong: frozenset[str]) -> list[_Verdict]:
    """The verdicts with each wrong number held against the page that knows best what it is a number of."""
    by_page = {verdict.index: verdict for verdict in verdicts}
    for key in sorted(wrong, key=claim.position_of):
        nearest = _nearest(claim, key, pages, by_page)
        if nearest is None:
            continue
        index, passage = nearest
        before = by_page.get(index) or _Verdict(index, claim, 0.0, False, passage)
        differences = (*before.differences, _difference(claim, key, pages.words(index), passage))
        by_page[index] = replace(before, passage=passage, differences=differences)
    return list(by_page.values())


def _nearest(claim: Claim, key: str, pages: _Pages, known: dict[int, _Verdict]) -> tuple[int, Run] | None:
    """The page and passage that say most of the claim but for its numbers; half of it at least."""
    said = pages.weights((claim.keys - claim.exact) or pages.question)
    near = pages.weights(claim.context(key)) or said
    best: tuple[float, int, Run] | None = None
    for index in [*known, *pages.candidates(claim, said)]:
        passage = pages.words(index).densest(said)
        if passage is None or pages.weigh(passage.keys) < _LIKELY * sum(said.values()):
            continue
        strength = pages.weigh(passage.keys & near.keys()) + 1e-3 * pages.weigh(passage.keys)
        if best is None or strength > best[0]:
            best = strength, index, passage
    return best and best[1:]


def _difference(claim: Claim, key: str, page: PageWords, passage: Run) -> Difference:
    """What the page has in the place of the claim's `key`: the number that follows the same word, or the next one."""
    position = claim.position_of(key)
    token = claim.tokens[position]
    before = claim.tokens[position - 1].word if position else ""
    middle = (passage.start + passage.stop) / 2
    numbers = [n for n in page.numbers_between(passage.start - 12, passage.stop + 12) if page.keys[n] not in claim.keys]
    if not is_number(key):
        around = range(max(0, passage.start - 12), min(len(page.words), passage.stop + 12))
        numbers = [n for n in around if is_exact(page.words[n]) and not is_number(page.words[n])]
    best = min(
        numbers,
        key=lambda n: (page.words[n - 1] != before, -_likeness(page.words[n], token.word), abs(n - middle)),
        default=None,
    )
    return Difference(claim.text_of(token), "" if best is None else page.text[slice(*page.spans[best])])


def _likeness(one: str, other: str) -> float:
    return round(4 * SequenceMatcher(None, one, other).ratio())


def _citation(pages: _Pages, index: int, verdicts: list[_Verdict], total: float) -> Citation:
    source, name, page = pages.entries[index]
    supporting = [verdict for verdict in verdicts if not verdict.differences]
    differences = tuple(dict.fromkeys(d for verdict in verdicts for d in verdict.differences))
    best = max(supporting or verdicts, key=lambda verdict: verdict.order)
    weight = sum(verdict.weight for verdict in supporting)
    grade = Grade.NOT_FOUND
    if supporting:
        verbatim = sum(verdict.weight for verdict in supporting if verdict.verbatim) >= _VERBATIM * weight
        grade = Grade.VERBATIM if verbatim and not differences else Grade.LIKELY
    return Citation(
        name,
        page.number,
        _quote(pages.words(index), best.passage),
        round(min(1.0, weight / total), 3),
        source,
        grade,
        tuple((verdict.claim.start, verdict.claim.stop) for verdict in supporting),
        differences,
    )


def _quote(page: PageWords, passage: Run) -> str:
    """The passage, and the rest of its sentences where they end nearby."""
    text = page.text
    start, stop = page.spans[passage.start][0], page.spans[passage.stop - 1][1]
    stop = min(stop, start + _LONGEST_QUOTE)
    reach = max(0, min(_SENTENCE_REACH, (_LONGEST_QUOTE - (stop - start)) // 2))
    before = list(SENTENCE_END.finditer(text, max(0, start - reach), start))
    if before:
        start = before[-1].end()
    elif start <= reach:
        start = 0
    after = SENTENCE_END.search(text, max(start, stop - 1), min(len(text), stop + reach))
    if after:
        stop = after.end()
    elif len(text) - stop <= reach:
        stop = len(text)
    return text[start:stop].strip()
