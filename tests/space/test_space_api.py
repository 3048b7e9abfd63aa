"""The functions for programs, through gradio_client and through plain HTTP."""

import inspect
import json
import time
import urllib.error
import urllib.request
from functools import partial

import psutil
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from pypdf import PdfReader

from dca_hub.evaluation import needle
from dca_hub.modeling.dual_chunk_config import sparse_from_config
from dca_hub.space.api import _Functions
from support.offering import offer_sparse

KEY = "48213"


@pytest.fixture(scope="module")
def client(space):
    return Client(space.url, verbose=False)


def test_the_four_functions_are_public_and_described(client):
    endpoints = client.view_api(return_format="dict", print_info=False)
    assert sorted(endpoints["named_endpoints"]) == ["/ask", "/inspect_pdf", "/models", "/needle"]
    assert not endpoints["unnamed_endpoints"]
    names = [p["parameter_name"] for p in endpoints["named_endpoints"]["/ask"]["parameters"]]
    assert names == ["pdf", "question", "attention", "pages", "password", "max_new_tokens", "sparse"]


def test_what_is_left_out_is_what_the_functions_say(client):
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    for name in ("ask", "needle", "inspect_pdf"):
        parameters = inspect.signature(getattr(_Functions, f"_{name}")).parameters
        for told in endpoints[f"/{name}"]["parameters"]:
            default = parameters[told["parameter_name"]].default
            if default is not inspect.Parameter.empty:
                assert told["parameter_default"] == default, told["parameter_name"]


def test_the_descriptions_make_tools_that_can_be_understood(space):
    with urllib.request.urlopen(f"{space.url}/gradio_api/info") as answer:
        told = json.load(answer)["named_endpoints"]
    assert "Answer a question about a PDF" in told["/ask"]["description"]
    assert all(len(told[name]["description"]) > 40 for name in ("/ask", "/needle", "/inspect_pdf", "/models"))
    words = {p["parameter_name"]: p["python_type"]["description"] for p in told["/ask"]["parameters"]}
    assert words["pages"] == 'Only these pages, such as "3-7,9"; empty for all.' and "many times longer" in words["pdf"]
    examples = {p["parameter_name"]: p["example_input"] for p in told["/ask"]["parameters"]}
    assert (examples["question"], examples["pages"], examples["password"]) == ("What is the pass key?", "", "")
    assert examples["sparse"] is False and "needs a GPU" in words["sparse"]
    assert examples["pdf"]["path"] == "document.pdf" and "an upload or a data URL" in words["pdf"]
    assert all(p["python_type"]["description"] for named in told.values() for p in named["parameters"])


def test_ask_answers_and_names_the_page(client, pdfs, space):
    sessions = len(space.context.sessions)
    result = client.predict(handle_file(str(pdfs["short"])), "What is the pass key?", "both", api_name="/ask")
    assert KEY in result["answers"]["dca"]["text"]
    assert result["answers"]["dca"]["citations"][0]["page"] == 2
    assert result["answers"]["plain"]["stats"]["answer_tokens"] > 0
    assert len(space.context.sessions) == sessions  # a call leaves no session behind


def test_inspect_pdf_counts_pages_and_tokens(client, pdfs):
    whole = len(PdfReader(pdfs["example"]).pages)
    result = client.predict(handle_file(str(pdfs["example"])), "3-7", "", api_name="/inspect_pdf")
    assert (result["page_count"], result["pages_read"]) == (whole, [3, 4, 5, 6, 7])
    assert result["tokens"] > result["trained_window"] == 512


def test_needle_finds_keys_with_dca_and_loses_them_without(client):
    result = client.predict("256,1024", 2, 1, "prose", "both", api_name="/needle")
    found = {side: [t["found"] for t in trials] for side, trials in result["results"].items()}
    assert found == {"dca": [True] * 4, "plain": [True, True, False, False]}


def test_models_lists_what_can_be_loaded(client):
    result = client.predict(api_name="/models")
    assert result["loaded"] == "demo"
    assert {"demo", "smollm-360m-instruct"} <= {model["name"] for model in result["models"]}


