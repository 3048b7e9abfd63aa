"""The geometry against the definition's table, and the tiling of the causal triangle by parts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry, Relation, parts, squares
from support.explicit_reference import placements, temperature_factor

sizes = st.integers(2, 40).flatmap(lambda C: st.tuples(st.just(C), st.integers(0, C - 1), st.integers(C, 64)))


@given(sizes, st.integers(0, 300), st.integers(0, 300))
def test_placement_is_the_definitions_table(sizes, a, b):
    C, w, L = sizes
    i, j = max(a, b), min(a, b)
    geometry = DualChunkGeometry(C, w, L)
    at_query, at_key = placements(i, j, C, w)
    assert geometry.rotary_position(i, geometry.relation(i, j)) == at_query
    assert geometry.distance(i, j) == at_query - at_key
    assert 0 <= geometry.distance(i, j) <= C


def test_window_across_a_chunk_border_is_exact():
    geometry = DualChunkGeometry(chunk_size=24, local_size=8, pretraining_length=32)
    for border in (16, 32, 160):
        for i in range(border, border + 8):
            assert all(geometry.distance(i, j) == i - j for j in range(border - 16, i + 1))
    assert geometry.distance(31, 15) == 24 - 15 < 31 - 15  # past the window the query stands at C, not at C - 1


@given(st.integers(0, 1000), st.floats(0, 1))
def test_temperature_depends_on_the_querys_own_position(i, f):
    geometry = DualChunkGeometry(24, 8, 32, f)
    assert geometry.logit_factor(i) == pytest.approx(temperature_factor(i, 32, f))
    assert i >= 32 or geometry.logit_factor(i) == 1.0


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 90), st.integers(0, 90), st.integers(1, 20), st.integers(1, 60))
def test_parts_tile_the_causal_triangle_once(queries, past, s, rows_per_call):
    check_tiling(parts(queries, queries + past, s, rows_per_call), queries, past, s)


@given(st.integers(1, 90), st.integers(0, 90), st.integers(1, 20))
def test_squares_tile_the_causal_triangle_once(queries, past, s):
    check_tiling(squares(queries, queries + past, s), queries, past, s)


def check_tiling(found, queries, past, s):
    keys, first = queries + past, past
    geometry = DualChunkGeometry(s, 0, s)
    seen, started = {}, set()
    for part in found:
        assert part.q_length > 0 and part.k_length > 0, "an empty call kills a flash kernel"
        for block in range(part.count):
            q0, k0 = part.q_start + block * part.q_step, part.k_start + block * part.k_step
            assert q0 >= 0 and q0 + part.q_length <= queries and k0 >= 0 and k0 + part.k_length <= keys
            for q in range(part.q_length):
                assert part.causal or (q0 + q) in started, "a merge runs before its row has a value"
                started.add(q0 + q) if part.causal else None
                for k in range(q + 1 if part.causal else part.k_length):
                    pair = (first + q0 + q, k0 + k)
                    assert pair not in seen
                    seen[pair] = part.relation
    assert set(seen) == {(i, j) for i in range(first, keys) for j in range(i + 1)}
    assert all(relation is geometry.relation(*pair) for pair, relation in seen.items())


def test_parts_are_few_for_long_inputs():
    """The number of calls grows with the groups of chunks, not with the chunks."""
    assert len(list(parts(16384, 16384, 32))) < 100
    assert {p.relation for p in parts(16384, 16384, 32)} == set(Relation)


def test_squares_are_few_and_of_few_shapes():
    """At most about log2(chunks)^2 calls for a length, and as many shapes of full chunks for all lengths."""
    s = 256
    assert len(list(squares(1 << 20, 1 << 20, s))) <= 12**2 + 12
    full = {
        (part.count, part.q_length, part.k_length, part.causal)
        for length in range(s, 64 * s, s // 2)
        for part in squares(length, length, s)
        if part.q_length % s == 0
    }
    assert len(full) < 64


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, 0, 32), "chunk_size must be a whole number"),
        ((24.0, 8, 32), "chunk_size must be a whole number"),
        ((True, 0, 32), "chunk_size must be a whole number"),
        ((24, -1, 32), "local_size must be a whole number"),
        ((24, "8", 32), "local_size must be a whole number"),
        ((24, 24, 32), "must be smaller than chunk_size"),
        ((24, 8, 0), "pretraining_length must be a whole number"),
        ((33, 8, 32), "must not exceed original_max_position_embeddings"),
        ((24, 8, 32, -0.1), "temperature must be a number"),
        ((24, 8, 32, float("nan")), "temperature must be a number"),
        ((24, 8, 32, float("inf")), "temperature must be a number"),
        ((24, 8, 32, True), "temperature must be a number"),
        ((24, 8, 32, "0.1"), "temperature must be a number"),
    ],
)
def test_sizes_that_are_no_geometry_are_refused_in_words(arguments, words):
    with pytest.raises(ValueError, match=words):
        DualChunkGeometry(*arguments)


def test_largest_sizes_are_taken():
    assert DualChunkGeometry(32, 0, 32).chunk_length == 32
    assert DualChunkGeometry(1, 0, 1).chunk_length == 1
    assert DualChunkGeometry(262144, 8192, 262144).chunk_length == 253952
