"""read_pdf on files that can be read, and on every kind that cannot."""

import io
import os
import zipfile

import pytest

from dca_hub.documents import DocumentError, Limits, Reason, page_mark, read_pdf
from dca_hub.errors import DcaHubError
from support import pdfs

THREE = ["Herons stand in the shallows.", "Otters sleep on their backs.", "Larks rise at dawn."]


@pytest.fixture
def three(tmp_path):
    return pdfs.save(tmp_path, pdfs.make_pdf(THREE), "birds.pdf")


def refusal(path, **options) -> DocumentError:
    """The error, after the checks that hold for every error: one sentence, the file's name, no path."""
    with pytest.raises(DocumentError) as caught:
        read_pdf(path, **options)
    message = str(caught.value)
    assert isinstance(caught.value, DcaHubError)
    assert path.name in message
    assert str(path.parent) not in message
    assert message.endswith(".") and "\n" not in message and ". " not in message
    return caught.value


def test_reads_every_page(three):
    document = read_pdf(three)
    assert [(page.number, page.text) for page in document.pages] == list(enumerate(THREE, 1))
    assert (document.name, document.page_count, document.notes) == ("birds.pdf", 3, ())


def test_text_carries_page_marks_that_map_back(three):
    document = read_pdf(three, pages="1,3")
    assert document.text == f"[page 1]\n{THREE[0]}\n\n[page 3]\n{THREE[2]}\n\n"
    for page in document.pages:
        first = document.text.index(page_mark(page.number))
        last = document.text.index(page.text) + len(page.text) - 1
        assert document.page_at(first) == document.page_at(last) == page.number
    for offset in (-1, len(document.text)):
        with pytest.raises(IndexError):
            document.page_at(offset)


def test_page_limit_counts_what_is_read_not_what_is_there(three):
    limits = Limits(pages=2)
    assert len(read_pdf(three, pages="2-3", limits=limits).pages) == 2
    error = refusal(three, limits=limits)
    assert error.reason is Reason.TOO_MANY_PAGES
    assert "3 pages" in str(error) and "1-2" in str(error)


@pytest.mark.parametrize("asked", ["4", "0", "2-4", "3-2", "x", "1-999999999", "1,,2", "-2", "1" * 5000])
def test_bad_range_names_the_page_count(three, asked):
    error = refusal(three, pages=asked)
    assert error.reason == "bad_page_range"
    assert "3 pages" in str(error) and len(str(error)) < 200


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-128", "AES-256"])
def test_encrypted(tmp_path, algorithm):
    path = pdfs.save(tmp_path, pdfs.encrypted("heron", algorithm=algorithm))
    error = refusal(path)
    assert error.reason is Reason.ENCRYPTED and "password" in str(error)
    assert refusal(path, password="stork").reason is Reason.WRONG_PASSWORD
    assert "herons" in read_pdf(path, password="heron").text


def test_owner_password_alone_needs_none(tmp_path):
    assert "herons" in read_pdf(pdfs.save(tmp_path, pdfs.encrypted(""))).text


def test_scanned(tmp_path):
    error = refusal(pdfs.save(tmp_path, pdfs.scanned()))
    assert error.reason is Reason.SCANNED and "no text layer" in str(error) and "no OCR" in str(error)


def test_pictures_among_pages_of_text_are_noted_apart_from_blank_ones(tmp_path):
    drawing = pdfs.stream(b"0 0 9 9 re f")
    text = pdfs.stream(pdfs.page_content("Herons."))
    path = pdfs.save(tmp_path, pdfs.from_contents([text, drawing, pdfs.stream(b""), drawing]))
    pictures, blank = read_pdf(path).notes
    assert "Pictures" in pictures and "pages 2, 4." in pictures
    assert "no pictures" in blank and "page 3." in blank