@pytest.mark.parametrize(
    ("name", "pages", "password", "words"),
    [
        ("disguised", "", "", "not a PDF but a web page"),
        ("locked", "", "", "is encrypted"),
        ("locked", "", "wrong", "does not open"),
        ("scanned", "", "", "no OCR"),
        ("damaged", "", "", "is damaged"),
        ("empty", "", "", "is empty"),
        ("short", "7", "", "not a page range"),
        ("cycle", "", "", "cycle.pdf"),
        ("deep", "", "", "deep.pdf"),
    ],
)
def test_a_bad_pdf_gets_one_sentence(client, pdfs, name, pages, password, words):
    with pytest.raises(AppError) as caught:
        client.predict(handle_file(str(pdfs[name])), pages, password, api_name="/inspect_pdf")
    message = str(caught.value)
    assert words in message and "Traceback" not in message and "/tmp" not in message and "\n" not in message
    assert client.predict(handle_file(str(pdfs["short"])), "", "", api_name="/inspect_pdf")["tokens"] > 0


def test_bad_arguments_say_what_is_allowed(client, pdfs):
    short = handle_file(str(pdfs["short"]))
    with pytest.raises(AppError, match="question is empty"):
        client.predict(short, "  ", api_name="/ask")
    with pytest.raises(AppError, match="max_new_tokens must be a whole number from 1"):
        client.predict(short, "What?", "dca", "", "", 10**9, api_name="/ask")
    for tokens in ("abc", [], 2.5, True):
        with pytest.raises(AppError, match="max_new_tokens must be a whole number from 1"):
            client.predict(short, "What?", max_new_tokens=tokens, api_name="/ask")
    for attention in ("DCA", ["dca"], None):
        with pytest.raises(AppError, match='attention must be "dca", "plain" or "both"'):
            client.predict(short, "What?", attention, api_name="/ask")
    with pytest.raises(AppError, match='haystack must be "prose" or "grass"'):
        client.predict("256", 1, 1, "own", api_name="/needle")
    for pdf in ("no file", {"path": "/etc/passwd"}, ["x"]):
        with pytest.raises(AppError, match="a PDF must be an upload"):
            client.predict(pdf, "What?", api_name="/ask")
    with pytest.raises(AppError, match="whole numbers of tokens"):
        client.predict("a,b", api_name="/needle")
    with pytest.raises(AppError, match="A length in tokens must be a whole number from 128 to 16,384"):
        client.predict("900000", api_name="/needle")
    with pytest.raises(AppError, match="more than the 200 of one run"):
        client.predict("256,512", 50, 5, api_name="/needle")


@pytest.mark.parametrize(
    ("lengths", "depths", "trials", "words"),
    [
        ("512", 30_000_000, 1, "depths must be a whole number from 1 to 50"),
        ("512", 1, 10**15, "trials must be a whole number from 1 to 20"),
        ("9" * 5000, 1, 1, "whole numbers of tokens"),
        ("512," * 500_000, 1, 1, "at most 20 lengths"),
        ("-5", 1, 1, "whole numbers of tokens"),
    ],
)
def test_absurd_numbers_are_refused_before_anything_is_built_from_them(client, lengths, depths, trials, words):
    begun, before = time.monotonic(), psutil.Process().memory_info().rss
    with pytest.raises(AppError, match=words):
        client.predict(lengths, depths, trials, api_name="/needle")
    assert time.monotonic() - begun < 10  # 28 s and 1.2 GB where depths were built first
    assert psutil.Process().memory_info().rss - before < 200e6


def test_ask_reads_sparsely_where_that_is_a_choice(client, pdfs, monkeypatch):
    offer_sparse(monkeypatch, 2000)
    example = handle_file(str(pdfs["example"]))
    for sparse in (False, True):
        result = client.predict(example, "What is the pass key?", "both", "12-17", sparse=sparse, api_name="/ask")
        assert {side: answer["sparse"] for side, answer in result["answers"].items()} == {"dca": sparse, "plain": False}


