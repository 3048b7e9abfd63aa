"""The checkpoint that the repository carries."""

import json
import re

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from dca_hub import extend
from dca_hub.demo import MODEL_DIR, TRAINED_LENGTH
from dca_hub.evaluation import needle, passkey, perplexity
from examples.demo_model import table
from examples.demo_model.asking import FORMS, Asker, Trial, share, with_numbers
from examples.demo_model.corpus import Corpus
from examples.demo_model.wordings import MEASURED

TEXT = "The wind had fallen since noon, and the two friends went down to the river without a word. "
KINDS = ("the meadow", "an old inn", "his sister", "the bridge", "a letter", "the doctor", "many lamps", "the mill")
DONE = ("was seen by nobody", "stood where it had always stood", "came to mind again", "looked smaller in the rain")
UNTAUGHT = [measured for measured in MEASURED if not measured.taught]


def unseen_prose(sentences: int) -> str:
    return TEXT + " ".join(
        f"After a while {KINDS[k * 5 % 8]} {DONE[k * 3 % 4]}, though {KINDS[(k // 8) % 8]} {DONE[(k // 4 + 1) % 4]}."
        for k in range(sentences)
    )


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32).eval()


def test_the_checkpoint_is_small_plain_and_bf16():
    file = MODEL_DIR / "model.safetensors"
    config = json.loads((MODEL_DIR / "config.json").read_text())
    with safe_open(file, "pt") as weights:
        dtypes = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
    assert sum(path.stat().st_size for path in MODEL_DIR.iterdir()) < 8_000_000
    assert dtypes == {"BF16"}
    assert config["model_type"] == "llama" and config["head_dim"] == 64 and config["tie_word_embeddings"]
    assert config["max_position_embeddings"] == TRAINED_LENGTH
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    assert "dual_chunk_attention_config" not in config and "auto_map" not in config


def test_it_predicts_english(model, tokenizer):
    ids = tokenizer.encode(TEXT * 1)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    nats = -logits[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].mean().item()
    assert nats < 4.5  # a model that knows nothing: 8.3


def test_it_finds_keys_behind_its_window_with_dca_only(model, tokenizer):
    haystack = passkey.Haystack(tokenizer, unseen_prose(400))
    extended = extend(model, pretraining_length=TRAINED_LENGTH, chunk_size=511, local_size=255, temperature=0.1)
    depths = [0.1, 0.5, 0.9]
    with_dca = [needle.ask(extended, haystack, 1, (1536, depth, 0)) for depth in depths]
    plain = [needle.ask(model, haystack, 1, (1536, depth, 0)) for depth in depths]
    assert sum(trial.found for trial in with_dca) >= 2
    assert not any(trial.found for trial in plain)


def test_perplexity_holds_with_dca_and_not_without(model, tokenizer):
    ids = tokenizer.encode(unseen_prose(400), add_special_tokens=False)
    extended = extend(model, pretraining_length=TRAINED_LENGTH, chunk_size=511, local_size=255, temperature=0.1)
    options = {"bos": tokenizer.bos_token_id, "windows": 3}
    short, long = perplexity.measure(extended, ids, [512, 2048], **options)
    _, plain = perplexity.measure(model, ids, [512, 2048], **options)
    assert long.value < 1.1 * short.value
    assert plain.value > 2 * long.value


def test_it_quotes_how_a_passage_goes_on(model, tokenizer):
    document = (
        "Tom left the village early in the spring. His aunt kept the yellow parrot in a cage of wire near the kitchen "
        "door until he returned. Nobody spoke of the money again."
    )
    messages = [
        {"role": "system", "content": document},
        {"role": "user", "content": 'What comes after "His aunt kept the yellow"?'},
    ]
    inputs = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True)
    out = model.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
    answer = tokenizer.decode(out, skip_special_tokens=True)
    assert answer.strip().startswith("parrot in a cage of wire near the kitchen")
    assert out[-1] == tokenizer.eos_token_id


@pytest.fixture(scope="module")
def asker(model, tokenizer):
    extended = extend(model, pretraining_length=TRAINED_LENGTH, chunk_size=511, local_size=255, temperature=0.1)
    return Asker(extended, tokenizer, unseen_prose(400), tokens=8192)


def test_it_finds_keys_in_words_that_it_was_not_taught(asker):
    cells = [cell for cell in asker.cells([1024], (True,), ("question",)) if MEASURED[cell.wording] in UNTAUGHT[:2]]
    trials = list(asker.run(cells, 3))
    assert len(trials) == 6 and share(trials) > 0.8


def test_other_numbers_stand_in_the_texts_that_are_to_mislead(asker):
    text = with_numbers(unseen_prose(400))
    numbers = re.findall(r"\d+", text)
    assert 0.5 < len(text.split()) / 60 / len(numbers) < 2 and not re.search(r"\d", unseen_prose(400))


def test_the_table_has_a_line_a_wording_and_their_mean():
    trials = [
        Trial(wording, form, False, 512, 0.0, "12345", "12345" if form == "question" or wording else "no")
        for wording in range(len(MEASURED))
        for form in FORMS
    ]
    lines = table.markdown(trials).splitlines()
    assert len(lines) == 2 + len(MEASURED) + 1
    assert lines[2].endswith("| yes | 100 / 0 |") and lines[-1] == "| **all** |  | 100 / 90 |"


def test_the_corpus_of_a_document_is_its_text(corpus: Corpus, tokenizer):
    ids = corpus.render(corpus.words[:50], corpus.layout(0, 50))
    assert len(tokenizer.decode(ids).split()) == 50
