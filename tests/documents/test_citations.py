"""Which pages an answer rests on."""

import random
import time

import pytest

from dca_hub.documents import Document, Grade, Page, cite

PAGES = [
    "The heron stands on one leg in the shallow water. It waits for an unwary frog.",
    "Otters were counted in 1987 along the river Ouse. There were 1,240 of them, more than in any year before.",
    "The mill was built by Parson Adams in 1822. It burned in the great fire, and nobody rebuilt the wheel.",
    "A lark rises at dawn. Its coat is brown, and its song is long.",
    "The miller's coat was blue. He wore it on Sundays, and his wife mended the sleeves.",
]


def document(pages=PAGES, name="fens.pdf") -> Document:
    return Document(name, tuple(Page(n, text) for n, text in enumerate(pages, 1)), len(pages))


def cited(answer, question="", **options) -> list[int]:
    return [citation.page for citation in cite(answer, document(), question, **options)]


def test_an_exact_quote_is_cited_in_full():
    (citation,) = cite("It waits for an unwary frog.", document())
    assert (citation.document, citation.page, citation.score) == ("fens.pdf", 1, 1.0)
    assert citation.quote == "It waits for an unwary frog."


def test_a_number_alone_is_enough():
    (citation,) = cite("1,240", document(), "How many otters were there?")
    assert citation.page == 2 and "1,240 of them" in citation.quote


@pytest.mark.parametrize(
    ("answer", "pages"),
    [
        ("Parson Adams built the mill, which a fire later burned; its wheel was never rebuilt.", [3]),
        ("In 1822.", [3]),
        ("In 18.", []),
        ("240", []),
    ],
)
def test_paraphrase_and_numbers(answer, pages):
    assert cited(answer) == pages


KEY = ["Otters sleep. Nobody rises.", "The pass key is 71432. Remember it. 71432 is the pass key.", "Built in 1881."]


@pytest.mark.parametrize(
    ("answer", "page", "says"),
    [
        ("The pass key is 21432", 2, "71432"),
        ("21432", 2, "71432"),
        ("The pass key is 1881.", 2, "71432"),  # a number of the document, but of something else
    ],
)
def test_a_wrong_number_is_held_against_the_page_and_supports_nothing(answer, page, says):
    (citation,) = cite(answer, document(KEY), "What is the pass key?")
    assert (citation.grade, citation.page, citation.score, citation.claims) == (Grade.NOT_FOUND, page, 0.0, ())
    assert not citation.supports and "71432" in citation.quote
    assert citation.differences[0].answer in answer
    assert [str(difference) for difference in citation.differences] == [f"the page says {says}"]


@pytest.mark.parametrize(
    "answer",
    ["71432", "The pass key is 71,432.", "The 5-digit pass key is 71432", "1. 71432", "It is 71432, as page 2 says."],
)
def test_a_right_number_is_found_however_it_is_written(answer):
    (citation,) = cite(answer, document(KEY), "What is the pass key?")
    assert citation.page == 2 and citation.supports and not citation.differences


@pytest.mark.parametrize(
    ("answer", "page", "says"),
    [
        ("Otters were counted in 1822.", 2, "1987"),
        ("In 1978, otters were counted along the river Ouse.", 2, "1987"),
        ("There were 1,420 otters.", 2, "1,240"),
        ("He wore the coat on Mondays, on Monday.", 5, ""),
    ],
)
def test_numbers_and_days_must_stand_with_what_they_belong_to(answer, page, says):
    (citation,) = cite(answer, document())
    assert (citation.grade, citation.page, citation.differences[0].page) == (Grade.NOT_FOUND, page, says)


def test_one_wrong_number_of_two_does_not_cost_the_other_page():
    answer = "The mill was built by Parson Adams in 1823. Otters were counted in 1987."
    found, wrong = cite(answer, document())
    assert (found.page, found.grade, [answer[a:b] for a, b in found.claims]) == (
        2,
        Grade.VERBATIM,
        ["Otters were counted in 1987."],
    )
    assert (wrong.page, str(wrong.differences[0])) == (3, "the page says 1822")


def test_number_words_and_inflections_are_the_same():
    pages = ["The board has twelve members, who approve each budget.", "Nothing else.", "Blank."]
    (citation,) = cite("There are 12 members on the board approving budgets.", document(pages))
    assert (citation.page, citation.grade) == (1, Grade.LIKELY)


@pytest.mark.parametrize(
    ("answer", "question"),
    [
        ("The mill is in Paris.", "Where is the mill?"),
        ("The miller's coat was red.", "What colour was the miller's coat?"),
    ],
)
def test_the_words_of_the_question_alone_support_nothing(answer, question):
    assert cited(answer, question) == []