def test_needle_reads_sparsely_where_that_is_a_choice(client, space, monkeypatch):
    offer_sparse(monkeypatch, 2000)
    asked, run = [], needle.run
    monkeypatch.setattr(needle, "run", lambda model, *args, **how: asked.append(model) or run(model, *args, **how))
    for sparse in (False, True):
        result = client.predict("256,2048", 1, 1, "prose", "both", sparse, api_name="/needle")
        assert result["sparse"] is sparse and [len(trials) for trials in result["results"].values()] == [2, 2]
    assert [bool(sparse_from_config(model.config)) for model in asked] == [False, False, True, False]
    assert asked[1] is asked[3] is space.context.host.loaded.base


def test_sparse_reading_that_cannot_be_is_refused_with_the_reason(client, pdfs, monkeypatch):
    short, example = (handle_file(str(pdfs[name])) for name in ("short", "example"))
    ask = partial(client.predict, short, "What?", api_name="/ask")
    refused = "Sparse reading is for texts of 32,768 tokens and more: leave sparse out."
    with pytest.raises(AppError, match=refused):
        ask(sparse=True)
    with pytest.raises(AppError, match=refused):
        client.predict("512", 1, 1, sparse=True, api_name="/needle")
    plain = 'Sparse reading is for Dual Chunk Attention: leave sparse out, or choose "dca" or "both".'
    with pytest.raises(AppError, match=plain):
        ask("plain", sparse=True)
    with pytest.raises(AppError, match=plain):
        client.predict("512", 1, 1, "prose", "plain", True, api_name="/needle")
    with pytest.raises(AppError, match="sparse must be true or false"):
        ask(sparse="no")
    offer_sparse(monkeypatch, 2000)
    monkeypatch.setattr("dca_hub.loading.without_triton", lambda device: "there is none")
    without = "Sparse reading needs a GPU with Triton: leave sparse out."
    with pytest.raises(AppError, match=without):
        client.predict(example, "What?", "dca", "12-17", sparse=True, api_name="/ask")
    with pytest.raises(AppError, match=without):
        client.predict("256,2048", 1, 1, sparse=True, api_name="/needle")


def test_too_long_for_memory_is_refused_before_reading(client, pdfs, space, monkeypatch):
    monkeypatch.setattr(space.context.host, "limit", lambda held=0, copies=1: 2000)
    with pytest.raises(AppError, match=r"pages 1-\d would fit"):
        client.predict(handle_file(str(pdfs["example"])), "What?", api_name="/ask")


def test_side_by_side_says_that_it_takes_twice_the_memory(client, pdfs, space, monkeypatch):
    monkeypatch.setattr(space.context.host, "memory_tokens", lambda held=0: 6000)
    example = handle_file(str(pdfs["example"]))
    with pytest.raises(AppError, match=r"Side by side keeps the document twice.* at most 2,984 tokens"):
        client.predict(example, "What is the pass key?", "both", "12-17", api_name="/ask")
    alone = client.predict(example, "What is the pass key?", "dca", "12-17", api_name="/ask")
    assert "71432" in alone["answers"]["dca"]["text"]


def test_rest_names_work_without_a_client(space):
    def call(path: str, body: bytes | None = None) -> str:
        request = urllib.request.Request(
            f"{space.url}/gradio_api/call/{path}", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()

    event = json.loads(call("models", b'{"data": []}'))["event_id"]
    assert '"loaded": "demo"' in call(f"models/{event}")


def test_no_file_of_the_machine_is_served(space):
    for path in ("/etc/passwd", "app.py", "dca_hub/loading.py", "../../etc/passwd"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{space.url}/gradio_api/file={path}")
        assert caught.value.code in (403, 404)


@pytest.mark.parametrize(
    "path", ["process_recording", "monitoring", "profiling/summary", "vibe-code/", "proxy=http://x/"]
)
def test_what_is_not_needed_is_not_served(space, path):
    for prefix in ("", "gradio_api/"):
        request = urllib.request.Request(f"{space.url}/{prefix}{path}", data=b"x" if "process" in path else None)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request)
        assert caught.value.code == 404


def test_an_upload_over_the_limit_is_refused(space):
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.pdf"\r\n\r\n%PDF-' + bytes(5_500_000)
    request = urllib.request.Request(
        f"{space.url}/gradio_api/upload",
        data=body + b"\r\n--x--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code == 413
