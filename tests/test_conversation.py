"""Conversations: the document is read once, Stop leaves things in order, and the answer is the model's own."""

import time
from dataclasses import replace

import pytest
import torch

from dca_hub import DcaHubError
from dca_hub.conversation import Answered, Answering, Conversation, Reading, Sampling
from dca_hub.documents import Document, Page
from dca_hub.loading import load
from dca_hub.memory import Architecture
from dca_hub.pace import Pace
from dca_hub.packaging import package
from dca_hub.prompts import Prompter, Turn
from support.tiny_checkpoints import write_checkpoint

SHORT = Sampling(max_new_tokens=8)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conversation")
    source = write_checkpoint(folder / "tiny", max_position_embeddings=128)
    made = package(str(source), folder / "dca", pretraining_length=128, chunk_size=96, local_size=32)
    return load(str(made.folder))


@pytest.fixture
def document():
    words = [f"Sentence {number} of a document that is long enough." for number in range(12)]
    return Document("notes.pdf", (Page(1, " ".join(words[:6])), Page(2, " ".join(words[6:]))), 2)


def run(conversation: Conversation, question: str, sampling: Sampling = SHORT):
    return list(conversation.ask(question, sampling))


def test_events_come_in_order_and_add_up(loaded, document):
    events = run(Conversation(loaded, [document]), "What?")
    kinds = [type(event) for event in events]
    assert kinds == sorted(kinds, key=[Reading, Answering, Answered].index)
    reading = [event for event in events if isinstance(event, Reading)]
    assert reading[-1].done == reading[-1].total and [r.done for r in reading] == sorted({r.done for r in reading})
    answered = events[-1]
    assert "".join(e.text for e in events if isinstance(e, Answering)).strip() == answered.text
    assert answered.stats.prompt_tokens == reading[-1].total + 1 and answered.stats.answer_tokens <= 8


def test_progress_says_how_long_is_left_once_enough_was_timed(loaded):
    loaded = replace(loaded, pace=Pace(Architecture.from_config(loaded.source.config)))
    pages = tuple(Page(number, "A long page of words. " * 60) for number in range(1, 7))
    document = Document("long.pdf", pages, len(pages))
    slow = Conversation(loaded, [document], max_context=16_000)
    lefts = []
    for reading in slow.read_documents():
        lefts.append(reading.left)
        if len(lefts) == 2:
            time.sleep(1.5)  # who is told may rest: that is no time of reading
    assert lefts[:2] == [None, None] and None not in lefts[2:] and lefts[-1] == 0.0
    assert 0 < lefts[2] < 60 * reading.seconds
    taken = loaded.pace.seconds(0, reading.total)
    assert taken < reading.seconds - 0.5, "the rest was counted"
    before = loaded.pace.seconds(0, 1000)
    again = next(iter(Conversation(loaded, [document], max_context=16_000).read_documents()))
    assert again.left is not None and before is not None, "another conversation knows it from the beginning"


@torch.no_grad()
def test_the_answer_is_what_one_greedy_call_gives(loaded, document):
    conversation = Conversation(loaded, [document])
    answered = run(conversation, "What is it?")[-1]
    tokens = Prompter(loaded.tokenizer).tokens(document.text, [Turn("What is it?")])
    out = loaded.model.generate(torch.tensor([tokens]), max_new_tokens=8, do_sample=False, pad_token_id=0)
    wanted = loaded.tokenizer.decode(out[0, len(tokens) :], skip_special_tokens=True).strip()
    assert answered.text == wanted.partition("\nQuestion:")[0].strip()


def test_the_second_question_reads_only_itself(loaded, document):
    conversation = Conversation(loaded, [document])
    first = run(conversation, "What?")[-1].stats
    second = run(conversation, "And then?")[-1].stats
    assert first.read_tokens == first.prompt_tokens
    assert second.read_tokens < 60 < second.prompt_tokens
    fresh = Conversation(loaded, [document], turns=list(conversation.turns[:1]))
    assert run(fresh, "And then?")[-1].text == conversation.turns[-1].answer


