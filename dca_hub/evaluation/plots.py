"""Pictures of measurements, as PNG or SVG bytes: readable without colour, in the same colours everywhere."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.patches

matplotlib.use("Agg")
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from dca_hub.errors import DcaHubError
from dca_hub.evaluation import summary
from dca_hub.evaluation.runs import Run

COLOURS = {"DCA": "#0072b2", "plain": "#b2476f"}
_MARKERS = {"DCA": "o", "plain": "s"}
# For what else is compared: told apart without colour by their markers and dashes.
_OTHERS = ("#009e73", "#e69f00", "#56b4e9", "#7f6a00", "#cc79a7", "#4d4d4d", "#8c564b", "#20708c")
_OTHER_MARKERS, _DASHES = "^vDP*X<>", ("--", "-.", ":", (0, (5, 1)))
_LABELLED = 3  # curves that carry their values as text; of more, the numbers would lie on each other
_SCALE = "cividis"


def shade(score: float) -> tuple[str, str]:
    """The colour of a cell for a score from 0 to 1, and the one of the two inks that is readable on it, as #rrggbb."""
    red, green, blue, _ = colormaps[_SCALE](0.08 + 0.88 * min(1.0, max(0.0, score)))
    light = 0.2126 * _linear(red) + 0.7152 * _linear(green) + 0.0722 * _linear(blue)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}", (
        "#000000" if light > 0.179 else "#ffffff"
    )


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def heat_map(
    grids: Mapping[str, Mapping[tuple[int, float], float]],
    lengths: Sequence[int],
    depths: Sequence[float],
    trained: int,
    title: str = "",
) -> bytes:
    """A PNG with a map for each name of `grids`: scores 0 to 1 by (length, depth), each printed in its cell; lengths
    in tokens across, depths down, and a line where the trained length ends."""
    lengths, depths = sorted(lengths), sorted(depths)
    width = max(5.0 / len(grids), 1.6 + 0.72 * len(lengths))
    figure = Figure(figsize=(len(grids) * width, 1.9 + 0.46 * len(depths)), layout="constrained")
    axes = figure.subplots(1, len(grids), squeeze=False)[0]
    for axis, (name, scores) in zip(axes, grids.items()):
        _draw_map(axis, scores, lengths, depths, trained)
        axis.set_title(textwrap.fill(name, int(11 * width)), fontsize=11, pad=22)
    if title:
        figure.suptitle(textwrap.fill(title, int(11 * width * len(grids))), fontsize=12)
    return _bytes(figure, "png", dpi=160)


def _draw_map(axis: Any, scores: Mapping, lengths: Sequence[int], depths: Sequence[float], trained: int) -> None:
    for column, length in enumerate(lengths):
        for row, depth in enumerate(depths):
            score = scores.get((length, depth))
            fill, ink = ("#f1f3f5", "#8a949c") if score is None else shade(score)
            axis.add_patch(matplotlib.patches.Rectangle((column, row), 1, 1, facecolor=fill, edgecolor="white"))
            text = "·" if score is None else f"{100 * score:.0f}"
            axis.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=ink, fontsize=9)
    axis.set(xlim=(0, len(lengths)), ylim=(len(depths), 0), xlabel="length, tokens", ylabel="depth of the key, %")
    axis.set_xticks([i + 0.5 for i in range(len(lengths))], [f"{n:,}" for n in lengths], rotation=45, ha="right")
    axis.set_yticks([i + 0.5 for i in range(len(depths))], [f"{100 * d:.0f}" for d in depths])
    border = sum(length <= trained for length in lengths)
    axis.axvline(border, color="#d55e00", linewidth=2.5, clip_on=False)
    axis.text(border, -0.12, f"trained: {trained:,}", color="#d55e00", fontsize=8, ha="center", va="bottom")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def perplexity_curve(
    curves: Mapping[str, Sequence[tuple[int, float]]],
    trained: int,
    *,
    kind: str = "png",
    ink: str = "#10202b",
    label: str = "perplexity",
    title: str = "",
) -> bytes:
    """A number by context length for each name of `curves`, with a line at the trained length; lengths and perplexities
    are on logarithmic axes, and the points of a few curves have their values. `kind` is png or svg; `ink` the colour of
    words and axes; `label` what the number is."""
    lengths = sorted({length for points in curves.values() for length, _ in points})
    figure = Figure(figsize=(9.0 if len(lengths) > 1 else 5.0, 4.0), layout="constrained")
    figure.patch.set_alpha(1.0 if kind == "png" else 0.0)
    axis = figure.subplots()
    axis.patch.set_alpha(0.0)
    if title:
        axis.set_title(title, fontsize=11, color=ink)
    drawn = {name: points for name, points in curves.items() if points}
    for number, (name, points) in enumerate(drawn.items()):
        _draw_curve(axis, name, points, number, ink, valued=len(drawn) <= _LABELLED)
    axis.set(xscale="log", xlabel="context, tokens", ylabel=label)
    if label == "perplexity":
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_xticks(lengths, [f"{n:,}" for n in lengths])
    axis.minorticks_off()
    axis.yaxis.set_major_formatter(lambda value, _: _short(value))
    axis.margins(x=0.07, y=0.22)
    if label.endswith("%"):
        axis.set_ylim(-12, 116)  # room for the values of points at 0 and at 100
        axis.set_yticks([0, 20, 40, 60, 80, 100])
    elif label != "perplexity":
        top = max((value for points in drawn.values() for _, value in points), default=0.0) or 1.0
        axis.set_ylim(-0.15 * top, 1.2 * top)  # below 0 stand the values of points that lie there
        axis.set_yticks([tick for tick in axis.get_yticks() if 0 <= tick <= 1.2 * top])
    axis.axvline(trained, color="#d55e00", linewidth=1.5, linestyle="--")
    axis.annotate(f"trained: {trained:,}", (trained, 1), (4, -4), xycoords=("data", "axes fraction"),
                  textcoords="offset points", va="top", fontsize=8.5, color="#d55e00")  # fmt: skip
    _style(axis, ink)
    return _bytes(figure, kind, dpi=160)


