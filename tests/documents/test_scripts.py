"""A PDF in each script, with questions, answers and the pages that they must be cited with."""

import unicodedata
import zlib
from pathlib import Path

import pytest

from dca_hub.documents import Document, Grade, cite, read_pdf, render_page
from support import pdfs

V, L = Grade.VERBATIM, Grade.LIKELY
CHINESE = [
    "公司成立于二〇〇三年。公司总部在上海市浦东新区，主要从事工业机器人的研发与制造，产品销往三十多个国家。",
    "2023年营业收入为123.4亿元，同比增长百分之八。员工人数达到5,600人。",
    "董事会由九名董事组成。",
]
JAPANESE = ["当社は1987年に設立され、東京に本社を置いています。", "従業員数は３２０名です。売上高は45億円でした。"]
KOREAN = ["회사는 1998년에 설립되었으며 본사는 서울에 있습니다.", "직원은 모두 320명입니다."]
THAI = ["บริษัทตั้งอยู่ที่กรุงเทพมหานคร ก่อตั้งเมื่อปี พ.ศ. ๒๕๔๐", "พนักงานทั้งหมดมี 250 คน"]
LAO = ["ບໍລິສັດຕັ້ງຢູ່ນະຄອນຫຼວງວຽງຈັນ ສ້າງຕັ້ງໃນປີ 1995", "ພະນັກງານທັງໝົດມີ 120 ຄົນ"]
KHMER = ["ក្រុមហ៊ុនមានទីស្នាក់ការនៅរាជធានីភ្នំពេញ។ បង្កើតឡើងក្នុងឆ្នាំ ១៩៩៨។", "បុគ្គលិកសរុបមាន 240 នាក់។"]
ARABIC = ["تأسست الشركة في عام ١٩٩٨ ويقع مقرها في القاهرة.", "عدد الموظفين 320 موظفا."]
HEBREW = ["החברה הוקמה בשנת 1998 ומשרדיה נמצאים בתל אביב.", "מספר העובדים בחברה הוא 320."]
HINDI = ["कंपनी की स्थापना 1998 में मुंबई में हुई थी।", "कंपनी में ३२० कर्मचारी काम करते हैं।"]
RUSSIAN = ["Компания основана в 1998 году в Москве.", "В компании работают 320 сотрудников."]
GERMAN = ["Die Gesellschaft wurde 1998 in München gegründet.", "Der Umsatz betrug 1.240,50 Euro."]


