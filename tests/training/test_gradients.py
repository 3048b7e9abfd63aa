"""Exact gradients against those of the authors' recipe, in the numbers that the documentation shows."""

import pytest

from benchmarks import gradients


@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_gradients_are_exact_where_a_merge_by_constants_is_not(spread):
    exact, constant = gradients.compare(spread).values()
    assert max(exact.out, exact.query, exact.key, exact.value) < gradients.FAITHFUL
    assert constant.out < gradients.FAITHFUL and constant.value < gradients.FAITHFUL, "the forward and dV are right"
    assert constant.query > 0.02 and constant.key > 0.02, "dQ and dK are not"
