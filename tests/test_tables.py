"""One table in three forms."""

from dca_hub.tables import Table

TABLE = Table(("model", "tokens"), [("a <b> & c", "4,096"), ("d", "512")])


def test_markdown_has_numbers_at_the_right():
    assert TABLE.markdown().splitlines() == [
        "| model | tokens |",
        "|---|---:|",
        "| a <b> & c | 4,096 |",
        "| d | 512 |",
    ]


def test_html_escapes_every_cell():
    made = TABLE.html()
    assert "<td>a &lt;b&gt; &amp; c</td><td>4,096</td>" in made and made.count("<tr>") == 3
    assert "<b>" not in made


def test_text_is_aligned_and_has_no_spaces_at_the_ends():
    assert TABLE.text().splitlines() == ["model      tokens", "a <b> & c   4,096", "d             512"]
    left = Table(("a", "b"), [("long one", "x"), ("y", "")], numbers=()).text()
    assert left.splitlines() == ["a         b", "long one  x", "y"]


def test_without_rows_the_head_stays():
    assert Table(("a",), []).markdown() == "| a |\n|---|" and Table(("a",), []).text() == "a"
