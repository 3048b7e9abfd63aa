"""The settings of a needle test as a link that others can open: checked and bounded as if they came by hand."""

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from dca_hub.errors import DcaHubError
from dca_hub.evaluation.grid import Grid
from dca_hub.space import run_bounds
from dca_hub.space.host import Host
from dca_hub.space.turns import SIDES, Mode

HAYSTACKS = ("prose", "grass", "own", "pdf")
_LONGEST = 2000  # characters
_MOST_FIELDS = 20


@dataclass(frozen=True)
class Linked:
    """What a link asks for. model: the name of the one that it was made with."""

    lengths: tuple[int, ...]
    depths: int
    trials: int
    haystack: str
    mode: Mode
    model: str


def query(grid: Grid, mode: Mode, model: str) -> str:
    """The query of a link, from its question mark on. Of a text of one's own it holds only that there was one."""
    haystack = grid.haystack.partition("-")[0]
    return "?" + urlencode(
        {
            "tab": "needle", "lengths": ",".join(map(str, grid.lengths)), "depths": len(grid.depths),
            "trials": grid.trials, "haystack": haystack, "mode": mode, "model": model,
        }, safe=",",
    )  # fmt: skip


def read(written: str, host: Host) -> Linked | None:
    """What the query of the page's address asks for; None where it is no such link.

    Raises DcaHubError for one that asks for what a test may not have.
    """
    try:
        given = dict(parse_qsl((written or "")[:_LONGEST].lstrip("?"), max_num_fields=_MOST_FIELDS))
    except ValueError:
        return None
    if given.get("tab") != "needle" or "lengths" not in given:
        return None
    haystack, mode = given.get("haystack", "prose"), given.get("mode", "both")
    if haystack not in HAYSTACKS or mode not in SIDES:
        raise DcaHubError("The link names an unknown haystack or attention: choose them here.")
    most = max(run_bounds.SHORTEST, run_bounds.longest(host))
    lengths = {
        run_bounds.whole(length, "A length in tokens", run_bounds.SHORTEST, most)
        for length in run_bounds.lengths_of(given["lengths"])[: run_bounds.MOST_LENGTHS]
    }
    return Linked(
        tuple(sorted(lengths)),
        run_bounds.whole(given.get("depths", 5), "depths", 1, run_bounds.MOST_DEPTHS),
        run_bounds.whole(given.get("trials", 1), "trials", 1, run_bounds.MOST_TRIALS),
        haystack, mode, given.get("model", "")[:100],
    )  # fmt: skip