def test_thoughts_are_not_cited_and_spans_are_those_of_the_answer():
    answer = "<think>The mill, perhaps, built by Parson Adams in 1822.</think>It waits for an unwary frog."
    (citation,) = cite(answer, document())
    assert citation.page == 1 and [answer[a:b] for a, b in citation.claims] == ["It waits for an unwary frog."]


def test_a_page_that_says_it_in_these_words_goes_before_one_that_has_the_same_words():
    pages = [
        "Resets the context of the digest. This is an init function.",
        "This init function resets the digest context.",
    ]
    citation = cite("This init function resets the digest context.", document(pages))[0]
    assert (citation.page, citation.grade) == (2, Grade.VERBATIM)


def test_an_answer_from_two_pages_cites_both():
    assert sorted(cited("The mill was built by Parson Adams in 1822, and otters were counted in 1987.")) == [2, 3]


def test_a_page_that_adds_nothing_is_not_cited():
    double = document([*PAGES, PAGES[0]])
    assert [c.page for c in cite("It waits for an unwary frog.", double)] == [1]


def test_the_question_breaks_ties():
    pages = ["The lark was brown, as Adams said.", "The coat was brown, as Adams said."]
    for question, page in (("What colour was the coat?", 2), ("What colour was the lark?", 1)):
        assert [c.page for c in cite("brown", document(pages), question)] == [page]


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "...",
        "Yes.",
        "I do not know.",
        "The document does not say.",
        "The capital of France is Paris, a city of museums, boulevards and song.",
        "It was long.",
    ],
)
def test_thin_support_cites_nothing(answer):
    assert cited(answer) == []


def test_every_quote_stands_on_its_page():
    rng = random.Random(7)
    long_pages = [" ".join(rng.choices(" ".join(PAGES).split(), k=400)) for _ in range(20)]
    source = document(long_pages)
    for _ in range(20):
        words = rng.choice(long_pages).split()
        start = rng.randrange(300)
        answer = " ".join(words[start : start + rng.choice((6, 20, 90))])
        for citation in cite(answer, source):
            assert citation.quote and citation.quote in long_pages[citation.page - 1]
            assert len(citation.quote) <= 600 and 0 < citation.score <= 1


def test_the_best_page_of_an_exact_quote_comes_first():
    rng = random.Random(3)
    words = [f"w{i}" for i in range(300)]
    pages = [" ".join(rng.choices(words, k=300)) for _ in range(50)]
    for index in (0, 17, 49):
        answer = " ".join(pages[index].split()[100:130])
        assert cite(answer, document(pages))[0].page == index + 1


def test_documents_of_one_name_are_told_apart():
    other = document(["Nothing about birds.", "The stork clatters on the chimney."])
    (citation,) = cite("The stork clatters on the chimney.", [document(), other])
    assert (citation.source, citation.page) == (1, 2)


def test_at_most_so_many():
    answer = " ".join(page.split(".")[0] + "." for page in PAGES)
    assert len(cited(answer, most=2)) == 2


def test_endless_repetition_stays_cheap():
    source = document(["spam " * 20_000] * 20)
    start = time.perf_counter()
    cite("spam " * 300, source)
    assert time.perf_counter() - start < 40.0  # minutes without a bound


def test_fast_on_a_long_document():
    rng = random.Random(1)
    words = [f"{a}{b}{c}" for a in ("ba", "re", "to", "mi") for b in "lnrst" for c in ("an", "er", "ing", "ous")]
    words += ["the", "of", "and", "to", "in", "a", "is", "that", "it", "was"] * 6
    pages = [" ".join(rng.choices(words, k=2000)) for _ in range(500)]
    source = document(pages)
    answer = " ".join(pages[250].split()[:120])
    times = []
    for _ in range(3):
        start = time.perf_counter()
        best = cite(answer, source, "what is the baler")[0]
        times.append(time.perf_counter() - start)
    assert best.page == 251
    assert min(times) < 1.0  # half a second, and room for a busy machine


def test_the_page_that_has_the_sentence_comes_before_one_that_has_its_words():
    pages = [
        "Set the value of one element inside a structure. The function returns zero.",
        "Nothing of the kind stands here.",
        "Returns the value of one element inside a structure.",
    ]
    assert cite("Returns the value of one element inside a structure.", document(pages))[0].page == 3


def test_a_version_is_a_word_and_no_number_that_is_missing():
    (citation,) = cite("The package was updated to v4.0.", document(["The package was updated to v4.0.", *PAGES]))
    assert citation.page == 1 and citation.grade is Grade.VERBATIM
