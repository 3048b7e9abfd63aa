"""Scores of answers: by hand, and against independent libraries where they are installed."""

import math

import pytest

from dca_hub.evaluation import metrics

NEEDED = "needs the optional packages: pip install -r requirements-evaluate.txt"
PAIRS = [
    ("The cat sat on the mat.", "a cat sat on a mat"),
    ("It was in London, in 1881", "London"),
    ("nothing alike", "something else"),
    ("", "an answer"),
    ("to be or not to be", "to be is to do"),
]


def test_f1_and_exact_match_by_hand():
    assert metrics.exact_match("The Cat!", "cat") == 1 and metrics.exact_match("cats", "cat") == 0
    assert metrics.f1("in the year 1881", "1881") == pytest.approx(2 * (1 / 3) / (1 / 3 + 1))
    assert metrics.f1("to be or not to be", "to be is to do") == pytest.approx(2 * 0.5 * 0.6 / 1.1)
    assert metrics.best(metrics.f1, "cat", ["dog", "cat sat"]) == pytest.approx(2 / 3)
    assert metrics.best(metrics.f1, "cat", []) == 0


def test_f1_is_that_of_an_independent_library():
    """NLTK's F-measure is one of sets: words that recur are told apart by their number."""
    scores = pytest.importorskip("nltk.metrics.scores", reason=NEEDED)
    for answer, reference in PAIRS:
        said, wanted = ({(w, words[:k].count(w)) for k, w in enumerate(words)} for words in
                        (metrics.normalize(text).split() for text in (answer, reference)))  # fmt: skip
        expected = scores.f_measure(wanted, said) if said & wanted else 0.0
        assert metrics.f1(answer, reference) == pytest.approx(expected)


def test_rouge_by_hand_and_its_geometric_mean():
    pytest.importorskip("rouge_score", reason=NEEDED)
    one, two, longest = metrics.rouge("the cat sat", ["the cat ran", "dogs"])
    assert (one, two, longest) == pytest.approx((2 / 3, 1 / 2, 2 / 3))
    corpus = [(1.0, 0.5, 0.5), (0.0, 0.5, 0.5)]
    assert metrics.geometric_mean(corpus) == pytest.approx((0.5 * 0.5 * 0.5) ** (1 / 3))
    assert metrics.geometric_mean([(1.0, 0.0, 1.0)]) == 0 and not math.isnan(metrics.geometric_mean(corpus))


def longest_common(a: list[str], b: list[str]) -> int:
    if not a or not b:
        return 0
    if a[-1] == b[-1]:
        return 1 + longest_common(a[:-1], b[:-1])
    return max(longest_common(a[:-1], b), longest_common(a, b[:-1]))


def test_rouge_is_that_of_the_definition():
    pytest.importorskip("rouge_score", reason=NEEDED)
    for answer, reference in PAIRS[:3]:
        said, wanted = (
            "".join(c if c.isalnum() else " " for c in text.lower()).split() for text in (answer, reference)
        )
        common = longest_common(said, wanted)
        expected = 2 * common / (len(said) + len(wanted)) if common else 0.0
        assert metrics.rouge(answer, [reference])[2] == pytest.approx(expected)


@pytest.mark.parametrize(
    "answer, reference, several, score",
    [
        ("B", "B", False, 1),
        ("Answer: B", "B", False, 1),
        ("B. because A is wrong", "B", False, 1),
        ("", "B", False, 0),
        ("", "AB", True, 0),
        ("I do not know.", "AB", True, 0),
        ("AB", "AB", True, 1),
        ("B and A", "AB", True, 1),
        ("A, B", "AB.", True, 1),
        ("A", "AB", True, 0.25),
        ("ABC", "AB", True, 0),
        ("C", "AB", True, 0),
        ("A\nQuestion: B", "A", True, 1),
        ("A good artist paints, so C", "C", False, 1),
        ("A is right", "A", False, 1),
        ("AB\n\nCD", "AB", True, 1),
        ("\n\nAB", "AB", True, 1),
    ],
)
def test_the_exam_score_corrected(answer, reference, several, score):
    assert metrics.exam(answer, reference, several) == score


@pytest.mark.parametrize(
    "answer, reference, several, score",
    [
        ("B", "B", False, 1), ("Answer: B", "B", False, 0), ("Answer: B", "A", False, 1), ("", "B", False, 0),
        ("", "AB", True, 0), ("AB", "AB", True, 1), ("I do not know", "A", True, 1),
        ("I do not know", "AB", True, 0.25),
        ("A, B", "AB", True, 0.25), ("A and B.", "AB", True, 1), ("BA", "AB", True, 1), ("ABC", "AB", True, 0),
        ("B. or (C) Question: A ", "BC", True, 1), ("A good artist paints, so C", "C", False, 0), ("no", "A", False, 1),
    ],
)  # fmt: skip
def test_the_exam_score_as_published(answer, reference, several, score):
    assert metrics.published_exam(answer, reference, several) == score


def test_what_is_judged_is_the_first_verdict():
    assert metrics.judged("It is True, not false.") == "true" and metrics.judged("Perhaps") == ""
