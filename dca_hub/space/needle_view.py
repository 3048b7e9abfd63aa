"""The needle lab's results as HTML: heat maps with a number in every cell, and one cell in detail."""

from collections.abc import Sequence

from dca_hub.evaluation import needle
from dca_hub.evaluation.grid import Grid
from dca_hub.evaluation.needle import Trial
from dca_hub.loading import Loaded
from dca_hub.space import needle_file, needle_link
from dca_hub.space.markup import download, seconds, steps, tag
from dca_hub.space.turns import NAMES, SIDES, Mode

_LONGEST_KEY = 60
_BEGIN = steps(
    ("Choose", "lengths within the trained window and beyond, how many depths, and which text."),
    ("Run", "A number is hidden at each depth of each length, and the model is asked for it: the map fills in."),
    ("Click a cell", "to see where the number stood and what the model answered."),
)


def maps(results: Sequence[Trial], grid: Grid | None, trained: int, sides: Sequence[str], running: str = "") -> str:
    """A map for each side; `running` names the cell that is being measured, as `key_of` does."""
    if grid is None:
        return _BEGIN
    return tag("div", *(_map(results, grid, trained, side, running) for side in sides), class_="dh-maps")


def key_of(side: str, length: int, depth: float) -> str:
    return f"{side}/{length}/{depth}"


def _map(results: Sequence[Trial], grid: Grid, trained: int, side: str, running: str) -> str:
    own = [r for r in results if r.dca == (side == "dca")]
    scores = needle.scores(own)
    last = max((n for n in grid.lengths if n <= trained), default=None)
    head = [tag("th", "Depth", scope="col")]
    head += [tag("th", f"{n:,}", scope="col", class_="dh-last" if n == last else None) for n in grid.lengths]
    rows = [tag("tr", *head)]
    for depth in grid.depths:
        cells = [tag("th", f"{100 * depth:.0f} %", scope="row")]
        for length in grid.lengths:
            key = key_of(side, length, depth)
            content = _cell(key, scores.get((length, depth)), key == running)
            cells.append(tag("td", content, class_="dh-last" if length == last else None))
        rows.append(tag("tr", *cells))
    mean = f"{100 * sum(scores.values()) / len(scores):.0f} % found" if scores else "nothing measured yet"
    caption = tag("caption", tag("strong", NAMES[side]), tag("span", mean))
    line = (
        f"The line marks where the trained window ends, at {trained:,} tokens."
        if last
        else "All of these lengths are beyond the trained window."
    )
    table = tag("table", caption, tag("tbody", *rows), class_="dh-heat", data_side=side)
    return tag("figure", tag("div", table, class_="dh-scroll"), tag("figcaption", line), class_="dh-map")


def _cell(key: str, score: float | None, running: bool) -> str:
    _, length, depth = key.split("/")
    where = f"{int(length):,} tokens, depth {100 * float(depth):.0f} %"
    if score is None:
        state = tag("span", class_="dh-spinner") if running else "·"
        return tag("span", state, class_="dh-cell dh-unmeasured", title=where)
    from dca_hub.evaluation import plots  # matplotlib takes a second to load, which the start need not wait for

    fill, ink = plots.shade(score)
    return tag(
        "button",
        f"{100 * score:.0f}",
        type="button",
        class_="dh-cell",
        style=f"background:{fill};color:{ink}",
        data_act="cell",
        data_value=key,
        title=f"{where}: {100 * score:.0f} % found",
        aria_label=f"{where}: {100 * score:.0f} % found; show the trials",
    )


def detail(results: Sequence[Trial], key: str) -> str:
    """The trials of one cell: what stood around the needle, the key, the answer."""
    try:
        side, length, depth = key[:_LONGEST_KEY].split("/")
        found = [r for r in needle.cell(results, int(length), float(depth)) if r.dca == (side == "dca")]
    except ValueError:
        return ""
    if not found:
        return ""
    head = tag("h2", f"{NAMES.get(side, '')}: {int(length):,} tokens, depth {100 * float(depth):.0f} %")
    return tag("section", head, *map(_trial, found), class_="dh-detail", aria_label="Trials of this cell")


def _trial(result: Trial) -> str:
    before, key, after = result.around.partition(result.key)
    verdict = "Found" if result.found else "Missed"
    facts = tag(
        "div",
        tag("span", verdict, class_=f"dh-verdict dh-{'found' if result.found else 'missed'}"),
        tag("span", "expected ", tag("code", result.key)),
        tag("span", "answered ", tag("code", result.answer[:200] or "nothing")),
        tag("span", seconds(result.seconds), class_="dh-label"),
        class_="dh-trial-facts",
    )
    return tag("div", facts, tag("p", before, tag("mark", key), (after)), class_="dh-trial")


def links(results: Sequence[Trial], grid: Grid | None, mode: Mode, loaded: Loaded) -> str:
    """The loaded model's results as JSON lines and as a picture."""
    results = [result for result in results if result.model == loaded.name]
    if not results or grid is None:
        return ""
    from dca_hub.evaluation import plots

    lines = needle_file.content(results, grid, mode, loaded)
    shown = {
        NAMES[side]: needle.scores(r for r in results if r.dca == (side == "dca"))
        for side in SIDES["both"]
        if any(r.dca == (side == "dca") for r in results)
    }
    picture = plots.heat_map(shown, grid.lengths, grid.depths, loaded.trained, f"Needle in a haystack: {loaded.name}")
    return tag(
        "div",
        download("Save results", "needle.jsonl", lines, "application/jsonl", id="needle-jsonl"),
        download("Save picture", "needle.png", picture, "image/png", id="needle-png"),
        tag(
            "button",
            "Copy link to these settings",
            type="button",
            class_="dh-button",
            id="needle-link",
            data_link=needle_link.query(grid, mode, loaded.name),
        ),
        class_="dh-links",
    )
