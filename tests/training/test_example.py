"""The example dialogues: of about the size that was asked for, with every key in the text and in an answer."""

import json

from dca_hub.training import dialogues, example
from support.tiny_checkpoints import byte_tokenizer


def test_the_example_dialogues_hold_what_they_ask_for(tmp_path):
    text, out = tmp_path / "book.txt", tmp_path / "d.jsonl"
    text.write_text("A heron stood by the river and looked at its feet. " * 300)
    byte_tokenizer().save_pretrained(tmp_path / "tokenizer")
    command = ["--text", str(text), "--out", str(out), "--count", "5", "--tokens", "2000", "--keys", "3"]
    assert example.main([*command, "--tokenizer", str(tmp_path / "tokenizer")]) == 0
    said = dialogues.read(out)
    assert len(said) == len({json.dumps(one) for one in said}) == 5
    for system, *turns in said:
        assert 1200 < len(system["content"]) < 2200 and len(turns) == 6
        for question, answer in zip(turns[::2], turns[1::2]):
            assert question["content"].rstrip("?").rpartition(" ")[2] in answer["content"]
            assert system["content"].count(answer["content"]) == 1
    assert example.main(["--text", str(tmp_path / "none"), "--out", str(out)]) == 2
