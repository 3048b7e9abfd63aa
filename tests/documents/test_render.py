"""Page images, and passages found on them."""

import io

import pytest
from PIL import Image

from dca_hub.documents import DocumentError, Reason, render_page
from dca_hub.documents.find import locate
from support import pdfs

PAGE = "The heron stands on one leg in the shal-\nlow water and waits for an un-\nwary frog. Nobody else is there."


@pytest.fixture
def path(tmp_path):
    return pdfs.save(tmp_path, pdfs.make_pdf([PAGE, "Second page."]))


def opened(image) -> Image.Image:
    return Image.open(io.BytesIO(image.png)).convert("RGB")


def yellow_rows(picture: Image.Image) -> list[int]:
    """Rows with pixels that are yellow: much red and green, less blue."""
    width, data = picture.width, picture.tobytes()
    rows = {
        i // 3 // width for i in range(0, len(data), 3) if data[i] > 240 and data[i + 1] > 220 and data[i + 2] < 130
    }
    return sorted(rows)


def test_width_and_content(path):
    plain = render_page(path, 1, width=400)
    picture = opened(plain)
    assert picture.size == (400, pytest.approx(400 * 792 / 612, abs=1))
    assert not plain.marked and not yellow_rows(picture)
    assert picture.tobytes() != opened(render_page(path, 2, width=400)).tobytes()


@pytest.mark.parametrize(
    "passage",
    [
        "in the shallow water and waits for an unwary frog.",
        "IN  THE\nshal-low wa ter and waits, for an unwary frog",
        "leg in the shallow water and waits for an unwary frog, said the tale",
    ],
)
def test_the_passage_is_marked_where_it_stands(path, passage):
    image = render_page(path, 1, width=612, highlight=passage)
    rows = yellow_rows(opened(image))
    assert image.marked
    assert rows and rows[0] >= 55 and rows[-1] <= 110  # the three lines' baselines are 72, 86 and 100 from the top


@pytest.mark.parametrize("passage", ["An otter sleeps on its back all day.", "...", "heron frog water leg"])
def test_what_is_not_there_is_not_marked(path, passage):
    image = render_page(path, 1, width=300, highlight=passage)
    assert not image.marked and not yellow_rows(opened(image))


def test_a_passage_far_too_long_is_no_error(path):
    assert not render_page(path, 1, width=100, highlight="é😀 otter " * 50_000).marked


def test_rotated_pages_are_marked_on_the_text(tmp_path):
    data = pdfs.make_pdf([PAGE]).replace(b"/MediaBox", b"/Rotate 90 /MediaBox")
    image = render_page(pdfs.save(tmp_path, data), 1, width=792, highlight="The heron stands on one leg")
    picture = opened(image)
    assert picture.size == (792, 612)
    box = picture.crop((700, 60, 740, 400))  # the first line, now a column near the right edge
    assert image.marked and yellow_rows(box)
    assert not yellow_rows(picture.crop((0, 0, 680, 612)))


def test_refusals(path, tmp_path):
    for number in (0, 3):
        with pytest.raises(DocumentError) as caught:
            render_page(path, number)
        assert caught.value.reason is Reason.BAD_PAGE_RANGE and "2 pages" in str(caught.value)
    with pytest.raises(ValueError, match="width"):
        render_page(path, 1, width=100_000)
    locked = pdfs.save(tmp_path, pdfs.encrypted("heron"), "locked.pdf")
    for password, reason in ((None, Reason.ENCRYPTED), ("stork", Reason.WRONG_PASSWORD)):
        with pytest.raises(DocumentError) as caught:
            render_page(locked, 1, password=password)
        assert caught.value.reason is reason
    assert render_page(locked, 1, width=100, password="heron", highlight="page about herons").marked


def test_a_huge_page_stays_within_the_pixels(tmp_path):
    data = pdfs.make_pdf([PAGE]).replace(b"[0 0 612 792]", b"[0 0 9 14000]")
    picture = opened(render_page(pdfs.save(tmp_path, data), 1, width=4096))
    assert picture.width * picture.height < 17_000_000


def test_locate_maps_ligatures_back():
    page = list("an e\ufb03cient \ufb01sh")
    assert "".join(page[i] for i in locate(page, "efficient fish")) == "e\ufb03cient \ufb01sh"
