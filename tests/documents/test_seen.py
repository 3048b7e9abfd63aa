"""What a person sees on the page is what is read: two readings, what is typed into a page, and what a file is."""

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from dca_hub.documents import DocumentError, Limits, Reason, judge, read_pdf, render_page
from dca_hub.documents.right_to_left import in_logical_order
from dca_hub.documents.worker_process import run_worker
from support import pdfs

FAULTS = Path(os.environ.get("DCA_HUB_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "faults"
RIGHT = {
    "bad-operator.pdf": "The deposit is 250 euros",
    "filled-form.pdf": "Name of the applicant: Mara Quillfeather\nAmount requested, EUR: 48,250",
    "freetext.pdf": "Contract no. 7\nApproved by the board on 4 May",
    "junk-no-startxref.pdf": "Name of the applicant: Mara Quillfeather\nAmount requested, EUR: 48,250",
    "letter-by-letter.pdf": "Patient: Quillfeather\nHeart rate 72 per minute",
    "rtl-one-run.pdf": "דוח שנתי 2023 של החברה",
    "rtl-punct.pdf": "תקציב של 48250 שקלים. מה שלומך?",
    "rtl-words-ltr.pdf": "דוח שנתי 2023 של החברה",
    "type0-gaps.pdf": "The committee approved the budget of the coming year",
}
REFUSED = {"jbig2-content.pdf": Reason.TOO_COMPLEX, "xfa.pdf": Reason.XFA}


def fault(name: str) -> Path:
    if not (FAULTS / name).is_file():
        pytest.skip(f"{name} is not there: set DCA_HUB_SHARED to the folder that holds faults/{name}")
    return FAULTS / name


@pytest.mark.parametrize("name", RIGHT)
def test_odd_files_are_read_as_they_are_seen(name):
    document = read_pdf(fault(name))
    assert document.text == f"[page 1]\n{RIGHT[name]}\n\n" and not document.notes


@pytest.mark.parametrize("name", REFUSED)
def test_files_without_readable_contents_are_refused_with_advice_of_their_own(name):
    with pytest.raises(DocumentError) as caught:
        read_pdf(fault(name))
    assert caught.value.reason is REFUSED[name]


def typed(text: bytes, subtype: bytes, rect: bytes = b"[300 700 500 730]", extra: bytes = b"") -> list[bytes]:
    """An annotation and its appearance, the objects behind the page's: 6 and 7."""
    appearance = b"/Type /XObject /Subtype /Form /BBox [0 0 200 30] /Resources << /Font << /F1 3 0 R >> >>"
    content = b"BT /F1 12 Tf 2 20 Td (%s) Tj ET" % text
    return [
        b"<< /Type /Annot /Subtype /%s /Rect %s %s /AP << /N 7 0 R >> /F 4 >>" % (subtype, rect, extra),
        b"<< %s /Length %d >>\nstream\n%s\nendstream" % (appearance, len(content), content),
    ]


def annotated(page: str, annotation: list[bytes], catalog: bytes = b"") -> bytes:
    content = pdfs.stream(pdfs.page_content(page)) if page else pdfs.stream(b"")
    data = pdfs.from_contents([content], extra=annotation)
    data = data.replace(b"/Type /Page /", b"/Type /Page /Annots [6 0 R] /", 1)
    return data.replace(b"/Type /Catalog", b"/Type /Catalog " + catalog, 1)


FIELD = b"/FT /Tx /T (a) /V (48,250)"
FORM = b"/AcroForm << /Fields [6 0 R] >>"


@pytest.mark.parametrize(
    ("annotation", "catalog"),
    [
        (typed(b"48,250", b"Widget", extra=FIELD), FORM),
        (typed(b"48,250", b"FreeText", extra=b"/Contents (48,250) /DA (/F1 12 Tf)"), b""),
        (typed(b"48,250", b"Stamp"), b""),
    ],
    ids=["field", "free text", "stamp"],
)
def test_what_is_typed_into_a_page_stands_at_its_place_in_text_and_picture(tmp_path, annotation, catalog):
    path = pdfs.save(tmp_path, annotated("Amount in euros:\nSigned by the board", annotation, catalog))
    assert read_pdf(path).pages[0].text == "Amount in euros: 48,250\nSigned by the board"
    image = render_page(path, 1, width=612, highlight="48,250")
    picture = Image.open(io.BytesIO(image.png)).convert("L")
    assert image.marked and picture.crop((300, 62, 360, 92)).getextrema()[0] < 100


def test_a_form_without_any_other_text_is_no_scan(tmp_path):
    path = pdfs.save(tmp_path, annotated("", typed(b"48,250", b"Widget", extra=FIELD), FORM))
    assert read_pdf(path).pages[0].text == "48,250"


def test_hidden_annotations_are_not_read(tmp_path):
    annotation = [part.replace(b"/F 4", b"/F 2") for part in typed(b"48,250", b"Stamp")]
    assert read_pdf(pdfs.save(tmp_path, annotated("Seen.", annotation))).pages[0].text == "Seen."


@pytest.mark.parametrize("page", ["", "See the attached files."])
def test_a_portfolio_says_what_it_holds(tmp_path, page):
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdfs.make_pdf([page]))))
    writer.add_attachment("budget.pdf", b"%PDF-")
    with (tmp_path / "portfolio.pdf").open("wb") as file:
        writer.write(file)
    if page:
        assert read_pdf(tmp_path / "portfolio.pdf").notes == ("1 attached file not read: budget.pdf.",)
        return
    with pytest.raises(DocumentError, match=r"1 attached file \(budget.pdf\)") as caught:
        read_pdf(tmp_path / "portfolio.pdf")
    assert caught.value.reason is Reason.PORTFOLIO