def _draw_curve(axis: Any, name: str, points: Sequence, number: int, ink: str, valued: bool) -> None:
    known = name in COLOURS
    colour = COLOURS.get(name, _OTHERS[number % len(_OTHERS)])
    marker = _MARKERS.get(name, _OTHER_MARKERS[number % len(_OTHER_MARKERS)])
    dash = "-" if known else _DASHES[number % len(_DASHES)]
    axis.plot(*zip(*points), marker=marker, color=colour, linestyle=dash, linewidth=2, markersize=6, label=name)
    for length, value in points if valued else ():
        place = (0, -16 if name == "DCA" else 9)
        axis.annotate(
            _short(value), (length, value), place, textcoords="offset points", ha="center", fontsize=8, color=ink
        )


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _style(axis: Any, ink: str) -> None:
    axis.tick_params(colors=ink, which="both", labelsize=8.5)
    axis.xaxis.label.set_size(9)
    axis.yaxis.label.set_size(9)
    axis.xaxis.label.set_color(ink)
    axis.yaxis.label.set_color(ink)
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)
    axis.grid(alpha=0.25)
    if axis.get_legend_handles_labels()[0]:
        many = len(axis.get_lines()) > _LABELLED + 1  # too many for a corner of the picture
        place = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if many else {}
        axis.legend(frameon=False, labelcolor=ink, fontsize=9, **place)


def _bytes(figure: Figure, kind: str, dpi: int) -> bytes:
    out = io.BytesIO()
    # No date in the file: the same measurement gives the same bytes.
    metadata = {"Date": None} if kind == "svg" else {}
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "dca", "font.family": "sans-serif"}):
        figure.savefig(out, format=kind, dpi=dpi, metadata=metadata)
    return out.getvalue()


def picture(runs: Sequence[Run]) -> bytes:
    """A PNG of one run or of several that belong together: needles as heat maps side by side, all else as curves.

    Raises DcaHubError for runs of several kinds, or of models with different trained lengths.
    """
    kinds = {(summary.is_map(run), summary.metric(run)) for run in runs}
    trained = {run.header["trained"] for run in runs}
    if len(kinds) != 1 or len(trained) != 1:
        raise DcaHubError("These runs cannot share a picture: give files of one kind, of models of one trained length.")
    models = list(dict.fromkeys(run.header["model"] for run in runs))
    titled = [
        (run, name, name if len(runs) == 1 else f"{run.header['model']}, {name}" if len(models) > 1 else name)
        for run in runs
        for name in run.variants
    ]
    data = ", ".join(dict.fromkeys(summary.title(run) for run in runs))
    if kinds.pop()[0]:
        grids = {_free(title, titled, run): summary.cells(run)[name] for run, name, title in titled}
        lengths = {length for grid in grids.values() for length, _ in grid}
        depths = {depth for grid in grids.values() for _, depth in grid}
        words = f"{runs[0].task}: {', '.join(models)}, {data}; % found"
        return heat_map(grids, list(lengths), list(depths), trained.pop(), words)
    scale, unit = (100, ", %") if summary.in_percent(runs[0]) else (1, "")
    curves = {
        _free(title, titled, run): [(length, scale * value) for length, value in summary.curves(run)[name]]
        for run, name, title in titled
    }
    label = f"{summary.metric(runs[0])}{unit}"
    return perplexity_curve(curves, trained.pop(), label=label, title=f"{', '.join(models)}: {data}")


def _free(title: str, titled: Sequence[tuple], run: Run) -> str:
    """The title, with what tells the run apart where two have the same."""
    same = [other for other, _, name in titled if name == title]
    if len(same) == 1:
        return title
    alike = [other for other in same if summary.data(other) == summary.data(run)]
    number = f", {alike.index(run) + 1}" if len(alike) > 1 else ""
    return f"{title} ({summary.data(run)}{number})"
