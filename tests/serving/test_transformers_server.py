"""transformers' own server over a DCA model, asked by our client and by OpenAI's."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from dca_hub import cli
from dca_hub.conversation import Sampling
from dca_hub.documents import Document, Page
from dca_hub.loading import load
from dca_hub.prompts import Turn
from dca_hub.serving.client import connect, converse
from dca_hub.serving.engines import transformers_refusal
from dca_hub.serving.transformers_server import Offer, build_app
from dca_hub.verification import Outcome, verify_endpoint
from support.openai_server import listening

if transformers_refusal():
    pytest.skip(transformers_refusal(), allow_module_level=True)

QUESTION = "What is the pass key?"


@pytest.fixture(scope="module")
def loaded():
    return load("demo")


@pytest.fixture(scope="module")
def url(loaded):
    with listening(build_app(Offer(loaded, "my-demo", 4096))) as url:
        yield url


@pytest.fixture
def client(url):
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_an_endpoint_conversation_over_it(loaded, url):
    words = " ".join(f"Sentence {number} of a long document." for number in range(150))
    document = Document("long", (Page(1, f"{words} The pass key is 58213. Remember it. {words}"),), 1)
    served = connect("demo", url)
    assert served.context == 4096
    assert served.note is None, "under another name, but its root is the model"
    conversation = converse(served, [document])
    answered = list(conversation.ask(QUESTION, Sampling(max_new_tokens=6)))[-1]
    tokens = conversation.prompter.tokens(document.text, [Turn(QUESTION)])
    assert len(tokens) > 4 * loaded.trained
    expected = list(tokens)
    with torch.no_grad():
        for _ in range(6):
            expected.append(int(loaded.model(torch.tensor([expected]), use_cache=False).logits[0, -1].argmax()))
    assert answered.text == loaded.tokenizer.decode(expected[len(tokens) :], skip_special_tokens=True).strip()


def test_verify_tells_that_it_serves_dca(loaded, url):
    """It gives no log-probabilities, so its words tell."""
    _, found = verify_endpoint("demo", url)
    assert found.outcome is Outcome.PASSED, found.detail
    with listening(build_app(Offer(replace(loaded, model=loaded.base), "demo", 4096))) as plain:
        _, found = verify_endpoint("demo", plain)
    assert "it runs plain attention" in found.detail


def test_the_model_has_the_name_and_the_length_that_it_is_served_with(client):
    [model] = client.models.list().data
    assert (model.id, model.max_model_len) == ("my-demo", 4096)


def test_streamed_and_whole_answers_are_the_same(client):
    asked = {"model": "my-demo", "prompt": "The pass key is 71432. The pass key is", "max_tokens": 8, "temperature": 0}
    whole = client.completions.create(**asked).choices[0].text
    streamed = "".join(chunk.choices[0].text for chunk in client.completions.create(stream=True, **asked))
    assert whole and streamed == whole
    again = client.chat.completions.create(
        model="my-demo", messages=[{"role": "user", "content": "Hello"}], max_tokens=4, temperature=0
    )
    assert again.choices[0].message.content is not None


def test_another_model_is_refused(client):
    import openai

    with pytest.raises(openai.APIStatusError, match="my-demo") as refused:
        client.completions.create(model="llama-3-8b", prompt="x", max_tokens=1)
    assert refused.value.status_code in (400, 404)


def test_a_prompt_that_is_too_long_is_refused_and_an_answer_ends_where_the_room_does(client):
    import openai

    with pytest.raises(openai.BadRequestError, match="maximum context length is 4096 tokens, and the prompt has"):
        client.completions.create(model="my-demo", prompt="word " * 5000, max_tokens=1)
    long = "one two three four five six seven " * 560
    answer = client.completions.create(model="my-demo", prompt=long, max_tokens=2000, temperature=0)
    assert answer.usage.total_tokens <= 4096


def test_a_client_that_hangs_up_frees_the_server(client):
    stream = client.completions.create(model="my-demo", prompt="Once", max_tokens=3000, stream=True, temperature=0)
    next(iter(stream))
    stream.close()
    started = time.monotonic()
    client.completions.create(model="my-demo", prompt="Once", max_tokens=1)
    assert time.monotonic() - started < 15


def test_ctrl_c_ends_a_long_request_and_the_server(tmp_path):
    """With the default disposition: a shell's background job, such as one of a CI, ignores SIGINT."""
    openai = pytest.importorskip("openai")
    process = subprocess.Popen(
        [sys.executable, "-m", "dca_hub", "serve", "demo", "--engine", "transformers", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        address = next(found[0] for line in process.stderr if (found := re.search(r"http://127.0.0.1:\d+(?= )", line)))
        with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
            stream = client.completions.create(model="demo", prompt="word " * 9000, max_tokens=5000, stream=True)
            time.sleep(2)  # it is being read
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
            stream.close()
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.stderr.close()


def test_a_dry_run_says_what_would_be_served(monkeypatch, capsys):
    monkeypatch.setattr("dca_hub.loading.load", lambda *args, **kwargs: pytest.fail("it was loaded"))
    command = ["serve", "demo", "--engine", "transformers", "--dry-run", "--name", "x", "--max-context", "2k"]
    assert cli.main(command) == 0
    said = capsys.readouterr().err
    assert "dca-hub serve demo --engine transformers --name x --max-context 2048 --host 127.0.0.1 --port 8000" in said


@pytest.mark.parametrize("given, share", [(["--sparse"], 0.9), (["--sparse", "0.8"], 0.8), ([], None)])
def test_long_texts_are_read_sparsely_where_that_was_asked_for(given, share, monkeypatch, capsys):
    offers = []
    monkeypatch.setattr("dca_hub.serving.transformers_server.run", lambda offer, host, port: offers.append(offer))
    assert cli.main(["serve", "demo", "--engine", "transformers", "--port", "0", *given]) == 0
    said, [offer] = capsys.readouterr().err, offers
    assert "--max-context 16384 " + " ".join([*given, "--host"]) in said
    assert (offer.loaded.sparse.share if offer.loaded.sparse else None) == share
    assert ("reading long texts sparsely" in said) == (share is not None)


def test_its_cache_is_kept_as_asked(monkeypatch, capsys):
    offers = []
    monkeypatch.setattr("dca_hub.serving.transformers_server.run", lambda offer, host, port: offers.append(offer))
    for given in ([], ["--cache-in-8bit"]):
        assert cli.main(["serve", "demo", "--engine", "transformers", "--port", "0", *given]) == 0
        assert ("--cache-in-8bit --host" in capsys.readouterr().err) == bool(given)
    usual, eight = (offer.loaded for offer in offers)
    assert (usual.cache_bits, eight.cache_bits) == (16, 8)
    assert eight.cache_bytes_per_token < usual.cache_bytes_per_token
    assert cli.main(["serve", "demo", "--engine", "transformers", "--port", "0", "--offload-cache"]) == 2
    assert "cpu is none: leave --offload-cache out" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--memory", "4"], ["--vllm=--enforce-eager"], ["--tensor-parallel", "2"]])
def test_what_only_vllm_can_do_is_refused(option, capsys):
    assert cli.main(["serve", "demo", "--engine", "transformers", "--dry-run", *option]) == 2
    assert f"leave {option[0].partition('=')[0]} out" in capsys.readouterr().err
