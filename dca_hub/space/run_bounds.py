"""What one run of an experiment may ask for: the same in the page, through the API and as a tool.

Numbers are bounded before anything is built from them.
"""

from collections.abc import Sequence

from dca_hub.errors import DcaHubError
from dca_hub.evaluation.grid import Grid, spread
from dca_hub.space.host import Host
from dca_hub.space.settings import Settings

MULTIPLES = (0.5, 1, 2, 4, 8, 16, 32)  # of the trained length
MOST_DEPTHS, MOST_TRIALS, MOST_LENGTHS = 50, 20, 20
SHORTEST = 128  # tokens: below it a prompt has no room for a haystack
_LONGEST_NUMBER = 12  # digits


def whole(value: object, name: str, least: int, most: int) -> int:
    """A whole number from `least` to `most`. Raises DcaHubError for everything else."""
    refusal = f"{name} must be a whole number from {least:,} to {most:,}."
    try:
        if isinstance(value, bool) or (isinstance(value, str) and len(value) > _LONGEST_NUMBER):
            raise ValueError
        number = float(value)  # type: ignore[arg-type]
        if not least <= number <= most or number != int(number):
            raise ValueError
    except (ValueError, TypeError, OverflowError):
        raise DcaHubError(refusal) from None
    return int(number)


def lengths_of(text: object) -> list[int]:
    """Lengths written with commas between. Raises DcaHubError for something else."""
    parts = str(text)[: MOST_LENGTHS * (_LONGEST_NUMBER + 2)].replace("_", "").split(",")
    parts = [part.strip() for part in parts if part.strip()]
    if not parts or any(not part.isascii() or not part.isdecimal() or len(part) > _LONGEST_NUMBER for part in parts):
        raise DcaHubError("lengths must be whole numbers of tokens with commas between, such as 512,1024.")
    return [int(part) for part in parts]


def longest(host: Host) -> int:
    """Tokens of the longest prompt of a needle test: what memory allows, at most 32 times the trained length."""
    return min(host.fits(), int(MULTIPLES[-1] * host.loaded.trained))


def grid_of(
    lengths: Sequence[int], depths: object, trials: object, haystack: str, sides: int, host: Host, settings: Settings
) -> Grid:
    """What a needle test asks. Raises DcaHubError for more than one run may ask."""
    if not lengths:
        raise DcaHubError("A needle test needs at least one length.")
    if len(lengths) > MOST_LENGTHS:
        raise DcaHubError(f"A needle test has at most {MOST_LENGTHS} lengths.")
    most = longest(host)
    chosen = sorted({whole(length, "A length in tokens", SHORTEST, max(SHORTEST, most)) for length in lengths})
    count, times = whole(depths, "depths", 1, MOST_DEPTHS), whole(trials, "trials", 1, MOST_TRIALS)
    prompts = len(chosen) * count * times * sides
    if prompts > settings.max_cells:
        raise DcaHubError(
            f"That is {prompts:,} prompts, more than the {settings.max_cells:,} of one run: choose fewer lengths, "
            "depths or trials."
        )
    refuse_tokens(sum(chosen) * count * times * sides, settings)
    return Grid(tuple(chosen), spread(count), times, haystack)


def refuse_tokens(tokens: int, settings: Settings) -> None:
    """Raises DcaHubError when a run would read more than it may."""
    if settings.run_tokens is not None and tokens > settings.run_tokens:
        raise DcaHubError(
            f"That would read {tokens:,} tokens, more than the {settings.run_tokens:,} of one run: choose fewer or "
            "shorter lengths."
        )
