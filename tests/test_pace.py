"""How long reading takes: the model's operations, and what is learned from timed pieces."""

import pytest

from dca_hub import catalogue
from dca_hub.memory import Architecture
from dca_hub.modeling.dual_chunk_selection import SparseAttention
from dca_hub.pace import Pace
from dca_hub.progress import about

SPARSE = SparseAttention(least_keys=32_768)


@pytest.fixture
def architecture() -> Architecture:
    return catalogue.find("qwen2.5-7b-instruct-1m").architecture


def taken(architecture, begin: int, end: int, token: float, pair: float) -> float:
    """Seconds, at so many for an operation of each kind."""
    pairs = sum(position + 0.5 for position in (begin, end - 1)) / 2 * (end - begin)
    return token * architecture.operations_per_token * (end - begin) + pair * architecture.operations_per_pair * pairs


def read(pace: Pace, architecture, end: int, token: float, pair: float, sparse=None, share=1.0, piece=2048):
    """Reads a text from its beginning; sparse attention takes a share of the time of dense attention."""
    for begin in range(0, end, piece):
        is_sparse = sparse is not None and begin >= sparse.least_keys
        seconds = taken(architecture, begin, begin + piece, token, pair * (share if is_sparse else 1))
        pace.learn(begin, begin + piece, seconds, sparse)


def test_operations_are_those_of_the_weights_that_a_token_meets_and_of_the_pairs_of_attention():
    config = {
        "model_type": "llama", "vocab_size": 100, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 3,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
    }  # fmt: skip
    made = Architecture.from_config(config)
    weights = 3 * (2 * 8 * 8 + 2 * 8 * 4 + 3 * 8 * 16)  # queries and output, keys and values, MLP
    norms = (2 * 3 + 1) * 8
    assert made.operations_per_token == 2 * (weights + norms)
    assert made.operations_per_pair == 3 * 2 * (2 * 4 + 2 * 4)  # layers, heads, products of keys and of values
    experts = catalogue.find("qwen3-30b-a3b")
    assert 5e9 < experts.architecture.operations_per_token < 7e9 < experts.parameters  # of 3 billion active ones


def test_nothing_is_said_before_enough_was_timed(architecture):
    pace = Pace(architecture)
    assert pace.seconds(0, 1000) is None
    for begin in (0, 1000):
        pace.learn(begin, begin + 1000, 1.0)
        pace.learn(begin, begin + 10, 5.0)  # a question behind a document: too short to tell
    assert pace.seconds(0, 1000) is None
    pace.learn(2000, 3000, 1.0)
    assert pace.seconds(0, 0) == 0.0 and pace.seconds(0, 1000) > 0


@pytest.mark.parametrize("ratio", [0.5, 1.0, 3.0])
def test_what_a_text_takes_is_known_before_its_end(architecture, ratio):
    """At 512k tokens attention takes most of the time: the tokens a second of the beginning say little."""
    pace, token = Pace(architecture), 1e-14
    pace.learn(0, 256, 20.0)  # kernels are compiled
    read(pace, architecture, 65_536, token, ratio * token)
    left = taken(architecture, 65_536, 524_288, token, ratio * token)
    assert pace.seconds(65_536, 524_288) == pytest.approx(left, rel=0.15)
    straight = taken(architecture, 0, 65_536, token, ratio * token) / 65_536 * (524_288 - 65_536)
    assert straight < 0.6 * left


def test_until_pieces_tell_attention_is_as_quick_as_the_rest(architecture):
    pace, token = Pace(architecture), 1e-14
    read(pace, architecture, 4096, token, token, piece=256)
    assert pace.seconds(4096, 524_288) == pytest.approx(taken(architecture, 4096, 524_288, token, token), rel=0.02)


def test_sparse_attention_is_taken_for_dense_until_it_was_timed_and_for_itself_after(architecture):
    pace, token, share = Pace(architecture), 1e-14, 0.2
    read(pace, architecture, 32_768, token, token, SPARSE)
    dense = pace.seconds(0, 524_288)
    assert not pace.has_timed_sparse and pace.seconds(0, 524_288, SPARSE) == pytest.approx(dense, rel=1e-6)
    read(pace, architecture, 131_072, token, token, SPARSE, share)
    beyond = taken(architecture, 131_072, 524_288, token, share * token)
    assert pace.has_timed_sparse and pace.seconds(131_072, 524_288, SPARSE) == pytest.approx(beyond, rel=0.15)
    assert pace.seconds(0, 524_288) == pytest.approx(dense, rel=0.15)
    assert pace.seconds(0, 16_384, SPARSE) == pace.seconds(0, 16_384)  # so short a text is read densely


def test_no_time_is_negative_whatever_was_measured(architecture):
    pace = Pace(architecture)
    for begin, seconds in ((0, 9.0), (1000, 4.0), (200_000, 0.1), (400_000, 0.05), (300_000, 0.0)):
        pace.learn(begin, begin + 1000, seconds, SPARSE)
    assert all(pace.seconds(0, end, sparse) >= 0 for end in (1, 1000, 10**6) for sparse in (None, SPARSE))


def test_a_machine_that_becomes_slower_is_followed(architecture):
    pace, token = Pace(architecture), 1e-14
    for times in (1, 4):
        for _ in range(4):
            read(pace, architecture, 65_536, times * token, times * token)
    assert pace.seconds(0, 65_536) == pytest.approx(taken(architecture, 0, 65_536, 4 * token, 4 * token), rel=0.15)


@pytest.mark.parametrize(
    "seconds, words",
    [
        (0.2, "1 s"), (7.4, "7 s"), (42, "40 s"), (56, "1 min"), (185, "3 min"), (3570, "1 h"), (4800, "1 h 20 min"),
        (90_000, "25 h"),
    ],
)  # fmt: skip
def test_estimates_are_round(seconds, words):
    assert about(seconds) == words
