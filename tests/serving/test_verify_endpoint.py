"""`verify --endpoint` tells a server that runs Dual Chunk Attention from one that runs plain attention."""

import json

import pytest
import torch

from dca_hub import DcaHubError, cli
from dca_hub.extending import extend
from dca_hub.loading import load
from dca_hub.verification import EndpointCheck, Outcome, verify_endpoint
from support.openai_server import serving


@pytest.fixture(scope="module")
def loaded():
    return load("demo", dtype="float32")


class Model:
    """Stands for a server's engine: `gives` is what it answers with."""

    def __init__(self, model, tokenizer, gives: str, noise: float = 0.0):
        self.model, self.tokenizer, self.gives, self.noise = model, tokenizer, gives, noise

    @torch.no_grad()
    def __call__(self, body: dict) -> dict:
        ids = body["prompt"] if isinstance(body["prompt"], list) else self.tokenizer(body["prompt"])["input_ids"]
        logits = self.model(torch.tensor([ids]), use_cache=False).logits[0].float()
        written = self.tokenizer.decode([int(logits[-1].argmax())])
        scores = logits.log_softmax(-1)[:-1].gather(1, torch.tensor(ids[1:]).unsqueeze(1))[:, 0] + self.noise
        if self.gives == "echo" and body.get("echo"):
            return {"text": written, "logprobs": {"token_logprobs": [None, *scores.tolist(), -1.0]}}
        if self.gives == "prompt_logprobs" and "prompt_logprobs" in body:
            found = [{str(token): {"logprob": score}} for token, score in zip(ids[1:], scores.tolist())]
            return {"text": written, "prompt_logprobs": [None, *found]}
        return {"text": written, "logprobs": None}


def check(loaded, model, gives: str, noise: float = 0.0, **options):
    with serving(
        "x", tokenizer=loaded.tokenizer, choice=Model(model, loaded.tokenizer, gives, noise), **options
    ) as server:
        found = list(verify_endpoint("demo", server.url, dtype="float32"))
    assert [one.check for one in found] == list(EndpointCheck) and found[0].outcome is Outcome.PASSED
    return found[1]


@pytest.mark.parametrize("gives", ["echo", "prompt_logprobs", "words"])
def test_a_server_with_dca_passes_and_one_with_plain_attention_fails(loaded, gives):
    right = check(loaded, loaded.model, gives)
    assert right.outcome is Outcome.PASSED, right.detail
    assert ("gives no log-probabilities" in right.detail) == (gives == "words")
    wrong = check(loaded, loaded.base, gives)
    assert wrong.outcome is Outcome.FAILED and "it runs plain attention" in wrong.detail


def test_a_server_that_takes_text_alone(loaded):
    assert check(loaded, loaded.model, "words", takes_ids=False).outcome is Outcome.PASSED
    assert "it runs plain attention" in check(loaded, loaded.base, "words", takes_ids=False).detail


def test_rounding_passes_and_other_weights_do_not(loaded):
    assert check(loaded, loaded.model, "echo", noise=0.03).outcome is Outcome.PASSED
    assert "it runs neither" in check(loaded, loaded.model, "echo", noise=4.0).detail


def test_a_server_of_other_sizes_is_said_to_be_off(loaded):
    other = extend(loaded.base, chunk_size=200, local_size=40, pretraining_length=512)
    found = check(loaded, other, "echo")
    assert found.outcome is Outcome.PASSED and "it may have other chunk sizes" in found.detail


def test_what_cannot_be_told_is_said(loaded):
    tokenizer = loaded.tokenizer
    with (
        serving("x", tokenizer=tokenizer, length=300) as server,
        pytest.raises(DcaHubError, match=r"The server takes 300 tokens, .* longer context"),
    ):
        list(verify_endpoint("demo", server.url))
    with (
        serving("x", tokenizer=tokenizer) as server,
        pytest.raises(DcaHubError, match=r"300 tokens are too few to tell .* give tokens="),
    ):
        list(verify_endpoint("demo", server.url, tokens=300))


def test_the_command(loaded, capsys):
    plain = Model(loaded.base, loaded.tokenizer, "echo")
    with serving("x", tokenizer=loaded.tokenizer, choice=plain) as server:
        assert cli.main(["verify", "demo", "--endpoint", server.url, "--json", "--precision", "float32"]) == 1
        said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [one["outcome"] for one in said] == ["passed", "failed"]
        assert cli.main(["verify", "demo", "--endpoint", server.url, "--fetch"]) == 2
        assert "leave --fetch out" in capsys.readouterr().err
    assert cli.main(["verify", "demo", "--endpoint", "http://127.0.0.1:9"]) == 2
