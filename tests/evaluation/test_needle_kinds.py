"""Prompts with several needles, in three styles, and keys and values in place of a text; and which answers count."""

import random

import pytest

from dca_hub.control_tokens import opening_tokens
from dca_hub.errors import DcaHubError
from dca_hub.evaluation import needle
from dca_hub.evaluation.grid import Grid
from dca_hub.evaluation.passkey import ANSWER_ROOM, Haystack, Pairs, is_found
from dca_hub.loading import load
from support.tiny_checkpoints import byte_tokenizer


def prompt_text(loaded, maker, length, depth, seed=0):
    prompt = maker.prompt(length, depth, random.Random(seed))
    assert len(prompt.ids) <= length - ANSWER_ROOM
    return prompt, loaded.tokenizer.decode(prompt.ids, skip_special_tokens=True)


def test_several_needles_are_in_the_prompt_and_one_is_asked_for(loaded):
    haystack = Haystack(loaded.tokenizer, "A heron stood by the river. " * 200, needles=4)
    for depth in (0.0, 0.5, 1.0):
        prompt, text = prompt_text(loaded, haystack, 1500, depth)
        assert len(prompt.ids) == 1500 - ANSWER_ROOM
        assert text.count("Remember it.") == 4
        name = text.rsplit("What is the pass key of ", 1)[1].partition("?")[0]
        assert text.count(f"The pass key of {name} is {prompt.key}.") == 1
        assert abs(text.index(prompt.key) / len(text) - depth) < 0.3
    with pytest.raises(DcaHubError, match="1 to 32 needles"):
        Haystack(loaded.tokenizer, "A heron stood. ", needles=33)


def test_one_needle_is_asked_for_as_ever(loaded):
    haystack = Haystack(loaded.tokenizer, "A heron stood by the river. " * 200)
    prompt, text = prompt_text(loaded, haystack, 900, 0.5)
    assert text.count(prompt.key) == 2 and "What is the pass key?" in text and "pass key of" not in text


def test_keys_and_values_fill_the_length_and_the_key_stands_at_its_depth(loaded):
    for depth in (0.0, 0.5, 1.0):
        prompt, text = prompt_text(loaded, Pairs(loaded.tokenizer), 1500, depth)
        assert len(prompt.ids) > 1500 - ANSWER_ROOM - 30
        name = text.rsplit('Key: "', 1)[1].partition('"')[0]
        lines = [line for line in text.splitlines() if line.startswith(('"', '{"'))]
        at = next(i for i, line in enumerate(lines) if name in line)
        assert prompt.key in lines[at] and abs(at / (len(lines) - 1) - depth) < 0.06
    with pytest.raises(DcaHubError, match="too few for a key-value prompt"):
        Pairs(loaded.tokenizer).prompt(60, 0.5, random.Random(0))


def test_pairs_are_many_needles_already(loaded):
    with pytest.raises(DcaHubError, match="leave needles out"):
        needle.prompts(loaded.tokenizer, Grid((256,), (0.5,), haystack="pairs", needles=2))


CHAT = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] | trim }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def chatty():
    """A tokenizer with a chat format, which has a `bos_token` and puts it nowhere, as that of SmolLM2."""
    made = byte_tokenizer()
    made.chat_template = CHAT
    assert made.bos_token_id is not None
    made.backend_tokenizer.post_processor = None
    return made


