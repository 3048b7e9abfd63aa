"""The functions as tools for language models, called by the protocol's own client."""

import asyncio
import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

pytest.importorskip("mcp", reason="needs mcp: pip install 'gradio[mcp]'")
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client

from support.offering import offer_sparse

KEY = "48213"


@pytest.fixture(scope="module")
def tools(make_space):
    """Calls tools of a public Space: (name, arguments) to (failed, text); and lists them without a name."""
    blocks, space = make_space(mcp=True, public=True, port=7990)

    def call(name: str = "", **arguments):
        async def work():
            async with (
                streamablehttp_client(f"{space.url}/gradio_api/mcp/") as (read, write, _),
                ClientSession(read, write) as session,
            ):
                await session.initialize()
                if not name:
                    return (await session.list_tools()).tools
                result = await session.call_tool(name, arguments)
                return result.isError, "\n".join(part.text for part in result.content)

        # In a thread of its own: Playwright keeps an event loop running in this one.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(lambda: asyncio.run(asyncio.wait_for(work(), 120))).result()

    call.space = space
    yield call
    blocks.close()
    space.context.close()


def _inline(path) -> str:
    return "data:application/pdf;base64," + base64.b64encode(path.read_bytes()).decode()


def test_the_tools_are_the_four_functions_with_their_descriptions(tools):
    listed = {tool.name: tool for tool in tools()}
    assert set(listed) == {"ask", "needle", "inspect_pdf", "models"}
    assert "Answer a question about a PDF" in listed["ask"].description
    assert {"pdf", "question", "attention", "pages", "password"} <= set(listed["ask"].inputSchema["properties"])
    for name in ("ask", "needle"):
        sparse = listed[name].inputSchema["properties"]["sparse"]
        assert sparse["type"] == "boolean" and "an approximation" in sparse["description"]


def test_models_and_needle_answer(tools):
    failed, said = tools("models")
    assert not failed and json.loads(said)["loaded"] == "demo"
    failed, said = tools("needle", lengths="256", depths=1, trials=1, haystack="prose", attention="dca")
    assert not failed and json.loads(said)["results"]["dca"][0]["found"]


def test_a_pdf_is_read_and_asked(tools, pdfs):
    failed, said = tools("inspect_pdf", pdf=_inline(pdfs["short"]))
    assert not failed and json.loads(said)["page_count"] == 3
    failed, said = tools("ask", pdf=_inline(pdfs["short"]), question="What is the pass key?")
    assert not failed and KEY in said


def test_a_tool_reads_sparsely_or_says_why_not(tools, pdfs, monkeypatch):
    question = {"pdf": _inline(pdfs["example"]), "question": "What is the pass key?", "pages": "12-17", "sparse": True}
    failed, said = tools("ask", **question)
    assert failed and "Sparse reading is for texts of 32,768 tokens and more: leave sparse out." in said
    offer_sparse(monkeypatch, 2000)
    failed, said = tools("ask", **question)
    assert not failed and json.loads(said)["answers"]["dca"]["sparse"]
    failed, said = tools("needle", lengths="2048", depths=1, trials=1, attention="dca", sparse=True)
    assert not failed and json.loads(said)["sparse"]


def test_failures_are_one_sentence(tools, pdfs):
    failed, said = tools("inspect_pdf", pdf=_inline(pdfs["locked"]))
    assert failed and "is encrypted" in said and "/tmp" not in said and "Traceback" not in said
    failed, said = tools("inspect_pdf", pdf="http://127.0.0.1:9/x.pdf")
    assert failed and "addresses are not fetched" in said


def test_a_run_ends_when_its_caller_hangs_up(tools):
    """A tool's call goes on within Gradio, which does not tell that nobody waits for it any more."""
    body = {
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "needle", "arguments": {"lengths": "16384", "depths": 10, "trials": 5}},
    }  # fmt: skip
    headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    line = tools.space.context.lane._line
    with pytest.raises(httpx.TimeoutException):
        httpx.post(f"{tools.space.url}/gradio_api/mcp/", json=body, headers=headers, timeout=4)
    begun = time.monotonic()
    while [job for job in line if not job.over] and time.monotonic() - begun < 20:
        time.sleep(0.05)
    took = time.monotonic() - begun
    print(f"stopped {took:.2f} s after the caller hung up")
    assert took < 3


def test_a_tools_answer_is_json_with_its_own_letters(tools, pdfs):
    failed, said = tools("ask", pdf=_inline(pdfs["short"]), question="What is the pass key?")
    answer = json.loads(said)["answers"]["dca"]
    assert not failed and KEY in answer["text"] and answer["citations"][0]["grade"] == "verbatim"
