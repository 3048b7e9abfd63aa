"""Scores against those of the published evaluators, over odd predictions."""

import pytest

from dca_hub.evaluation import metrics
from support.published_scores import EXAMS, OUTPUTS, STRINGS, SUMS, TEXTS, TOPICS, VERDICTS

NEEDED = "needs the optional packages: pip install -r requirements-evaluate.txt"


def test_f1_and_exact_match_are_those_of_scrolls():
    for answer, references, f1, exact, *_ in TEXTS:
        assert metrics.best(metrics.f1, answer, references) == pytest.approx(f1, abs=1e-6), answer
        assert metrics.best(metrics.exact_match, answer, references) == exact, answer


def test_rouge_is_that_of_scrolls():
    pytest.importorskip("rouge_score", reason=NEEDED)
    for answer, references, _, _, *rouge in TEXTS:
        assert metrics.rouge(answer, references) == pytest.approx(tuple(rouge), abs=1e-6), answer


def test_the_exam_score_as_published_is_that_of_l_eval():
    for answer, reference, one, several in EXAMS:
        assert metrics.published_exam(answer, reference, False) == one, (answer, reference)
        assert metrics.published_exam(answer, reference, True) == several, (answer, reference)


@pytest.mark.parametrize(
    "score, known",
    [
        (metrics.published_solved, SUMS),
        (lambda answer, reference: metrics.printed(answer, reference, published=True), OUTPUTS),
        (metrics.holds, TOPICS),
    ],
    ids=["sums", "outputs", "topics"],
)
def test_other_scores_as_published_are_those_of_l_eval(score, known):
    wrong = [(*row, score(*row[:2])) for row in known if score(*row[:2]) != row[2]]
    assert not wrong


def test_verdicts_are_those_of_l_eval():
    assert [metrics.judged(answer) for answer, _ in VERDICTS] == [verdict for _, verdict in VERDICTS]


def test_rulers_scores_are_its_own():
    pytest.importorskip("lm_eval", reason=NEEDED)
    from lm_eval.tasks.ruler.common_utils import postprocess_pred

    for answer, references, share, any_of in STRINGS:
        [clean] = postprocess_pred([answer])
        assert metrics.share_of(clean, references) == pytest.approx(share, abs=1e-4), answer
        assert metrics.any_of(clean, references) == any_of, answer


def test_there_are_forty_odd_predictions_of_each():
    assert all(len(known) >= 40 for known in (TEXTS, EXAMS, SUMS, OUTPUTS, TOPICS, VERDICTS, STRINGS))


@pytest.mark.parametrize(
    "answer, reference, score",
    [
        ("The answer is: 18", "18", 1),
        ("3 eggs.\n\nThe answer is 18.", "18", 1),
        ("The answer is 18.5", "18", 0),
        ("The answer is $1,080.00.", "1080", 1),
        ("The answer is -5", "5", 0),
        ("The answer is **18**", "18", 1),
        ("That leaves 23-5", "5", 1),
        ("It is 18. Question: What is 3?", "18", 1),
        ("no number", "18", 0),
        ("", "18", 0),
    ],
)
def test_the_score_of_sums_corrected(answer, reference, score):
    assert metrics.solved(answer, reference) == score


def test_the_score_of_outputs_corrected():
    assert metrics.printed("It prints ['this']", "['this']") == 1
    assert metrics.printed("It prints ['this']", "['this']", published=True) == 0, "which drops the letters is"
    assert metrics.printed("The final result is array([6, 15])", "[6 15]") == 1
    assert metrics.printed("", "5") == 0
