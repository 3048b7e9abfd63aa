"""transformers' own server over a DCA model: its answers are the model's. Runs where that server's packages are."""

import pytest
import torch
from openai_server import listening

from dca_hub.conversation import Sampling
from dca_hub.documents import Document, Page
from dca_hub.loading import load
from dca_hub.prompts import Turn
from dca_hub.serving.client import connect, converse
from dca_hub.serving.engines import transformers_refusal
from dca_hub.serving.transformers_server import build_app

if transformers_refusal():
    pytest.skip(transformers_refusal(), allow_module_level=True)

pytestmark = pytest.mark.vllm  # in that environment they are
QUESTION = "What is the pass key?"


def test_an_endpoint_conversation_over_it():
    loaded = load("demo")
    words = " ".join(f"Sentence {number} of a long document." for number in range(150))
    document = Document("long", (Page(1, f"{words} The pass key is 58213. Remember it. {words}"),), 1)
    with listening(build_app(loaded)) as url:
        conversation = converse(connect("demo", url), [document])
        answered = list(conversation.ask(QUESTION, Sampling(max_new_tokens=6)))[-1]
    tokens = conversation.prompter.tokens(document.text, [Turn(QUESTION)])
    assert len(tokens) > 4 * loaded.trained
    expected = list(tokens)
    with torch.no_grad():
        for _ in range(6):
            expected.append(int(loaded.model(torch.tensor([expected]), use_cache=False).logits[0, -1].argmax()))
    assert answered.text == loaded.tokenizer.decode(expected[len(tokens) :], skip_special_tokens=True).strip()
