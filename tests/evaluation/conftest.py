"""A tiny checkpoint that every test of the evaluation can load in no time, and a text to measure it on."""

import pytest

from support.tiny_checkpoints import write_checkpoint

TEXT = "".join(
    f"In the year {1700 + k} the {('heron', 'miller', 'ferry')[k % 3]} of number {k * 37 % 101} came down the river. "
    for k in range(60)
)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A Llama with a vocabulary of bytes, trained (as it says) at 128 tokens."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny", max_position_embeddings=128)


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT + "\f" + TEXT.upper() + "\f" + "too short a book", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def loaded(folder):
    from dca_hub.loading import load

    return load(str(folder))
