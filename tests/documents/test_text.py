"""Cleaning, hyphens, line ends, page ranges."""

import time

import pytest

from dca_hub.documents.ranges import BadRange, parse_pages, spoken
from dca_hub.documents.text import clean, join_hyphens, unwrap


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("e\ufb03cient \ufb01sh", "efficient fish"),
        ("x² and ½ stay", "x² and ½ stay"),
        ("cafe\u0301", "café"),
        ("exam\u00ad\nple and co\u00adoperate", "example and cooperate"),
        ("a\x00b\x07c\ue123d\u202ee", "abcde"),
        ("a\ud800b \ud83d\ude00", "ab 😀"),
        ("one \t\u00a0 two  \n   three", "one two\nthree"),
        ("one\r\n\r\n\r\n\ntwo\u2029three", "one\n\ntwo\n\nthree"),
        ("\uf0b7 item", "• item"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("\uf061 \uf02b \uf062", "+"),
        ("C\uf761\uf770\uf773", "Caps"),
        ("关 于 红 军 作 战 的 原 则", "关于红军作战的原则"),
        ("中国 人民 大学 出版社", "中国 人民 大学 出版社"),
    ],
)
def test_clean(raw, expected):
    assert clean(raw) == expected


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        (["an exam-\nple"], "an example"),
        (["a well-\nknown man, known well"], "a well-known man, known well"),
        (["a re-\nsult; result, re, sult"], "a result; result, re, sult"),
        (["the e-\nmail", "an e-mail"], "the e-\nmail"),
        (["the self-\nmade; self-made"], "the self-made; self-made"),
        (["Anglo-\nSaxon"], "Anglo-\nSaxon"),
        (["1914-\n18"], "1914-\n18"),
    ],
)
def test_hyphens_at_line_ends(pages, expected):
    assert join_hyphens(pages)[0] == expected


PROSE = "\n".join(
    [
        "The Fens",
        "The river runs slowly through the fens and past the old mill, where a",
        "heron stands on one leg and waits, as he has waited since the days when",
        "Parson Adams kept his boat there.",
        "A second paragraph begins here, and it is long enough to be broken in",
        "two.",
    ]
)


def test_narrow_columns_are_not_joined():
    assert unwrap("Name\nOtter\nHeron\nCount") == "Name\nOtter\nHeron\nCount"


def test_lines_of_a_paragraph_are_joined_and_paragraphs_stay():
    assert unwrap(PROSE).split("\n") == [
        "The Fens",
        "The river runs slowly through the fens and past the old mill, where a heron stands on one leg and waits, as "
        "he has waited since the days when Parson Adams kept his boat there.",
        "A second paragraph begins here, and it is long enough to be broken in two.",
    ]


def test_lists_and_tables_stay():
    table = "Item 12 4.50\nOther 9 3.00\nThird 7 1.25\nTotal 28 8.75"
    assert unwrap(table) == table


@pytest.mark.parametrize("text", ["a" * 200_000, "-\n" * 100_000, "a-" * 100_000, "a-\n" * 70_000, " \n" * 100_000])
def test_no_text_is_slow_to_clean(text):
    start = time.process_time()
    for page in join_hyphens([clean(text)]):
        unwrap(page)
    assert time.process_time() - start < 2.0


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        (None, (1, 2, 3, 4, 5, 6, 7, 8, 9)),
        (" ", (1, 2, 3, 4, 5, 6, 7, 8, 9)),
        ("3-5,9", (3, 4, 5, 9)),
        ("9, 3 - 4 ,3", (3, 4, 9)),
        ("8-", (8, 9)),
        ("2–3", (2, 3)),
    ],
)
def test_page_ranges(pages, expected):
    assert parse_pages(pages, 9) == expected


@pytest.mark.parametrize("pages", ["0", "10", "8-10", "5-3", "3-4-5", "one", "1;2", ",", "٣", "1.5", "-"])
def test_bad_page_ranges(pages):
    with pytest.raises(BadRange):
        parse_pages(pages, 9)


def test_spoken():
    assert spoken([1, 3, 4, 5, 9]) == "1, 3-5, 9"