def test_some_pages_without_text_are_noted(tmp_path):
    path = pdfs.save(tmp_path, pdfs.make_pdf(["One.", "", "", "Four.", ""]))
    document = read_pdf(path)
    assert len(document.notes) == 1 and "pages 2-3, 5" in document.notes[0]
    assert document.text == "[page 1]\nOne.\n\n[page 4]\nFour.\n\n"
    blank = refusal(path, pages="2-3")
    assert blank.reason is Reason.BLANK and "choose other pages" in str(blank)


def test_a_blank_document_is_not_told_to_choose_other_pages(tmp_path):
    blank = refusal(pdfs.save(tmp_path, pdfs.make_pdf(["", ""])))
    assert blank.reason is Reason.BLANK and str(blank).endswith("check that it is the right file.")


def test_characters_of_a_page_are_cut_and_noted(tmp_path):
    path = pdfs.save(tmp_path, pdfs.make_pdf(["short", "long " * 15]))
    document = read_pdf(path, limits=Limits(page_characters=20))
    assert len(document.pages[1].text) <= 20
    assert "page 2" in document.notes[0] and "20" in document.notes[0]


def test_characters_in_total(tmp_path):
    path = pdfs.save(tmp_path, pdfs.make_pdf(["a" * 50] * 4))
    error = refusal(path, limits=Limits(characters=120))
    assert error.reason is Reason.TOO_MUCH_TEXT and "page 3" in str(error)


def test_too_large(tmp_path):
    error = refusal(pdfs.save(tmp_path, pdfs.make_pdf(THREE)), limits=Limits(file_bytes=500))
    assert error.reason is Reason.TOO_LARGE


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (pdfs.HTML, "web page"),
        (_zip(), "ZIP"),
        (b"Dear reader, this is no PDF.\n", "plain text"),
        (b"\x00\x01\x02 binary", "another kind"),
        (b"\n" * 1100 + b"%PDF-1.7", "plain text"),
    ],
)
def test_disguised(tmp_path, data, said):
    error = refusal(pdfs.save(tmp_path, data))
    assert error.reason is Reason.NOT_PDF and said in str(error)


def test_junk_before_the_header_is_allowed(tmp_path):
    assert "Herons" in read_pdf(pdfs.save(tmp_path, b"HTTP/1.1 200 OK\r\n\r\n" + pdfs.make_pdf(THREE))).text


def test_empty(tmp_path):
    assert refusal(pdfs.save(tmp_path, b"")).reason is Reason.EMPTY
    error = refusal(pdfs.save(tmp_path, pdfs.no_pages()))
    assert error.reason is Reason.EMPTY and "0 pages" in str(error)


def test_what_is_no_regular_file(tmp_path):
    folder = tmp_path / "folder.pdf"
    folder.mkdir()
    assert refusal(folder).reason is Reason.NOT_A_FILE
    assert refusal(tmp_path / "gone.pdf").reason is Reason.MISSING
    assert refusal(folder / "gone.pdf").reason is Reason.MISSING
    if hasattr(os, "mkfifo"):
        pipe = tmp_path / "pipe.pdf"
        os.mkfifo(pipe)
        assert refusal(pipe).reason is Reason.NOT_A_FILE
    device = tmp_path / "link.pdf"
    device.symlink_to(os.devnull)
    assert refusal(device).reason is Reason.NOT_A_FILE


def test_names_are_made_fit_to_show(tmp_path):
    name = "a\n\x1b[31m" + "b" * 150 + ".pdf"
    with pytest.raises(DocumentError) as caught:
        read_pdf(pdfs.save(tmp_path, b"", name))
    assert str(caught.value).isprintable() and len(caught.value.name) == 80


def test_progress_is_told_from_the_start_and_to_the_end(three):
    told = []
    read_pdf(three, progress=lambda done, total: told.append((done, total)))
    assert told[0] == (0, 1) and told[-1] == (3, 3)
    assert told == sorted(told)