def test_a_chat_model_is_asked_in_its_format_and_others_as_text(chatty):
    asked = needle.prompts(chatty, Grid((400,), (0.5,)))
    text = chatty.decode(asked.prompt(400, 0.5, random.Random(0)).ids)
    assert text.startswith("<user>There is an important info hidden")
    assert text.endswith("\nWhat is the pass key?</s><assistant>The pass key is"), "the answer is begun"
    assert "asked" in needle.settings(chatty, Grid((400,), (0.5,)))
    assert len(asked.prompt(400, 0.5, random.Random(0)).ids) == 400 - ANSWER_ROOM
    pairs = needle.prompts(chatty, Grid((400,), (0.5,), haystack="pairs"))
    text = chatty.decode(pairs.prompt(400, 0.5, random.Random(0)).ids)
    assert text.startswith("<user>Extract the value") and text.endswith("Corresponding value:</s><assistant>")
    several = needle.prompts(chatty, Grid((700,), (0.5,), needles=2)).prompt(700, 0.5, random.Random(0))
    name = chatty.decode(several.ids).rpartition("What is the pass key of ")[2].partition("?")[0]
    assert chatty.decode(several.ids).endswith(f"<assistant>The pass key of {name} is")
    chatty.chat_template = CHAT.replace("<assistant>", "<assistant><think>") + "{# </think> #}"
    thinks = needle.prompts(chatty, Grid((400,), (0.5,))).prompt(400, 0.5, random.Random(0))
    assert chatty.decode(thinks.ids).endswith("<assistant><think>"), "who thinks first begins the answer himself"
    chatty.chat_template = None
    plain = needle.prompts(chatty, Grid((400,), (0.5,)))
    text = chatty.decode(plain.prompt(400, 0.5, random.Random(0)).ids)
    assert plain.style == "plain" and text.endswith("Question: What is the pass key?\nAnswer:")
    with pytest.raises(DcaHubError, match="has no chat format"):
        needle.prompts(chatty, Grid((400,), (0.5,), style="chat"))


def test_no_token_is_put_where_the_tokenizer_puts_none(chatty, loaded):
    assert opening_tokens(chatty) == []
    assert opening_tokens(loaded.tokenizer) == loaded.tokenizer("a")["input_ids"][:-1]
    for style in ("plain", "authors"):
        ids = needle.prompts(chatty, Grid((500,), (0.5,), style=style)).prompt(500, 0.5, random.Random(0)).ids
        assert chatty.bos_token_id not in ids


def test_the_authors_prompt_is_theirs_word_for_word(chatty):
    maker = needle.prompts(chatty, Grid((600,), (0.5,), haystack="grass", style="authors"))
    prompt = maker.prompt(600, 0.5, random.Random(0))
    task, first, key, second, question = chatty.decode(prompt.ids).split("\n")
    assert task.startswith("There is an important info hidden inside a lot of irrelevant text. Find it and memorize")
    assert key == f"The pass key is {prompt.key}. Remember it. {prompt.key} is the pass key."
    assert question == "What is the pass key? The pass key is"
    assert (first + second).startswith("The grass is green. The sky is blue. The sun is yellow. Here we go. There and")
    assert "again. The grass" in first + second and abs(len(first) - len(second)) < 60
    with pytest.raises(DcaHubError, match="authors have no test"):
        needle.prompts(chatty, Grid((500,), (0.5,), haystack="pairs", style="authors"))


def test_the_demo_model_is_asked_as_it_was_trained():
    demo = load("demo")
    asked = [
        needle.prompts(demo.tokenizer, Grid((300,), (0.5,), style=style)).prompt(300, 0.5, random.Random(0)).ids
        for style in (None, "plain")
    ]
    assert asked[0] == asked[1], "its chat format is a text and a question"


@pytest.mark.parametrize(
    "answer, found",
    [
        ("71432", True), ("71,432", True), ("71 432.", True), ("71.432", True), ("The 5-digit pass key is 71432", True),
        ("1. 71432", True), ("is **71432**.", True), ("71433", False), ("714321", False), ("7143", False), ("", False),
        ("12345 or 71432", False), ("7,143,2", False),
    ],
)  # fmt: skip
def test_the_first_number_of_the_keys_length_counts(answer, found):
    assert is_found("71432", answer) is found


def test_sentences_end_in_other_scripts_too(chatty):
    text = "\u516c\u53f8\u603b\u90e8\u5728\u4e0a\u6d77\u3002\u4ece\u4e8b\u5de5\u4e1a\uff01" * 60
    prompt = Haystack(chatty, text).prompt(900, 0.5, random.Random(0))
    before = chatty.decode(prompt.ids).partition(" The pass key is")[0]
    assert before.endswith(("\u3002", "\uff01"))
    with pytest.raises(DcaHubError, match="must contain sentences"):
        Haystack(chatty, "word")
