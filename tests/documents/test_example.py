"""The example document, and PDFs that nobody here wrote."""

from pathlib import Path

import pytest

from dca_hub.documents import cite, read_pdf, render_page
from dca_hub.documents.example import PASS_KEY, PASS_KEY_SENTENCE, example_text, write_example
from support import example_pdf
from support.pdf_writer import text_width

DEBIAN = Path("/usr/share/doc")
REAL = {
    # Debian package -> (file, pages, words at least, a sentence, its page)
    "libtasn1-doc": ("libtasn1-doc/libtasn1.pdf", 30, 10_000, "The SIZE constraints are allowed, but no check is done"),
    "shared-mime-info": (
        "shared-mime-info/shared-mime-info-spec.pdf",
        15,
        4_000,
        "Unknown elements are copied directly to the output XML files",
    ),
}


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    return write_example(tmp_path_factory.mktemp("example") / "example.pdf")


def test_the_example_reads_back_whole(example):
    document = read_pdf(example)
    told = [word for paragraph in example_text() for word in paragraph.removeprefix("# ").split()]
    read = []
    for page in document.pages[1:]:
        body, _, number = page.text.rpartition("\n")
        assert number == str(page.number)
        read += body.split()
    assert read == told
    assert document.page_count > 25 and not document.notes


def test_the_pass_key_is_half_way_and_can_be_cited(example):
    document = read_pdf(example)
    assert 0.4 < document.text.index(PASS_KEY_SENTENCE) / len(document.text) < 0.6
    assert document.text.lower().count("pass key") == 2
    (citation,) = cite(PASS_KEY, document, "What is the pass key?")
    image = render_page(example, citation.page, width=300, highlight=citation.quote)
    assert PASS_KEY in citation.quote and image.marked


def test_the_example_is_made_from_its_text(example):
    assert example_pdf.made() == example.read_bytes()


def test_widths_against_known_ones():
    assert text_width("Hello", 1000) == 722 + 444 + 278 + 278 + 500


@pytest.mark.parametrize("package", REAL)
def test_a_pdf_that_nobody_here_wrote(package):
    file, pages, words, sentence = REAL[package]
    path = DEBIAN / file
    if not path.is_file():
        pytest.skip(f"{path} is not there: apt-get install {package}")
    document = read_pdf(path)
    assert document.page_count >= pages
    assert len(document.text.split()) > words
    (citation,) = cite(sentence, document)
    assert citation.score == 1.0
    assert render_page(path, citation.page, width=400, highlight=citation.quote).marked
