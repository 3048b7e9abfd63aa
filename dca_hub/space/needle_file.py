"""The needle lab's results as a file, in the form of the command line's: its `plot` and `report` read it."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict

from dca_hub.evaluation import runs
from dca_hub.evaluation.experiments import Subject, header
from dca_hub.evaluation.grid import Grid
from dca_hub.evaluation.needle import Result
from dca_hub.evaluation.variants import build
from dca_hub.load import Loaded


def content(results: Sequence[Result], grid: Grid, loaded: Loaded) -> bytes:
    """JSON lines: what was measured, then one trial a line."""
    variants = [variant for variant in build(loaded, ["plain"]) if any(r.dca == variant.dca for r in results)]
    names = {variant.dca: variant.name for variant in variants}
    settings = {"haystack": grid.haystack, "seed": grid.seed, "needles": grid.needles}
    about = header(Subject(loaded, tuple(variants), loaded.name, None), "needle", settings)
    samples = ({"variant": names[result.dca], **asdict(result)} for result in results)
    return "".join(map(runs.line, ({**about, "command": _command(grid, loaded, False in names)}, *samples))).encode()


def _command(grid: Grid, loaded: Loaded, plain: bool) -> str:
    """The command that measures the same; a text of one's own has to be put into a file first."""
    lengths = ",".join(map(str, grid.lengths))
    haystack = grid.haystack if grid.haystack in ("prose", "grass") else "FILE"
    words = ["dca-hub", "needle", loaded.name, "--lengths", lengths, "--depths", str(len(grid.depths))]
    words += ["--trials", str(grid.trials), "--haystack", haystack, *(["--plain"] if plain else [])]
    return shlex.join(words)
