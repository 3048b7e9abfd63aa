"""Asking a model behind an OpenAI-compatible server: the same prompt, the same events, and Stop is heard."""

import time

import pytest

from dca_hub import DcaHubError
from dca_hub.conversation import Answered, Answering, Reading, Sampling
from dca_hub.documents import Document, Page
from dca_hub.loading import load
from dca_hub.prompts import Prompter, Turn
from dca_hub.serving.client import connect, converse
from dca_hub.space.host import Choice, Host
from dca_hub.space.settings import Settings
from dca_hub.tokenization import load_tokenizer
from support.openai_server import serving
from support.tiny_checkpoints import write_checkpoint

SHORT = Sampling(max_new_tokens=8)
DOCUMENT = Document("notes.pdf", (Page(1, "The pass key is 71432. Nothing else matters here."),), 1)


@pytest.fixture(scope="module")
def tokenizer():
    return load("demo").tokenizer


def test_the_server_gets_the_tokens_that_a_loaded_model_gets(tokenizer):
    with serving("The pass key is 71432.") as server:
        conversation = converse(connect("demo", server.url), [DOCUMENT])
        events = list(conversation.ask("What is the pass key?", SHORT))
    asked = server.asked[0]
    assert asked["prompt"] == Prompter(tokenizer).tokens(DOCUMENT.text, [Turn("What is the pass key?")])
    assert (asked["model"], asked["max_tokens"], asked["temperature"]) == ("demo", 8, 0.0)
    assert isinstance(events[0], Reading) and isinstance(events[-1], Answered)
    assert events[-1].text == "The pass key is 71432."
    assert "".join(e.text for e in events if isinstance(e, Answering)).strip() == events[-1].text
    assert [c.page for c in events[-1].citations] == [1]
    assert (events[-1].stats.prompt_tokens, events[-1].stats.answer_tokens) == (len(asked["prompt"]), 5)


def test_a_server_that_takes_text_alone_gets_the_same_text(tokenizer):
    with serving("An answer.", takes_ids=False) as server:
        conversation = converse(connect("demo", f"{server.url}/v1/"), [DOCUMENT])
        assert list(conversation.ask("What?", SHORT))[-1].text == "An answer."
    ids, text = (asked["prompt"] for asked in server.asked)
    assert tokenizer(text)["input_ids"] == ids


def test_the_second_question_comes_with_the_first():
    with serving("Yes.") as server:
        conversation = converse(connect("demo", server.url), [DOCUMENT])
        for question in ("One?", "Two?"):
            list(conversation.ask(question, SHORT))
    first, second = (asked["prompt"] for asked in server.asked)
    assert second[: len(first)] == first and len(second) > len(first)


def test_there_is_nothing_to_read_ahead_and_a_fork_asks_the_same_server():
    with serving("Yes.") as server:
        conversation = converse(connect("demo", server.url), [DOCUMENT])
        assert list(conversation.read_documents()) == [] and conversation.has_read_documents
        assert list(conversation.fork().ask("What?", SHORT))[-1].text == "Yes."
        assert len(server.asked) == 1 and not conversation.turns


def test_stop_while_the_server_reads_and_while_it_writes():
    with serving(" ".join(["word"] * 200), delay=0.05) as server:
        conversation = converse(connect("demo", server.url), [DOCUMENT])
        events, started = conversation.ask("What?", Sampling(max_new_tokens=200)), time.monotonic()
        for event in events:
            if isinstance(event, Answering):
                break
        events.close()
        assert time.monotonic() - started < 5
        time.sleep(1)
        assert server.sent < 100  # hung up long before the end
    with serving("late", delay=3) as server:
        events = converse(connect("demo", server.url), [DOCUMENT]).ask("What?", SHORT)
        started = time.monotonic()
        assert isinstance(next(events), Reading)
        events.close()
        assert time.monotonic() - started < 2


def test_the_length_is_what_both_can():
    with serving("x", length=4096) as server:
        served = connect("demo", server.url)
        assert served.context == 4096
        with pytest.raises(DcaHubError, match="more than the 40 that"):
            list(converse(served, [DOCUMENT], max_context=40).ask("What?", SHORT))


def test_what_cannot_be_is_said():
    with pytest.raises(DcaHubError, match=r"no server at http://127\.0\.0\.1:9/v1"):
        connect("demo", "http://127.0.0.1:9")
    with serving("x") as server:
        served = connect("demo", server.url)
        address = server.url.removeprefix("http://")
        assert connect("demo", address).endpoint.url == f"{server.url}/v1"
        with pytest.raises(DcaHubError, match=r"does not speak https .*give its address with http://"):
            connect("demo", f"https://{address}")
        with pytest.raises(DcaHubError, match="cannot be turned off from here"):
            converse(served, [DOCUMENT], dca=False)
        with pytest.raises(DcaHubError, match="runs behind an endpoint"):
            _ = served.model


def test_the_space_uses_an_endpoint():
    with serving("From afar.") as server:
        host = Host(Settings(endpoint=server.url))
        host.begin()
        assert host.loaded.name == "demo" and host.limit() == host.loaded.context
        assert list(host.converse([DOCUMENT]).ask("What?", SHORT))[-1].text == "From afar."
        with pytest.raises(DcaHubError, match="cannot be changed from here"):
            host.change(Choice("demo"))
        assert Settings(endpoint=server.url).choices() == ["demo"]


def test_a_server_of_another_model_is_not_asked(tokenizer, tmp_path):
    """Its token ids mean other words: what it answers to them would be nonsense."""
    other = write_checkpoint(tmp_path / "other")
    with serving("nonsense", model="other", tokenizer=load_tokenizer(other)) as server:
        with pytest.raises(DcaHubError, match=r"serves, 'other', has other tokens than 'demo': name the model"):
            connect("demo", server.url)
        assert connect(str(other), server.url).note is None
    with (
        serving("nonsense", model="other") as server,
        pytest.raises(DcaHubError, match="calls its model 'other' and gives no tokens to compare"),
    ):
        connect("demo", server.url)
    # The name is right and the tokens are not: a folder that is called like another model.
    with (
        serving("nonsense", model="demo", tokenizer=load_tokenizer(other)) as server,
        pytest.raises(DcaHubError, match="has other tokens"),
    ):
        connect("demo", server.url)


def test_the_same_tokens_under_another_name_are_said(tokenizer):
    with serving("x", model="my-model", tokenizer=tokenizer) as server:
        assert "calls its model 'my-model'; its tokens are those of 'demo'" in connect("demo", server.url).note
    with serving("x", model="Demo", tokenizer=tokenizer) as server:
        assert connect("demo", server.url).note is None


@pytest.mark.parametrize("breaks, words", [("error", "the engine has died"), ("off", "the answer has no end")])
def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(breaks, words):
    with serving("half an", breaks=breaks) as server:
        events = converse(connect("demo", server.url), [DOCUMENT]).ask("What?", SHORT)
        with pytest.raises(DcaHubError, match=words):
            list(events)


def test_a_key_is_sent_and_the_lack_of_one_said(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving("x", key="secret") as server:
        with pytest.raises(DcaHubError, match="asks for a key: set OPENAI_API_KEY"):
            connect("demo", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "wrong")
        with pytest.raises(DcaHubError, match="asks for another key"):
            connect("demo", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "secret")
        assert connect("demo", server.url).endpoint.model == "demo"


def test_of_several_models_the_one_that_is_named_is_asked(tokenizer):
    with serving("x", others=("llama", "qwen"), model="org/demo", tokenizer=tokenizer) as server:
        assert connect("demo", server.url).endpoint.model == "org/demo"
