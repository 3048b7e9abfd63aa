"""A small corpus and the repository's own tokenizer and checkpoint."""

import random

import pytest
from transformers import AutoTokenizer

from dca_hub.demo import MODEL_DIR
from examples.demo_model.corpus import Corpus
from examples.demo_model.tokenizer import PieceEncoder

TEXT = (
    "the old captain walked slowly along a quiet harbour while grey gulls cried above him and nobody answered when he "
    "called for his lost brother whose letters never came from distant islands beyond that cold northern sea"
)
WORDS = TEXT.split()


def made_prose(words: int, seed: int = 0) -> str:
    """Sentences of 6 to 14 words, some of them spoken, in paragraphs."""
    rng, parts = random.Random(seed), []
    while words > 0:
        size = rng.randint(6, 14)
        sentence = " ".join(rng.choice(WORDS) for _ in range(size)).capitalize() + "."
        parts.append(f'"{sentence}"' if rng.random() < 0.2 else sentence)
        parts.append("\n\n" if rng.random() < 0.2 else " ")
        words -= size
    return "".join(parts).strip()


@pytest.fixture(scope="session")
def tokenizer():
    return AutoTokenizer.from_pretrained(MODEL_DIR)


@pytest.fixture(scope="session")
def encode(tokenizer):
    return PieceEncoder(tokenizer)


@pytest.fixture(scope="session")
def corpus(encode):
    return Corpus([made_prose(4000), made_prose(3000, seed=1)], encode)


@pytest.fixture(scope="session")
def prose():
    """A function (number of words, seed) -> text."""
    return made_prose
