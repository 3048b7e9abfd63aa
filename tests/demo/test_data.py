"""What the training rows say is true of the documents in them."""

import copy
import re

import numpy as np
import pytest
import torch

from examples.demo_model import model as shape
from examples.demo_model import sharpness, wordings
from examples.demo_model.corpus import NEWLINE, Layout
from examples.demo_model.data import DENSE_MIX, MAIN_MIX, Batches, loader
from examples.demo_model.keys import KeyMaker
from examples.demo_model.questions import pick
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
    for text in texts(maker, tokenizer, "key", 120):
        document = text.split("\n\nQuestion: ")[0]
        for _, answer in turns(text):
            numbers = re.findall(r"\d+", answer)
            if numbers:
                asked += 1
                assert re.search(rf"(?<!\d){numbers[0]}(?!\d)", document)
                assert re.fullmatch(rf"(The .*|It) is {numbers[0]}\.", answer)
            else:
                missing += 1
                noun = re.fullmatch(r"There is no (.*) in the document\.", answer).group(1)
                assert f"{noun} is" not in flat(document)
    assert asked > 40 and missing > 0


def test_texts_go_on_to_keys_that_stand_before(maker, encode):
    rng, seen = np.random.default_rng(6), 0
    digits = {token: digit for digit, token in encode.digits.items()}
    for _ in range(60):
        tokens, weights = maker.make("key", rng)
        answered = np.flatnonzero(weights == ANSWER_WEIGHT)
        if encode.eos in tokens or not len(answered):
            continue
        seen += 1
        for run in np.split(answered, np.flatnonzero(np.diff(answered) > 1) + 1):
            number = "".join(digits.get(token, "") for token in tokens[run])
            before = "".join(digits.get(token, " ") for token in tokens[: run[0]])
            # The window may end within the last one.
            assert number in before.split() or run[-1] == LENGTH - 1
    assert seen > 10


def test_words_of_the_measured_wordings_are_in_no_key(corpus, encode):
    taught = [text for fact in wordings.FACTS for text in (fact[0], *fact[1], fact[2])]
    taught += [*wordings.KEY_NOUNS, *wordings.KEY_SENTENCES, *wordings.KEY_QUESTIONS, *wordings.KEY_CONTINUATIONS]
    assert wordings.HELD_OUT.isdisjoint(re.findall(r"\w+", " ".join(taught).lower()))
    for measured in wordings.MEASURED:
        words = set(re.findall(r"\w+", f"{measured.sentence} {measured.question}".lower()))
        assert wordings.HELD_OUT.isdisjoint(words) == measured.taught
    rng = np.random.default_rng(8)
    phrases = ("a safe near home", "one two three quiet meadow")
    maker = KeyMaker(lambda rng: pick(rng, ("door", "meadow")), lambda rng: pick(rng, phrases))
    for _ in range(50):
        hidden = maker.hidden(rng, absent=0.2)
        said = [text for key in hidden.asked for text in (key.sentence, key.question, key.continuation)]
        said += [*hidden.sentences, *(hidden.absent or ())]
        assert wordings.HELD_OUT.isdisjoint(re.findall(r"\w+", " ".join(said).lower()))


def test_the_prose_is_left_alone_by_factors_more_often_than_the_keys():
    rng = np.random.default_rng(2)
    drawn = {kind: [sharpness.draw(kind, rng, 0.5, 1.5) for _ in range(400)] for kind in ("prose", "key")}
    assert min(drawn["prose"]) >= 0.8 > 0.6 > min(drawn["key"]) >= 0.5
    assert 1.3 < max(drawn["prose"]) <= 1.5 and 1.3 < max(drawn["key"]) <= 1.5
    assert drawn["prose"].count(1.0) > drawn["key"].count(1.0) > 50


def test_a_factor_multiplies_the_attention_logits_of_its_row(tokenizer):
    torch.manual_seed(0)
    model = shape.build(tokenizer, 64, 128, 2, 32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)
    plain = copy.deepcopy(model)
    factors = sharpness.sharpen(model, 2)
    factors[:, 0, 0] = torch.tensor([1.0, 0.5])
    ids = torch.randint(3, 4000, (2, 20))
    found = model(ids).logits
    torch.testing.assert_close(found[:1], plain(ids[:1]).logits, rtol=1e-4, atol=1e-4)
    for layer in plain.model.layers:
        layer.self_attn.scaling *= 0.5
    torch.testing.assert_close(found[1:], plain(ids[1:]).logits, rtol=1e-4, atol=1e-4)
    assert model.state_dict().keys() == plain.state_dict().keys()


def test_digits_of_keys_are_not_to_be_guessed(maker, tokenizer, encode):
    digits, rng, seen = set(encode.digits.values()), np.random.default_rng(4), 0
    for _ in range(30):
        tokens, weights = maker.make("key", rng)
        if encode.eos not in tokens:
            continue  # what the text goes on with is not to be guessed either
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
    for batch, step in zip(late, (4, 5)):
        assert all((one == other).all() for one, other in zip(batch, batches[step], strict=True))
        tokens, weights, factors = batch
        assert factors.shape == (2,)
        assert tokens.shape == (2, LENGTH) and weights.shape == (2, LENGTH - 1)
    assert not (batches[4][0] == batches[5][0]).all()
