"""Scores of answers, each from 0 to 1, as the authors' experiments have them, and means over samples.

SCROLLS (Shaham et al., arXiv 2201.03533): F1, exact match and the geometric mean of ROUGE-1, -2 and -L. L-Eval (An et
al., arXiv 2307.11088): the scores of its closed-ended tasks, as published and corrected. RULER (Hsieh et al., arXiv
2404.06654): how many of several strings an answer holds. Needs neither torch nor transformers.
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
_NUMBER = r"(?:(?<![\w)])-)?\d[\d,]*(?:\.\d+)?"  # a minus behind a number subtracts
# What L-Eval drops from an answer about code, in its order.
_SAID_OF_OUTPUT = (*("will be", "of the code", "is", "would be", "the value of", "the result of", "printed"),)
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
    said, right = chosen_letters(answer, several), "".join(sorted(set(_reference_letters(reference))))
    return _letters_score(said, right) if right else 0.0


def published_exam(answer: str, reference: str, several: bool = False) -> float:
    """The exam score as L-Eval's evaluator of today computes it, misreadings included.

    With one right option the first A, B, C or D within any word counts. With several, letters count that begin the
    answer, or that stand before a space, a full stop or a bracket; where there are none, the first run of letters
    within any word, in its order. An empty answer has 0; an answer in which no letter is found is taken for A.
    """
    if not answer.strip():
        return 0.0
    return _letters_score(_published_letters(answer, several), _reference_letters(reference) or "A")


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
    if begun or marked:
        return "".join(sorted({*begun, *marked}))
    run = re.search("[A-D]+", rest)
    return run.group() if run else "A"


def _reference_letters(reference: str) -> str:
    return re.sub("[^A-D]", "", (reference.split() or [""])[0])


def _letters_score(said: str, right: str) -> float:
    if said == right:
        return 1.0
    return _PARTLY if said and set(said) <= set(right) else 0.0


def holds(answer: str, reference: str) -> float:
    """Whether an answer is the number that the reference is or, for other references, has it in it; case and spaces
    do not count. How L-Eval scores topics, code and sums."""
    try:
        return float(float(answer) == float(reference))
    except ValueError:
        return float(_without_spaces(reference) in _without_spaces(answer))


def _published_match(answer: str, reference: str) -> float:
    """`holds`, but for references of the letters A to D alone, or of none, which L-Eval takes for options."""
    said, right = (
        " ".join(re.sub(r"\b(a|an|the)\b", " ", "".join(ch for ch in text if ch not in string.punctuation)).split())
        for text in (answer, reference)
    )
    if not set(right) <= set("ABCD"):
        return holds(answer, reference)
    return 1.0 if said == right else _PARTLY * (set(said) <= set(right))


def _without_spaces(text: str) -> str:
    return text.lower().replace(" ", "")


def solved(answer: str, reference: str) -> float:
    """Whether a sum has the right result: the last number behind "the answer is", else the last one of all, before a
    next question; thousands may be marked.

    Corrected: `published_solved` gives L-Eval's own number.
    """
    said = re.split(r"\bQuestion:", answer)[0]
    stated = re.findall(rf"answer is[^\w-]*({_NUMBER})", said, re.IGNORECASE)
    numbers = stated or re.findall(_NUMBER, said)
    wanted = re.findall(_NUMBER, reference)
    return float(bool(numbers and wanted) and _value(numbers[-1]) == _value(wanted[-1]))


def _value(number: str) -> float:
    return float(number.replace(",", ""))


def published_solved(answer: str, reference: str) -> float:
    """The score of a sum as L-Eval's evaluator of today computes it, misreadings included: the first word behind "The
    answer is", else the last word with a digit of the first paragraph; signs and what follows a point do not count."""
    return _published_match(_published_number(answer), _published_number(reference))


def _published_number(text: str) -> str:
    stated = re.search(r"The answer is (\S+)", text)
    words = [stated[1]] if stated else text.split("\n\n")[0].split(" ")
    with_digit = [word for word in words if any(ch.isdigit() for ch in word)]
    last = with_digit[-1] if with_digit else ""
    return "".join(ch for ch in last.partition(".")[0] if ch.isdigit())


def printed(answer: str, reference: str, published: bool = False) -> float:
    """Whether an answer ends with what code prints: L-Eval looks for it behind "the final output", else among the last
    words, three more than the reference has; commas, quotes and what goes without saying do not count.

    published: as L-Eval's evaluator of today computes it, which drops "is" within words too, so that an output such as
    "list" or "this" is never found.
    """
    edge = "" if published else r"\b"
    said = _as_printed(answer)
    for phrase in _SAID_OF_OUTPUT:
        said = re.sub(edge + re.escape(phrase) + edge, "", said)
    most = len(reference.split()) + 3
    _, found, behind = said.rpartition("the final output")
    words = re.split(r"\s+", behind)[:most] if found else re.split(r"\s+", said)[-most:]
    match = _published_match if published else holds
    return match(" ".join(words), _as_printed(reference))


def _as_printed(text: str) -> str:
    text = re.sub(r"\s+", " ", text)
    for dropped in (",", "'", "\\", ".0"):
        text = text.replace(dropped, "")
    for apart in ("] [", "[ [", "] ]"):
        text = text.replace(apart, apart.replace(" ", ""))
    return text


def judged(answer: str) -> str:
    """What an answer says first: true, false, or nothing."""
    return next((w for word in answer.lower().split() for w in ("true", "false") if w in word), "")


def any_of(answer: str, references: Sequence[str]) -> float:
    """Whether one of the references is in the answer, case aside: RULER's score of questions."""
    return float(any(reference.lower() in answer.lower() for reference in references))


def share_of(answer: str, references: Sequence[str]) -> float:
    """The share of the references that are in the answer, case aside: RULER's score of its other tasks."""
    return sum(reference.lower() in answer.lower() for reference in references) / len(references)
