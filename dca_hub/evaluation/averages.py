"""Means over samples. Needs neither torch nor transformers."""

import math
from collections.abc import Sequence


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and its standard error: 0 for a single value."""
    middle = sum(values) / len(values)
    variance = sum((value - middle) ** 2 for value in values) / max(1, len(values) - 1)
    return middle, math.sqrt(variance / len(values))


def perplexity(nats: float) -> float:
    """Of a mean negative log-likelihood a token; infinite where a number cannot hold it."""
    return math.exp(nats) if nats < 700 else math.inf
