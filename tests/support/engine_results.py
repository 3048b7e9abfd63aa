"""What vLLM's engine wrote, compared with what the models of transformers give."""

from support.tiny_models import tokens


def prompt(length: int, seed: int = 1) -> list[int]:
    return tokens(length, seed=seed)[0].tolist()


def apart(found: list[float], expected: list[float]) -> float:
    assert len(found) == len(expected)
    return max(abs(a - b) for a, b in zip(found, expected))


def check_written(served, ids: list[int], result: dict) -> None:
    """The tokens are the greedy ones, with the log-probabilities of one whole forward over all of them."""
    written = result["tokens"]
    assert written == served.greedy(ids, len(written))
    assert apart(result["logprobs"], served.logprobs(ids + written)[-len(written) :]) < 1e-4
