"""Scores of answers, each from 0 to 1, as the authors' experiments have them, and means over samples.

SCROLLS (Shaham et al., arXiv 2201.03533): F1, exact match and the geometric mean of ROUGE-1, -2 and -L. L-Eval (An et
al., arXiv 2307.11088): the exam score, as published and corrected. Needs neither torch nor transformers.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

from dca_hub.errors import DcaHubError

_LETTERS = re.compile(r"(?<![A-Za-z])[A-D]{1,4}(?![A-Za-z])")
# "A" before a word in lower case is an article, unless the word goes on about an option.
_ARTICLE = re.compile(
    r"(?<![A-Za-z])A(?= (?!(?:is|was|are|and|or|because|since|as|for|but|not|would|should|seems|states|says)\b)[a-z])"
)
_PARTLY = 0.25  # of a point for some of several right letters and no wrong one, as L-Eval has it


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and its standard error: 0 for a single value."""
    middle = sum(values) / len(values)
    variance = sum((value - middle) ** 2 for value in values) / max(1, len(values) - 1)
    return middle, math.sqrt(variance / len(values))


def perplexity(nats: float) -> float:
    """Of a mean negative log-likelihood a token; infinite where a number cannot hold it."""
    return math.exp(nats) if nats < 700 else math.inf


def normalize(text: str) -> str:
    """Lower case without punctuation, articles and extra spaces, as SQuAD has it."""
    bare = "".join(ch for ch in text.lower() if ch not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def best(score: Callable[[str, str], float], answer: str, references: Sequence[str]) -> float:
    """The best score against any of the references."""
    return max((score(answer, reference) for reference in references), default=0.0)


def f1(answer: str, reference: str) -> float:
    """The harmonic mean of precision and recall over normalized words."""
    said, wanted = normalize(answer).split(), normalize(reference).split()
    common = sum((Counter(said) & Counter(wanted)).values())
    if not common:
        return 0.0
    precision, recall = common / len(said), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def exact_match(answer: str, reference: str) -> float:
    """Whether both are the same once normalized."""
    return float(normalize(answer) == normalize(reference))


def rouge(answer: str, references: Sequence[str]) -> tuple[float, float, float]:
    """ROUGE-1, -2 and -L (F-measure, no stemming), each the best over the references."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise DcaHubError("ROUGE needs the package rouge-score: pip install -r requirements-evaluate.txt.") from None
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    every = [scorer.score(reference, answer) for reference in references]
    return tuple(max(one[kind].fmeasure for one in every) for kind in ("rouge1", "rouge2", "rougeL"))


def geometric_mean(scores: Sequence[tuple[float, float, float]]) -> float:
    """The geometric mean of the three averages over a corpus."""
    one, two, longest = (sum(score[k] for score in scores) / len(scores) for k in range(3))
    return (one * two * longest) ** (1 / 3)


def chosen_letters(answer: str, several: bool) -> str:
    """The options that an answer chooses, sorted: letters A to D that stand by themselves, an article not among them;
    the first group of them, or, where several options may be right, all in the first paragraph that has any, before a
    next question."""
    for paragraph in re.split(r"\n\s*\n", answer.split("Question")[0]):
        groups = _LETTERS.findall(_ARTICLE.sub("", paragraph))
        if groups:
            return "".join(sorted(set("".join(groups if several else groups[:1]))))
    return ""


def exam(answer: str, reference: str, several: bool = False) -> float:
    """1 for the right letters, 0.25 for some of several and no wrong one, else 0.

    Corrected: an answer without a letter has 0, the A of "Answer" is not an option, nor is the article of "A good
    artist paints, so C", and separate letters ("A, B") count in full. `published_exam` gives L-Eval's own number.
    """
    said, right = chosen_letters(answer, several), _right_letters(reference)
    return _letters_score(said, right) if right else 0.0


def published_exam(answer: str, reference: str, several: bool = False) -> float:
    """The exam score as L-Eval's evaluator of today computes it, misreadings included.

    With one right option the first A, B, C or D within any word counts. With several, letters count that begin the
    answer, or that stand before a space, a full stop or a bracket. An empty answer has 0; an answer in which no letter
    is found is taken for A.
    """
    right = re.sub("[^A-D]", "", (reference.split() or [""])[0]) or "A"
    return _letters_score(_published_letters(answer, several), right) if answer else 0.0


def _published_letters(answer: str, several: bool) -> str:
    if answer in "ABCD":
        return answer
    anywhere = re.search("[A-D]", answer)
    if not several and anywhere:
        return anywhere.group()
    begun = re.match("[A-D]*", answer).group()
    if len(begun) > 1:
        return "".join(sorted(set(begun)))
    rest = answer[len(begun) :].partition("Question")[0]
    marked = re.findall(r"[A-D](?=[\s.)])", rest)
    return "".join(sorted({*begun, *marked})) or "A"


def _right_letters(reference: str) -> str:
    return "".join(sorted(set(re.sub("[^A-D]", "", (reference.split() or [""])[0]))))


def _letters_score(said: str, right: str) -> float:
    if said == right:
        return 1.0
    return _PARTLY if said and set(said) <= set(right) else 0.0


def judged(answer: str) -> str:
    """What an answer says first: true, false, or nothing."""
    return next((w for word in answer.lower().split() for w in ("true", "false") if w in word), "")
