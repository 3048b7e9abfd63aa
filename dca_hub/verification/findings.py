"""What a verification can find: a closed set."""

from dataclasses import dataclass
from enum import Enum


class Check(Enum):
    """What is looked at, in this order."""

    FILES = "files"
    CONFIG = "config"
    LOADS = "loads with remote code"
    REFUSES = "refuses without remote code"
    EQUALS_BASE = "equals the base up to the chunk length"
    DEFINITION = "equals the definition beyond it"
    DECODES = "prefill and decode equal one forward"
    PADS = "padding changes nothing"
    LONG_CONTEXT = "stays sane past the trained length"


class Outcome(Enum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; `detail` is what was measured, or why it failed or was skipped."""

    check: Check
    outcome: Outcome
    detail: str
