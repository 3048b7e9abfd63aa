"""Where versions of transformers 5 differ in what their calls take."""

import inspect
from functools import lru_cache
from typing import Any

from transformers import Cache, PreTrainedModel
from transformers.distributed.configuration_utils import DistributedConfig
from transformers.utils.generic import ModelOutput


def with_cache(model: PreTrainedModel, cache: Cache | None) -> dict[str, Any]:
    """The keyword argument that hands a cache to a call of `model`, or to its generate()."""
    return {_cache_name(type(model)): cache}


@lru_cache(maxsize=64)
def _cache_name(cls: type) -> str:
    # transformers 5.24 renamed the argument, and calls by the old name warn since.
    return "cache" if "cache" in inspect.signature(cls.forward).parameters else "past_key_values"


def cache_of(output: ModelOutput) -> Cache | None:
    """The cache that a call gave back, under either name."""
    return output.get("cache") if "cache" in output else output.get("past_key_values")


def tensor_parallel() -> dict[str, Any]:
    """What `from_pretrained` takes to share the layers among processes, by the plan of the model's own class."""
    takes_plan = "tp_plan" in getattr(DistributedConfig, "__dataclass_fields__", {})
    return {"distributed_config": DistributedConfig(tp_plan="auto")} if takes_plan else {"tp_plan": "auto"}
