"""The needle lab's results as a file, in the form of the command line's: its `plot` and `report` read it.

The header has one key more, `planned`: what the run was to measure, so that one that was stopped can go on elsewhere.
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dca_hub import json_lines
from dca_hub.errors import DcaHubError
from dca_hub.evaluation import needle
from dca_hub.evaluation.experiments import Subject, header
from dca_hub.evaluation.grid import Grid
from dca_hub.evaluation.needle import Trial
from dca_hub.evaluation.variants import build
from dca_hub.loading import Loaded
from dca_hub.space.turns import SIDES, Mode

_LARGEST_FILE = 20_000_000  # bytes
_LARGEST_GRID = 10_000  # prompts: a map of more would take the server and the browser minutes to draw


@dataclass(frozen=True)
class Saved:
    """What a file holds: results, and what its run was to measure, all of them included."""

    results: list[Trial]
    grid: Grid
    mode: Mode


def content(results: Sequence[Trial], grid: Grid, mode: Mode, loaded: Loaded) -> bytes:
    """JSON lines: what was measured, then one trial a line."""
    variants = [variant for variant in build(loaded, ["plain"]) if any(r.dca == variant.dca for r in results)]
    names = {variant.dca: variant.name for variant in variants}
    about = header(Subject.of(loaded, variants), "needle", needle.settings(loaded.tokenizer, grid))
    planned = {"lengths": grid.lengths, "depths": grid.depths, "trials": grid.trials, "mode": mode}
    about |= {"command": _command(grid, loaded, False in names), "planned": planned}
    samples = ({"variant": names[result.dca], **asdict(result)} for result in results)
    return "".join(map(json_lines.line, (about, *samples))).encode()


def read(path: str) -> Saved:
    """The results of one run. Raises DcaHubError for a file that holds something else."""
    file = Path(path)
    if file.stat().st_size > _LARGEST_FILE:
        raise DcaHubError("The file is too large to be the results of a needle test.")
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    try:
        results = needle.from_text(text, file.name)
    except RecursionError:  # thousands of brackets, one within another
        raise DcaHubError("The file holds no results: give one that a run of the needle lab wrote.") from None
    if not results:
        raise DcaHubError("The file holds no results: give one that a run of the needle lab wrote.")
    if len({(r.model, r.haystack, r.seed) for r in results}) != 1:
        raise DcaHubError("The file mixes models or haystacks: give the results of one run.")
    lengths, depths, trials, sides = _planned(json_lines.split(text)[0])
    sides = sides | {"dca" if r.dca else "plain" for r in results}
    grid = Grid(
        (*lengths, *(r.length for r in results)),
        (*depths, *(r.depth for r in results)),
        max(trials, *(1 + r.trial for r in results)),
        results[0].haystack,
        results[0].seed,
    )
    if grid.prompts > _LARGEST_GRID:
        raise DcaHubError(f"A map shows at most {_LARGEST_GRID:,} prompts: give a file of fewer lengths and depths.")
    return Saved(results, grid, "both" if len(sides) == 2 else sides.pop())


def _planned(line: str) -> tuple[tuple[int, ...], tuple[float, ...], int, set[str]]:
    """What the header says was to be measured; nothing where it does not say, as the command line's does not."""
    try:
        planned = json.loads(line)["planned"]
        grid = Grid(
            tuple(int(length) for length in planned["lengths"]),
            tuple(float(depth) for depth in planned["depths"]),
            int(planned["trials"]),
        )
        return grid.lengths, grid.depths, grid.trials, set(SIDES[planned["mode"]])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, DcaHubError):
        return (), (), 1, set()


def _command(grid: Grid, loaded: Loaded, plain: bool) -> str:
    """The command that measures the same; a text of one's own has to be put into a file first."""
    lengths = ",".join(map(str, grid.lengths))
    haystack = grid.haystack if grid.haystack in ("prose", "grass") else "FILE"
    words = ["dca-hub", "needle", loaded.name, "--lengths", lengths, "--depths", str(len(grid.depths))]
    words += ["--trials", str(grid.trials), "--haystack", haystack, *(["--plain"] if plain else [])]
    return shlex.join(words)