RIGHT_TO_LEFT = (ARABIC, HEBREW)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The PDF of a list of pages."""
    folder = tmp_path_factory.mktemp("scripts")

    def write(pages: list[str]) -> Path:
        data = pdfs.in_any_script(pages, pages in RIGHT_TO_LEFT)
        return pdfs.save(folder, data, f"{zlib.crc32(data)}.pdf")

    return write


@pytest.fixture(scope="module")
def made(written):
    """The document of a list of pages, which were written into a PDF and read from it."""
    read: dict[str, Document] = {}

    def read_back(pages: list[str]) -> Document:
        if pages[0] not in read:
            read[pages[0]] = read_pdf(written(pages))
        return read[pages[0]]

    return read_back


@pytest.mark.parametrize(
    "pages",
    [CHINESE, JAPANESE, KOREAN, THAI, LAO, KHMER, ARABIC, HEBREW, HINDI, RUSSIAN, GERMAN],
    ids=lambda p: p[0][:9],
)
def test_a_pdf_is_read_as_it_was_written(made, pages):
    document = made(pages)
    assert [squeezed(page.text) for page in document.pages] == [squeezed(page) for page in pages]
    assert not document.notes


def squeezed(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())


@pytest.mark.parametrize(
    ("pages", "question", "answer", "page", "grade"),
    [
        (CHINESE, "公司总部在哪里？", "公司总部在上海，从事工业机器人的研发与制造。", 1, V),
        (CHINESE, "收入多少？", "123.4亿元", 2, V),
        (CHINESE, "", "员工有5600人", 2, L),
        (JAPANESE, "本社はどこですか。", "東京に本社を置いています", 1, V),
        (JAPANESE, "", "本社は東京にあります。", 1, L),
        (JAPANESE, "", "従業員は320名です。", 2, L),
        (KOREAN, "본사는 어디에 있습니까?", "본사는 서울에 있습니다.", 1, V),
        (KOREAN, "", "서울", 1, V),
        (THAI, "", "กรุงเทพมหานคร", 1, V),
        (THAI, "", "ก่อตั้งเมื่อปี 2540", 1, V),
        (LAO, "", "ນະຄອນຫຼວງວຽງຈັນ", 1, V),
        (KHMER, "", "រាជធានីភ្នំពេញ", 1, V),
        (KHMER, "", "បង្កើតឡើងក្នុងឆ្នាំ 1998", 1, V),
        (ARABIC, "", "تأسست الشركة عام 1998", 1, L),
        (ARABIC, "أين مقر الشركة؟", "مقر الشركة في القاهرة", 1, L),
        (HEBREW, "", "החברה הוקמה ב-1998", 1, L),
        (HEBREW, "", "המשרדים נמצאים בתל אביב", 1, L),
        (HINDI, "", "कंपनी की स्थापना मुंबई में हुई थी।", 1, L),
        (HINDI, "", "कंपनी में 320 कर्मचारी हैं।", 2, None),
        (RUSSIAN, "", "Компанию основали в Москве в 1998 г.", 1, L),
        (GERMAN, "", "Der Umsatz betrug 1240,50 Euro", 2, V),
        (GERMAN, "", "gegrundet in Munchen", 1, L),
    ],
)
def test_an_answer_is_cited_with_its_page(made, pages, question, answer, page, grade):
    (citation,) = cite(answer, made(pages), question)
    assert citation.page == page and citation.supports
    assert grade in (None, citation.grade)
    assert citation.quote in made(pages).pages[page - 1].text


@pytest.mark.parametrize(
    ("pages", "answer", "says"),
    [
        (CHINESE, "营业收入为132.4亿元。", "123.4"),
        (JAPANESE, "従業員は330名です。", "320"),
        (KOREAN, "직원은 330명입니다.", "320"),
        (THAI, "ก่อตั้งเมื่อปี 2541", "๒๕๔๐"),
        (ARABIC, "عدد الموظفين 350", "320"),
        (HEBREW, "בחברה 340 עובדים", "320"),
        (HINDI, "कंपनी में 330 कर्मचारी हैं।", "३२०"),
        (RUSSIAN, "В компании работают 420 сотрудников", "320"),
    ],
)
def test_a_wrong_number_is_said_in_every_script(made, pages, answer, says):
    (citation,) = cite(answer, made(pages))
    assert not citation.supports and citation.differences[0].page == says


@pytest.mark.parametrize(("pages", "question", "answer"), [(CHINESE, "公司总部在哪里？", "公司总部在北京。")])
def test_what_the_page_does_not_say_is_not_cited(made, pages, question, answer):
    assert cite(answer, made(pages), question) == []


@pytest.mark.parametrize(
    ("pages", "answer"),
    [
        (CHINESE, "公司总部在上海"),
        (JAPANESE, "東京に本社を置いています"),
        (KOREAN, "본사는 서울에 있습니다."),
        (THAI, "กรุงเทพมหานคร"),
        (LAO, "ນະຄອນຫຼວງວຽງຈັນ"),
        (KHMER, "រាជធានីភ្នំពេញ"),
        (ARABIC, "مقر الشركة في القاهرة"),
        (HEBREW, "המשרדים נמצאים בתל אביב"),
        (HINDI, "कंपनी की स्थापना मुंबई में हुई थी।"),
    ],
)
def test_the_passage_is_marked_on_the_page(made, written, pages, answer):
    (citation,) = cite(answer, made(pages))
    assert render_page(written(pages), citation.page, width=200, highlight=citation.quote).marked