def test_limits_are_checked():
    for bad in ({"seconds": 0}, {"pages": -1}, {"memory_bytes": 1000}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            Limits(**bad)


def test_rows_of_a_table_stay_lines_of_their_own(tmp_path):
    """Rows end like lines of prose do, full and without a stop; only the room between their cells tells them apart."""
    rows = [
        ("cat", "utility to join files together"),
        ("chmod", "utility to change permissions"),
        ("cp", "utility to copy files"),
    ]
    content = b"BT /F1 12 Tf 1 0 0 1 72 720 Tm (The commands of the system are listed in the table,) Tj ET\n"
    content += b"BT /F1 12 Tf 1 0 0 1 72 706 Tm (with what they are for, in the order of the alphabet:) Tj ET\n"
    for number, (name, use) in enumerate(rows):
        for x, cell in ((72, name), (200, use)):
            content += b"BT /F1 12 Tf 1 0 0 1 %d %d Tm (%s) Tj ET\n" % (x, 680 - 14 * number, cell.encode())
    page = read_pdf(pdfs.save(tmp_path, pdfs.from_contents([pdfs.stream(content)]))).pages[0]
    assert page.text.split("\n") == [
        "The commands of the system are listed in the table, with what they are for, in the order of the alphabet:",
        *(f"{name} {use}" for name, use in rows),
    ]


def test_what_lies_outside_the_page_is_not_read(tmp_path):
    content = b"BT /F1 12 Tf 1 0 0 1 72 720 Tm (Seen.) Tj 1 0 0 1 2000 720 Tm (Hidden.) Tj ET"
    assert read_pdf(pdfs.save(tmp_path, pdfs.from_contents([pdfs.stream(content)]))).pages[0].text == "Seen."


LINES = b"BT /F1 12 Tf %s Tm (The quick brown fox) Tj 0 -14 Td (jumps over the lazy dog.) Tj ET"


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("matrix", [b"1 0 0 1 72 600", b"0 1 -1 0 300 72"], ids=["along", "upwards"])
def test_rotated_pages_and_lines_are_read_in_order(tmp_path, rotation, matrix):
    data = pdfs.from_contents([pdfs.stream(LINES % matrix)])
    data = data.replace(b"/Type /Page /", b"/Type /Page /Rotate %d /" % rotation)
    assert read_pdf(pdfs.save(tmp_path, data)).pages[0].text == "The quick brown fox\njumps over the lazy dog."


def content(*pieces: bytes) -> bytes:
    return pdfs.from_contents([pdfs.stream(b"BT /F1 12 Tf 72 720 Td " + b" ".join(pieces) + b" ET")])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (content(b"(25 m) Tj 7 Ts /F1 7 Tf (2) Tj 0 Ts /F1 12 Tf ( of land) Tj"), "25 m2 of land"),
        (content(b"(Shown twice) Tj 0.6 0 Td (Shown twice) Tj"), "Shown twice"),
        (content(b"/Span << /ActualText (Real) >> BDC (Xqgb) Tj EMC ( words) Tj"), "Real words"),
        (content(b"8 Tc (A SPACED TITLE) Tj 0 Tc 0 -20 Td (and text) Tj"), "A SPACED TITLE\nand text"),
        (content(b"3 Tr (The text layer of a scan) Tj"), "The text layer of a scan"),
        (pdfs.in_any_script(["o\ufb00er \ufb01sh"]), "offer fish"),
        (pdfs.in_any_script(["公司总部在上海"]).replace(b"Identity-H", b"Identity-V"), "公司总部在上海"),
    ],
    ids=["raised", "struck twice", "actual text", "letter-spaced", "invisible layer", "ligatures", "vertical"],
)
def test_text_is_read_as_it_is_seen(tmp_path, data, text):
    assert read_pdf(pdfs.save(tmp_path, data)).pages[0].text == text


def test_a_font_that_names_no_letters_is_told_from_a_scan(tmp_path):
    data = pdfs.in_any_script(["The quick brown fox jumps over the lazy dog"]).replace(b"/ToUnicode", b"/ToNothing")
    with pytest.raises(DocumentError, match="do not say which letters") as caught:
        read_pdf(pdfs.save(tmp_path, data))
    assert caught.value.reason is Reason.UNMAPPED
