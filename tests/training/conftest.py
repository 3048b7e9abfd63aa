"""Dialogues and a tiny checkpoint with a chat format."""

import json

import pytest

from support.tiny_checkpoints import write_checkpoint

TURNS = [("What is the {n}th number?", "It is {n}."), ("And after it?", "That is {m}, of course.")]


def dialogue(n: int, turns: int = 2) -> list[dict[str, str]]:
    said = []
    for question, answer in (TURNS * turns)[:turns]:
        said.append({"role": "user", "content": question.format(n=n)})
        said.append({"role": "assistant", "content": answer.format(n=n, m=n + 1)})
    return said


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny", max_position_embeddings=64)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Twelve dialogues of different lengths, in the format of ShareGPT."""
    names = {"user": "human", "assistant": "gpt"}
    entries = [
        {"id": n, "conversations": [{"from": names[m["role"]], "value": m["content"]} for m in dialogue(n, 1 + n % 3)]}
        for n in range(12)
    ]
    path = tmp_path_factory.mktemp("data") / "dialogues.json"
    path.write_text(json.dumps(entries))
    return path
