"""ZeroGPU: a GPU that a Space has only while a decorated function runs, in a process forked for that call.

Nothing that such a call leaves behind in memory is there in the next one: jobs get all they need as arguments.
Import this before torch: `spaces` has to be there first.
"""

import os
from collections.abc import Callable
from typing import Any

_GPU_TOKENS_PER_SECOND = 4_000  # a cautious figure for reading, for models up to 8 billion parameters
_GPU_WRITTEN_PER_SECOND = 15
_START, _LONGEST = 10, 300  # seconds

try:
    import spaces
except ImportError:
    spaces = None


def is_zero_gpu() -> bool:
    return spaces is not None and os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true")


def seconds(read: int, written: int) -> int:
    """How long to ask the GPU for: the tokens to read and to write, with a start, within what ZeroGPU grants."""
    return min(_LONGEST, _START + read // _GPU_TOKENS_PER_SECOND + written // _GPU_WRITTEN_PER_SECOND)


def gpu(duration: Callable[..., int]) -> Callable[[Callable], Any]:
    """`spaces.GPU`, with a duration worked out from the call's own arguments; the identity elsewhere."""
    return spaces.GPU(duration=duration) if is_zero_gpu() else lambda function: function
