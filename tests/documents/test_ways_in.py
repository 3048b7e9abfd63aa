"""Text files, downloads, and `dca-hub text`."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from dca_hub.cli import main
from dca_hub.documents import DocumentError, Limits, Reason, read_document
from dca_hub.documents.text import clean, unwrap
from dca_hub.documents.web import downloaded
from support import pdfs

PDF = pdfs.make_pdf(["Herons stand in the shallows.", ""])


def test_a_text_file_is_pages_of_whole_paragraphs(tmp_path):
    paragraphs = [f"Paragraph {n} " + "herons stand " * 60 for n in range(12)]
    path = pdfs.save(tmp_path, "\n\n".join(paragraphs).encode(), "notes.md")
    document = read_document(path)
    assert document.page_count == len(document.pages) > 2
    assert [p.strip() for page in document.pages for p in page.text.split("\n\n")] == [p.strip() for p in paragraphs]
    assert read_document(path, pages="2-").pages[0].number == 2
    with pytest.raises(DocumentError) as caught:
        read_document(path, pages="99")
    assert caught.value.reason is Reason.BAD_PAGE_RANGE


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xef\xbb\xbfcaf\xc3\xa9", "café"),
        ("café".encode("utf-16"), "café"),
        (b"caf\xe9 \x96 1", "café – 1"),
        (b"one\x0ctwo", "one|two"),
    ],
)
def test_text_in_any_usual_encoding(tmp_path, data, text):
    document = read_document(pdfs.save(tmp_path, data, "a.txt"))
    assert "|".join(page.text for page in document.pages) == text


@pytest.mark.parametrize(("data", "reason"), [(b"a\0b", Reason.NOT_TEXT), (b"", Reason.EMPTY), (b" \n", Reason.EMPTY)])
def test_what_is_no_text_is_refused(tmp_path, data, reason):
    with pytest.raises(DocumentError) as caught:
        read_document(pdfs.save(tmp_path, data, "a.txt"))
    assert caught.value.reason is reason


def test_text_as_pages_and_as_json(tmp_path, capsys):
    path = pdfs.save(tmp_path, PDF)
    assert main(["text", str(path)]) == 0
    out = capsys.readouterr()
    assert out.out.startswith("[page 1] (pdfium)\nHerons stand in the shallows.\n") and "page 2" in out.err
    assert main(["text", str(path), "--pages", "1", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["pages"] == [{"number": 1, "reader": "pdfium", "text": "Herons stand in the shallows."}]
    assert (values["name"], values["page_count"], values["notes"]) == ("file.pdf", 2, [])


class _Server(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/paper.pdf")
            self.end_headers()
            return
        kind, body = {
            "/paper.pdf": ("application/pdf", PDF),
            "/2402.17463": ("application/pdf", PDF),
            "/page": ("text/html", pdfs.HTML),
            "/notes.txt": ("text/plain; charset=utf-8", b"Herons."),
        }.get(self.path, ("text/plain", None))
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    server = HTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("path", ["/paper.pdf", "/2402.17463", "/moved", "/notes.txt"])
def test_a_document_at_an_address_is_read(server, path, capsys):
    assert main(["text", server + path]) == 0
    assert "Herons" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("path", "limits", "reason"),
    [
        ("/gone", Limits(), Reason.UNREACHABLE),
        ("/page", Limits(), Reason.NOT_PDF),
        ("/paper.pdf", Limits(file_bytes=100), Reason.TOO_LARGE),
    ],
)
def test_downloads_are_bounded_and_checked(server, path, limits, reason):
    with pytest.raises(DocumentError) as caught, downloaded(server + path, limits):
        pass
    assert caught.value.reason is reason and server not in str(caught.value)


def test_a_server_that_is_not_there(capsys):
    assert main(["text", "http://127.0.0.1:9/a.pdf"]) == 2
    assert "no connection" in capsys.readouterr().err


def test_a_download_has_a_deadline(server):
    with pytest.raises(DocumentError) as caught, downloaded(server + "/paper.pdf", seconds=-1.0):
        pass
    assert caught.value.reason is Reason.TOO_SLOW


def test_lines_of_unspaced_scripts_are_joined_without_a_blank():
    line = "公司在过去的一年里受到了市场变化的影响并且"
    assert unwrap(f"{line}\n{line}\n{line}") == line * 3
    assert unwrap("한국어는 띄어쓰기를 하는 언어이고 그래서\n" * 2 + "끝").count("\n") <= 2


def test_chinese_punctuation_stays_while_full_width_letters_become_plain():
    assert clean("销售额（２０２３年）：ＡＢＣ，很好。") == "销售额（2023年）：ABC，很好。"
