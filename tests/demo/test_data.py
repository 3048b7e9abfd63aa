"""What the training rows say is true of the documents in them."""

import re

import numpy as np
import pytest

from examples.demo_model.corpus import NEWLINE, Layout
from examples.demo_model.data import DENSE_MIX, MAIN_MIX, Batches, loader
from examples.demo_model.rows import ANSWER_WEIGHT, RowMaker
from examples.demo_model.wordings import NO_PASSAGE

LENGTH = 513
KINDS = sorted({*DENSE_MIX, *MAIN_MIX})


@pytest.fixture
def maker(corpus, encode):
    return RowMaker(corpus, encode, LENGTH, absent=0.1, bos=0.5)


def texts(maker, tokenizer, kind: str, count: int = 60) -> list[str]:
    rng = np.random.default_rng(3)
    rows = [maker.make(kind, rng)[0] for _ in range(count)]
    return [tokenizer.decode([token for token in row if token != tokenizer.pad_token_id]) for row in rows]


def turns(text: str) -> list[tuple[str, str]]:
    """The answered questions of a row; one that the window cut off is left out."""
    return re.findall(r"\n\nQuestion: (.*?)\nAnswer: (.*?)<\|eos\|>", text, flags=re.S)


def flat(text: str) -> str:
    """One line, straight quotes, no page marks."""
    text = re.sub(r"\n+\[page \d+\]", "", text)
    return " ".join(text.translate(str.maketrans("“”‘’", "\"\"''")).split())


@pytest.mark.parametrize("kind", KINDS)
def test_rows_have_the_length_and_the_tokens_of_their_text(maker, tokenizer, kind):
    rng = np.random.default_rng(1)
    for _ in range(20):
        tokens, weights = maker.make(kind, rng)
        assert tokens.shape == weights.shape == (LENGTH,)
        assert (weights[tokens == tokenizer.pad_token_id] == 0).all()
        kept = [int(token) for token in tokens if token != tokenizer.pad_token_id]
        again = tokenizer.encode(tokenizer.decode(kept), add_special_tokens=False)
        assert again[:-3] == kept[: len(again) - 3]  # the window may cut a word in two


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_generator_gives_the_same_row(maker, kind):
    one, two = (maker.make(kind, np.random.default_rng(5)) for _ in range(2))
    assert (one[0] == two[0]).all() and (one[1] == two[1]).all()


def test_keys_asked_for_are_in_the_document(maker, tokenizer):
    asked = missing = 0
    for text in texts(maker, tokenizer, "key"):
        document = text.split("\n\nQuestion: ")[0]
        for _, answer in turns(text):
            numbers = re.findall(r"\d+", answer)
            if numbers:
                asked += 1
                assert re.search(rf"(?<!\d){numbers[0]}(?!\d)", document)
                assert answer.startswith("The ") and answer.endswith(f" is {numbers[0]}.")
            else:
                missing += 1
                noun = re.fullmatch(r"There is no (.*) in the document\.", answer).group(1)
                assert f"{noun} is" not in flat(document)
    assert asked > 40 and missing > 0


def test_digits_of_keys_are_not_to_be_guessed(maker, tokenizer, encode):
    digits, rng, seen = set(encode.digits.values()), np.random.default_rng(4), 0
    for _ in range(30):
        tokens, weights = maker.make("key", rng)
        document = slice(1, int(np.argmax(weights == ANSWER_WEIGHT)))
        unweighted = [int(token) for token in tokens[document][weights[document] == 0]]
        assert set(unweighted) <= digits
        seen += len(unweighted)
    assert seen > 100


def test_quotes_are_in_the_document_and_go_on_there(maker, tokenizer):
    found = absent = 0
    for text in texts(maker, tokenizer, "quote", 80):
        document = flat(text.split("\n\nQuestion: ")[0])
        for question, answer in turns(text):
            if answer == NO_PASSAGE:
                absent += 1
                continue
            found += 1
            assert flat(answer) in document
            quoted = re.search('"(.*)"', flat(question))
            if quoted and flat(answer).startswith(quoted.group(1)):
                continue
            if quoted:
                stem = quoted.group(1)
                assert re.search(re.escape(stem) + r"\W{0,3} " + re.escape(flat(answer)), document)
    assert found > 100 and absent > 5


def test_recall_rows_come_again(maker, tokenizer):
    for text in texts(maker, tokenizer, "dense", 10):
        words = text.split()
        trigrams = list(zip(words, words[1:], words[2:]))
        assert len(set(trigrams)) < 0.8 * len(trigrams)


def test_layouts_change_white_space_only(corpus, tokenizer):
    flowing = tokenizer.decode(corpus.render(corpus.words[:300], corpus.layout(0, 300)))
    style = Layout(width=50, paragraph=NEWLINE)
    wrapped = tokenizer.decode(corpus.render(corpus.words[:300], corpus.layout(0, 300, style)))
    assert wrapped.split() == flowing.split()
    assert max(map(len, wrapped.split("\n"))) < 70 and "\n\n" not in wrapped


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_depend_on_seed_and_step_alone(maker, workers):
    batches = Batches(maker, rows=2, steps=6, seed=11, dense_steps=3)
    late = list(loader(batches, 4, workers))
    assert len(late) == 2
    for (tokens, weights), step in zip(late, (4, 5)):
        assert (tokens == batches[step][0]).all() and (weights == batches[step][1]).all()
        assert tokens.shape == (2, LENGTH) and weights.shape == (2, LENGTH - 1)
    assert not (batches[4][0] == batches[5][0]).all()
