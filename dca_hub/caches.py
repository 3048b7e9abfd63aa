"""What a model's calls name their cache."""

import inspect
from functools import lru_cache

from transformers import Cache, PreTrainedModel
from transformers.utils import ModelOutput


def with_cache(model: PreTrainedModel, cache: Cache | None) -> dict[str, Cache | None]:
    """The keyword argument that hands a cache to a call of `model`, or to its generate()."""
    return {_name(type(model)): cache}


@lru_cache(maxsize=64)
def _name(cls: type) -> str:
    # transformers 5.24 renamed the argument, and calls by the old name warn since.
    return "cache" if "cache" in inspect.signature(cls.forward).parameters else "past_key_values"


def cache_of(output: ModelOutput) -> Cache | None:
    """The cache that a call gave back, under either name."""
    return output.get("cache") if "cache" in output else output.get("past_key_values")
