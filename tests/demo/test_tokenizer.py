"""The demo model's tokenizer and chat template."""

from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from dca_hub.demo import MODEL_DIR
from examples.demo_model.questions import ask
from examples.demo_model.tokenizer import BOS, EOS, PieceEncoder, save_tokenizer, train_tokenizer

LOADED = AutoTokenizer.from_pretrained(MODEL_DIR)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=80)


@settings(max_examples=200, deadline=None)
@given(TEXT)
def test_any_text_comes_back(text):
    assert LOADED.decode(LOADED.encode(text, add_special_tokens=False)) == text


@settings(max_examples=100, deadline=None)
@given(TEXT, TEXT)
def test_a_line_break_parts_tokens(before, after):
    whole = LOADED.encode(before + "\n" + after, add_special_tokens=False)
    parts = [LOADED.encode(part, add_special_tokens=False) for part in (before, "\n", after)]
    assert whole == [token for part in parts for token in part]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["The key is ", "48213", '"', ". It", "\n", "é 7", "don't", " "]), max_size=12))
def test_the_cached_encoder_agrees_with_the_tokenizer(parts):
    text = "".join(parts)
    assert PieceEncoder(LOADED)(text) == LOADED.encode(text, add_special_tokens=False)


def test_digits_stand_alone():
    pieces = LOADED.tokenize("In 1847 he paid 5,306.42 (£9).")
    assert [p for p in pieces if any(c.isdigit() for c in p)] == list("18475306429")


def test_bos_comes_first_unless_it_is_not_wanted():
    assert LOADED.encode("a")[0] == LOADED.bos_token_id
    assert LOADED.bos_token_id not in LOADED.encode("a", add_special_tokens=False)


def test_the_chat_template_is_the_training_format():
    messages = [
        {"role": "system", "content": "Once.\n[page 2]\nTwice."},
        {"role": "user", "content": "What is the pass key?"},
        {"role": "assistant", "content": "The pass key is 48213."},
        {"role": "user", "content": "Go on."},
    ]
    expected = (
        f"{BOS}Once.\n[page 2]\nTwice." + ask("What is the pass key?") + f" The pass key is 48213.{EOS}" + ask("Go on.")
    )
    assert LOADED.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == expected


def test_a_user_message_may_bring_its_document():
    content = "Once upon a time.\n\nQuestion: What comes next?"
    text = LOADED.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    assert text == f"{BOS}{content}\nAnswer:"


def test_only_answers_are_marked_for_training():
    messages = [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": "That."}]
    out = LOADED.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    marked = [token for token, mask in zip(out["input_ids"], out["assistant_masks"]) if mask]
    assert LOADED.decode(marked) == f" That.{EOS}"


def test_training_one_gives_what_loading_it_gives(tmp_path):
    trained = train_tokenizer(["the cat sat on the mat, 12 times over"] * 5, 300)
    save_tokenizer(trained, tmp_path)
    text = 'The "cat" sat 3 times.\n'
    assert AutoTokenizer.from_pretrained(tmp_path).encode(text) == trained.encode(text)
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template == LOADED.chat_template