def test_undo_and_another_question_equal_a_fresh_start(loaded, document):
    conversation = Conversation(loaded, [document])
    run(conversation, "What?")
    conversation.undo()
    again = run(conversation, "Why?")[-1]
    assert again.text == run(Conversation(loaded, [document]), "Why?")[-1].text
    assert again.stats.read_tokens < 30


def test_stop_while_reading_keeps_what_was_read(loaded, document):
    conversation = Conversation(loaded, [document])
    events = conversation.ask("What?", SHORT)
    first = next(events)
    events.close()
    assert conversation.cached_tokens == first.done and conversation.turns == []
    assert run(conversation, "What?")[-1].text == run(Conversation(loaded, [document]), "What?")[-1].text


def test_stop_while_answering_is_quick_and_leaves_things_in_order(loaded, document):
    conversation = Conversation(loaded, [document])
    events = conversation.ask("What?", Sampling(max_new_tokens=5000))
    conversation.max_context = 100_000
    for event in events:
        if isinstance(event, Answering):
            break
    started = time.monotonic()
    events.close()
    assert time.monotonic() - started < 1
    conversation.turns.clear()
    assert run(conversation, "What?")[-1].text == run(Conversation(loaded, [document]), "What?")[-1].text


def test_an_error_in_the_model_forgets_a_cache_that_may_be_torn(loaded, document, monkeypatch):
    conversation = Conversation(loaded, [document])
    layer = loaded.model.model.layers[1]

    def fail(*args):
        raise RuntimeError("broken")

    handle = layer.register_forward_pre_hook(fail)
    try:
        with pytest.raises(RuntimeError, match="broken"):
            run(conversation, "What?")
    finally:
        handle.remove()
    assert conversation.cached_tokens == 0
    assert run(conversation, "What?")[-1].text == run(Conversation(loaded, [document]), "What?")[-1].text


def test_too_long_a_document_says_what_would_fit(loaded, document):
    with pytest.raises(DcaHubError, match="pages 1-1 would fit"):
        run(Conversation(loaded, [document], max_context=450), "What?")
    with pytest.raises(DcaHubError, match="not even one page"):
        run(Conversation(loaded, [document], max_context=100), "What?")


def test_an_empty_question_is_refused(loaded, document):
    with pytest.raises(DcaHubError, match="empty"):
        run(Conversation(loaded, [document]), "  ")


def test_a_document_cannot_speak_with_control_tokens(loaded):
    prompter = Prompter(loaded.tokenizer)
    tokens = prompter.tokens("Before<eos>after", [Turn("Is <eos> there?")])
    assert loaded.tokenizer.eos_token_id not in tokens


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}<assistant>",
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "<{{ m['role'] }}>{{ m['content'] }}{% endfor %}<assistant>",
        "{% for m in messages %}{% if m['role'] != 'system' %}<{{ m['role'] }}>{{ m['content'] }}{% endif %}"
        "{% endfor %}<assistant>",
    ],
)
def test_the_document_begins_the_first_message_of_the_user_whatever_the_template_does_otherwise(template, loaded):
    import copy

    tokenizer = copy.deepcopy(loaded.tokenizer)
    tokenizer.chat_template = template
    text = Prompter(tokenizer).text("THE DOCUMENT", [Turn("one?", "yes"), Turn("two?")])
    first = text.partition("<assistant>")[0]
    assert first.startswith("<user>") and first.endswith("THE DOCUMENT\n\none?") and text.count("THE DOCUMENT") == 1
    assert text.index("one?") < text.index("yes") < text.index("two?") and text.endswith("<assistant>")
    assert Prompter(tokenizer).text("", [Turn("one?")]) == "<user>one?<assistant>", "nothing to be answered from"


def test_of_several_chat_templates_the_default_counts_or_there_is_a_sentence(loaded):
    import copy

    tokenizer = copy.deepcopy(loaded.tokenizer)
    one = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}<assistant>"
    tokenizer.chat_template = {"rag": one}
    assert Prompter(tokenizer).text("The document.", [Turn("one?")]).endswith("<assistant>")
    tokenizer.chat_template = {"rag": one, "tool_use": one}
    with pytest.raises(DcaHubError, match="rag, tool_use, and none is called default"):
        Prompter(tokenizer).tokens("The document.", [Turn("one?")])
