"""Thoughts are kept apart from the answer: shown, not cited, not asked about again, and given room."""

import pytest

from dca_hub.documents import Document, Page, cite
from dca_hub.prompts import Prompter
from dca_hub.thoughts import separate
from support.tiny_checkpoints import byte_tokenizer

CASES = [
    ("<think>\nLet me see.\n</think>\n\nParis.", False, "Let me see.", "Paris."),
    ("Let me see.\n</think>\n\nParis.", True, "Let me see.", "Paris."),
    ("\n<think>Let me", False, "Let me", ""),
    ("Let me", True, "Let me", ""),
    ("[THINK]Hm.[/THINK]Paris.", False, "Hm.", "Paris."),
    ("Paris.", False, "", "Paris."),
    ("The tags <think> and </think> mark thoughts.", False, "", "The tags <think> and </think> mark thoughts."),
    ("a</think>b </think> c", True, "a", "b </think> c"),
]
TURNS = "{% for m in messages %}<{{ m.role }}>{% set parts = m.content.split('</think>') %}{{ parts[-1] }}{% endfor %}"


@pytest.mark.parametrize("text, opened, thoughts, answer", CASES)
def test_thoughts_and_answer(text, opened, thoughts, answer):
    found = separate(text, opened)
    assert (found.thoughts, found.answer) == (thoughts, answer)


@pytest.mark.parametrize(
    "end, opens, thinks",
    [("<assistant><think>\n", True, True), ("<assistant>", False, True), ("<a><think>\n\n</think>\n\n", False, False)],
)
def test_what_a_chat_format_says_of_thoughts(end, opens, thinks):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TURNS + "{% if add_generation_prompt %}" + end + "{% endif %}"
    prompter = Prompter(tokenizer)
    assert (prompter.opens_thoughts, prompter.thinks) == (opens, thinks)


def test_a_model_without_a_format_for_thoughts_does_not_think():
    tokenizer = byte_tokenizer()
    assert not Prompter(tokenizer).thinks and not Prompter(tokenizer).opens_thoughts
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    assert not Prompter(tokenizer).thinks


def test_long_thoughts_do_not_hide_the_page_of_the_answer():
    sentence = "The harbour master signed the lease on the ninth of March 1871."
    pages = (Page(1, "Nothing of it is told here, and of other things only little."), Page(2, sentence))
    written = "I think about what was asked. " * 71 + "</think>\n\n" + sentence
    answer = separate(written, opened=True).answer
    assert [citation.page for citation in cite(answer, [Document("a.pdf", pages, 2)])] == [2]
