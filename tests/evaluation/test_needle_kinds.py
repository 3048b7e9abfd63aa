"""Prompts with several needles, and keys and values in place of a text."""

import random

import pytest

from dca_hub.errors import DcaHubError
from dca_hub.evaluation import needle
from dca_hub.evaluation.grid import Grid
from dca_hub.evaluation.passkey import ANSWER_ROOM, Haystack, Pairs


def prompt_text(loaded, maker, length, depth, seed=0):
    prompt = maker.prompt(length, depth, random.Random(seed))
    assert len(prompt.ids) <= length - ANSWER_ROOM
    return prompt, loaded.tokenizer.decode(prompt.ids, skip_special_tokens=True)


def test_several_needles_are_in_the_prompt_and_one_is_asked_for(loaded):
    haystack = Haystack(loaded.tokenizer, "A heron stood by the river. " * 200, needles=4)
    for depth in (0.0, 0.5, 1.0):
        prompt, text = prompt_text(loaded, haystack, 1500, depth)
        assert len(prompt.ids) == 1500 - ANSWER_ROOM
        assert text.count("Remember it.") == 4
        name = text.rsplit("What is the pass key of ", 1)[1].partition("?")[0]
        assert text.count(f"The pass key of {name} is {prompt.key}.") == 1
        assert abs(text.index(prompt.key) / len(text) - depth) < 0.3
    with pytest.raises(DcaHubError, match="1 to 32 needles"):
        Haystack(loaded.tokenizer, "A heron stood. ", needles=33)


def test_one_needle_is_asked_for_as_ever(loaded):
    haystack = Haystack(loaded.tokenizer, "A heron stood by the river. " * 200)
    prompt, text = prompt_text(loaded, haystack, 900, 0.5)
    assert text.count(prompt.key) == 2 and "What is the pass key?" in text and "pass key of" not in text


def test_keys_and_values_fill_the_length_and_the_key_stands_at_its_depth(loaded):
    for depth in (0.0, 0.5, 1.0):
        prompt, text = prompt_text(loaded, Pairs(loaded.tokenizer), 1500, depth)
        assert len(prompt.ids) > 1500 - ANSWER_ROOM - 30
        name = text.rsplit('Key: "', 1)[1].partition('"')[0]
        lines = [line for line in text.splitlines() if line.startswith(('"', '{"'))]
        at = next(i for i, line in enumerate(lines) if name in line)
        assert prompt.key in lines[at] and abs(at / (len(lines) - 1) - depth) < 0.06
    with pytest.raises(DcaHubError, match="too few for a key-value prompt"):
        Pairs(loaded.tokenizer).prompt(60, 0.5, random.Random(0))


def test_pairs_are_many_needles_already(loaded):
    with pytest.raises(DcaHubError, match="leave --needles out"):
        needle.prompts(loaded.tokenizer, Grid((256,), (0.5,), haystack="pairs", needles=2))
