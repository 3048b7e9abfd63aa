"""`dca-hub serve` on vLLM, as clients of the OpenAI protocol see it: the demo model and a document far too long."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import torch

from dca_hub.documents import Document, Page
from dca_hub.documents.example import PASS_KEY, example_text
from dca_hub.loading import load
from dca_hub.prompts import Prompter, Turn
from dca_hub.verification import Outcome, verify_endpoint

pytestmark = pytest.mark.vllm
QUESTION = "What is the pass key?"


@pytest.fixture(scope="module")
def demo():
    return load("demo", dtype="float32")


@pytest.fixture(scope="module")
def prompt(demo) -> list[int]:
    """The question about the example document, in the words that `ask` uses, as token ids."""
    paragraphs, on_page = example_text(), 8
    texts = ["\n".join(paragraphs[at : at + on_page]) for at in range(0, len(paragraphs), on_page)]
    document = Document("example", tuple(Page(n, text) for n, text in enumerate(texts, 1)), len(texts))
    return Prompter(demo.tokenizer).tokens(document.text, [Turn(QUESTION)])


@contextmanager
def listening(command: list, environment: dict[str, str], log: Path) -> Iterator[str]:
    """The address of a server that a command starts on a port of its choice; what it says goes into `log`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, "--port", str(port)], stdout=output, stderr=subprocess.STDOUT, env=environment
        )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(240):
            assert server.poll() is None, log.read_text()[-4000:]
            try:
                urlopen(f"{address}/health", timeout=2)
                break
            except (URLError, OSError):
                time.sleep(1)
        yield f"{address}/v1"
    finally:
        server.terminate()
        server.wait(60)


ENVIRONMENT = os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
EAGER = "--enforce-eager --enable-prompt-tokens-details"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    subprocess.run(
        [sys.executable, "-m", "dca_hub", "package", "demo", "--out", folder / "demo-dca"], check=True, env=ENVIRONMENT
    )
    return folder


@pytest.fixture(scope="module")
def endpoint(folder):
    """The address of a server over the demo model's package."""
    command = [sys.executable, "-m", "dca_hub", "serve", folder / "demo-dca", "--dtype", "float32", "--memory", "2"]
    with listening([*command, f"--vllm={EAGER}"], ENVIRONMENT, folder / "log") as address:
        yield address


def counter(endpoint: str, name: str) -> float:
    text = urlopen(endpoint.removesuffix("v1") + "metrics").read().decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if re.match(rf"vllm:{name}(_total)?\{{", line))


def test_eight_at_once_one_of_them_cancelled(demo, prompt, endpoint):
    from openai import OpenAI

    assert len(prompt) > 15_000
    with torch.no_grad():
        logits = demo.model(torch.tensor([prompt]), use_cache=False, logits_to_keep=1).logits[0, -1]
    first = int(logits.argmax())
    client = OpenAI(base_url=endpoint, api_key="none", timeout=300)
    ask = {"model": "demo-dca", "temperature": 0, "max_tokens": 12, "extra_body": {"return_token_ids": True}}

    def answer(number: int):
        return client.completions.create(prompt=prompt if number % 2 else prompt[:600], **ask)

    def cancel() -> int:
        stream = client.completions.create(prompt=prompt[:700], **ask | {"max_tokens": 4000}, stream=True)
        pieces = [piece for piece, _ in zip(stream, range(3))]
        stream.close()
        return len(pieces)

    with ThreadPoolExecutor(8) as pool:
        cancelled = pool.submit(cancel)
        answers = list(pool.map(answer, range(7)))
        assert cancelled.result() == 3
    long, short = answers[1::2], answers[::2]
    assert all(PASS_KEY in one.choices[0].text for one in long)
    assert {tuple(one.choices[0].token_ids) for one in long} == {tuple(long[0].choices[0].token_ids)}
    assert {tuple(one.choices[0].token_ids) for one in short} == {tuple(short[0].choices[0].token_ids)}
    assert long[0].choices[0].token_ids[0] == first
    for _ in range(50):
        if counter(endpoint, "num_requests_running") == 0:
            break
        time.sleep(0.2)
    assert counter(endpoint, "num_requests_running") == 0  # the cancelled one goes on no longer


def test_the_second_question_reads_little_anew(prompt, endpoint):
    from openai import OpenAI

    client = OpenAI(base_url=endpoint, api_key="none", timeout=300)
    answered = client.completions.create(model="demo-dca", prompt=prompt, max_tokens=12, temperature=0)
    assert PASS_KEY in answered.choices[0].text
    assert answered.usage.prompt_tokens_details.cached_tokens > len(prompt) - 256


def test_logprobs_of_a_long_prompt(demo, prompt, endpoint):
    """What the model gives each of the last tokens, from the wire."""
    from openai import OpenAI

    ids = prompt[-3000:]
    client = OpenAI(base_url=endpoint, api_key="none", timeout=300)
    got = client.completions.create(
        model="demo-dca", prompt=ids, max_tokens=1, temperature=0, extra_body={"prompt_logprobs": 0}
    )
    found = [at[str(token)]["logprob"] for at, token in zip(got.choices[0].prompt_logprobs[1:], ids[1:])]
    with torch.no_grad():
        logits = demo.model(torch.tensor([ids]), use_cache=False).logits
    expected = logits.log_softmax(-1)[0, :-1].gather(1, torch.tensor(ids[1:]).unsqueeze(1))[:, 0]
    assert (torch.tensor(found) - expected).abs().max() < 1e-4


def test_verify_tells_that_vllm_serves_dca_and_how_far_it_was(folder, endpoint):
    _, found = verify_endpoint(str(folder / "demo-dca"), endpoint, dtype="float32")
    assert found.outcome is Outcome.PASSED and "log-probabilities" in found.detail, found.detail
    said = re.findall(r"dca-hub: (.*)", (folder / "log").read_text())
    assert "s: loading the weights" in " ".join(said) and said[-1].startswith("ready after"), said


def test_verify_tells_that_vllm_without_the_plug_in_serves_plain_attention(folder):
    """What the package refuses can be forced: the plain checkpoint, and its length overridden."""
    from dca_hub.sources import resolve

    program = Path(sys.executable).with_name("vllm")
    command = [program, "serve", resolve("demo").folder, "--served-model-name", "demo", "--dtype", "float32"]
    command += ["--hf-overrides", '{"max_position_embeddings": 4096}', "--max-model-len", "4096", *EAGER.split()]
    environment = ENVIRONMENT | {"VLLM_PLUGINS": "", "VLLM_CPU_KVCACHE_SPACE": "1"}
    with listening(command, environment, folder / "plain-log") as address:
        _, found = verify_endpoint("demo", address, dtype="float32")
    assert found.outcome is Outcome.FAILED and "it runs plain attention" in found.detail, found.detail