def test_a_page_that_kills_a_reader_costs_no_other_page(tmp_path, monkeypatch):
    """The worker is ended at page 2, twice, as if both libraries had crashed there."""
    from dca_hub.documents import read
    from dca_hub.documents.worker_process import Crashed

    def run(request, file, limits, on_reply, on_wait=lambda: None):
        def relay(reply):
            on_reply(reply)
            if reply["kind"] == "begin" and reply["number"] == 2:
                raise Crashed

        run_worker(request, file, limits, relay, on_wait)

    monkeypatch.setattr(read, "run_worker", run)
    document = read_pdf(pdfs.save(tmp_path, pdfs.make_pdf(["One.", "Two.", "Three."])))
    assert [page.text for page in document.pages] == ["One.", "", "Three."]
    assert document.notes == ("Damaged or too complex to read, and left out: page 2.",)


def test_a_filter_without_its_program_costs_its_own_page_only(tmp_path):
    bad = b"<< /Length 4 /Filter /JBIG2Decode >>\nstream\nabcd\nendstream"
    good = pdfs.stream(pdfs.page_content("Herons."))
    document = read_pdf(pdfs.save(tmp_path, pdfs.from_contents([good, bad, good])), limits=Limits(seconds=30))
    assert [page.text for page in document.pages] == ["Herons.", "", "Herons."]


@pytest.mark.parametrize(
    ("bad", "good"),
    [
        ("P a t i e n t : Q u i l l f e a t h e r", "Patient: Quillfeather"),
        ("Thecommitteeapprovedthebudgetofthecomingyear", "The committee approved the budget of the coming year"),
        ("48,250 EUR48,250 EUR", "48,250 EUR"),
        ("\ue001\ue002\ue003 abc", "The abc"),
        ("Пpивeт wоrd миp", "Привет word мир"),
        ("/D5/D9/CP the", "the law"),
        ("\ufffd\ufffd\ufffd of \ufffd\ufffd", "rest of it"),
    ],
)
def test_the_reading_that_is_like_language_is_taken(bad, good):
    assert judge.badness(good) == 0 < judge.badness(bad)
    assert judge.prefers_second(bad, good) and not judge.prefers_second(good, bad)


@pytest.mark.parametrize(
    "text",
    [
        "A plain sentence with a few formulas in it, e.g. where x = 3 and the height is 4 metres, as it was in 2023.",
        "公司总部在上海市浦东新区，主要从事工业机器人的研发与制造",
        "Donaudampfschifffahrt und Bundesverfassungsgericht sind lange Wörter",
        "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย",
        "",
    ],
)
def test_language_is_not_suspect(text):
    assert not judge.is_suspect(text)


def test_a_reading_that_lacks_the_fields_is_not_taken_for_its_looks():
    filled = "Name: Mara Quillfeather\nLetters: " + "b c d f"
    assert judge.is_suspect(filled) and not judge.prefers_second(filled, "Name:\nLetters:")


def test_a_formula_on_a_short_page_is_not_garbage():
    assert judge.badness("x\n2 = 9 means\nx") < judge.GARBAGE


def test_right_to_left_text_is_pdfiums():
    assert not judge.prefers_second("דוח שנתי 2023 של החברה", "של החברה2023 דוח שנתי")


@pytest.mark.parametrize(
    ("seen", "read"),
    [
        ("לפי סעיף 15)ב()4( לחוק", "לפי סעיף 15(ב)(4) לחוק"),
        ("לפי סעיף 15(ב)(4) לחוק", "לפי סעיף 15(ב)(4) לחוק"),
        ("מספר העובדים הוא .320", "מספר העובדים הוא 320."),
        ("\u0639\u0630\u0631\u0627.\u064b", "\u0639\u0630\u0631\u0627\u064b."),
        ("a) first\nשלום (עולם)", "a) first\nשלום (עולם)"),
    ],
)
def test_right_to_left_lines_keep_brackets_stops_and_vowels_in_order(seen, read):
    assert in_logical_order(seen) == read


def test_layers_that_are_off_are_not_read(tmp_path):
    text = b"BT /F1 12 Tf 72 720 Td (Shown.) Tj ET /OC /Off BDC BT /F1 12 Tf 72 700 Td (Not shown.) Tj ET EMC "
    text += b"/OC /On BDC BT /F1 12 Tf 72 680 Td (Shown too.) Tj ET EMC"
    resources = b"<< /Font << /F1 3 0 R >> /Properties << /Off 6 0 R /On 7 0 R >> >>"
    groups = [b"<< /Type /OCG /Name (Draft) >>", b"<< /Type /OCG /Name (Final) >>"]
    data = pdfs.from_contents([pdfs.stream(text)], resources, groups)
    catalog = b"/Type /Catalog /OCProperties << /OCGs [6 0 R 7 0 R] /D << /OFF [6 0 R] >> >>"
    path = pdfs.save(tmp_path, data.replace(b"/Type /Catalog", catalog, 1))
    assert read_pdf(path).pages[0].text == "Shown.\nShown too."


def test_garbage_is_noted(tmp_path):
    content = pdfs.stream(b"BT /F1 12 Tf 14 TL 72 720 Td " + b"(/D5/D9/CP /uni0041 q) Tj T* " * 5 + b"ET")
    document = read_pdf(pdfs.save(tmp_path, pdfs.from_contents([content])))
    assert "garbage" in document.notes[0] and "page 1" in document.notes[0]
