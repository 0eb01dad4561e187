"""The figures of a sweep, and the one that compares several sweeps or runs."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from runner.report.analysis import Analysis, Band
from runner.report.figures import (
    ABOVE,
    BLUE,
    GREEN,
    GREY,
    LINES,
    ORANGE,
    PURPLE,
    RED,
    Draw,
    add_line,
    set_legend,
    set_scale,
    set_title,
)
from runner.report.runs import OUTCOMES, Column, Outcome, Runs, heights
from runner.report.scale import scale_of
from runner.report.sweep_data import curve_of, off_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKS = {
    Outcome.FELL: ("o", BLUE),
    Outcome.UNCHANGED: ("s", GREY),
    Outcome.GREW: ("^", ORANGE),
    Outcome.DIVERGED: ("x", RED),
    Outcome.UNKNOWN: ("_", GREY),
}
MOST_MARKS = 3000


def sweep_figures(title: str, analysis: Analysis) -> Iterator[tuple[str, Draw]]:
    """Yield the figures of a sweep by name: the last loss against the first number that varied, and curves."""
    columns = [column for column in analysis.runs.settings if column.numbers is not None]
    if columns:
        yield "loss", lambda figure: _final_figure(figure, title, analysis, columns[0])
    if analysis.runs.curves.shape[1] > 0 and analysis.picks:
        yield "curves", lambda figure: _curves_figure(figure, title, analysis)


def compared_figure(lines: Sequence[tuple[str, Runs]]) -> Draw:
    """Return the figure that compares the best run of several sweeps or runs."""

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        curves = [(name, runs, curve_of(runs, int(runs.order[0]))) for name, runs in lines if len(runs.order)]
        scale = scale_of(np.concatenate([curve for _, _, curve in curves]) if curves else np.zeros(0))
        for index, (name, runs, curve) in enumerate(curves):
            colour, dash = LINES[index % len(LINES)]
            add_line(axes, runs.steps, scale.placed(curve), colour, dash, name)
        minima = {runs.minimum for _, runs, _ in curves}
        set_scale(axes, scale, "loss" if minima <= {None} else ABOVE)
        axes.set_xlabel("step")
        set_legend(axes)

    return draw


def _final_figure(figure: "Figure", title: str, analysis: Analysis, column: Column) -> None:
    runs = analysis.runs
    assert column.numbers is not None
    axes = figure.add_subplot()
    set_title(axes, title)
    final = np.where(runs.diverged, np.inf, heights(runs.final, runs.minimum))
    scale = scale_of(final, off_scale(runs))
    placed = scale.placed(final)
    for outcome in OUTCOMES:
        rows = np.flatnonzero(runs.ended(outcome))
        if len(rows):
            marker, colour = MARKS[outcome]
            few = rows[:: max(len(rows) // MOST_MARKS, 1)]
            is_line = marker in "x_"
            colours: dict[str, Any] = {"c": colour} if is_line else {"facecolors": "none", "edgecolors": colour}
            label = f"{outcome.value} ({len(rows):,})"
            axes.scatter(column.numbers[few], placed[few], s=22, marker=marker, linewidths=1.1, label=label, **colours)
    if analysis.best is not None:
        best = analysis.best
        label = f"best: {column.name} {column.texts[best]}"
        axes.scatter(
            [column.numbers[best]],
            [placed[best]],
            s=130,
            marker="*",
            c=GREEN,
            edgecolors="black",
            zorder=5,
            label=label,
        )
    if analysis.border is not None and column.name == "lr":
        _drawn_border(axes, analysis)
    if column.is_log:
        axes.set_xscale("log")
    set_scale(axes, scale, "last loss" if runs.minimum is None else "last loss above the known minimum")
    axes.set_xlabel(column.name, parse_math=False)
    set_legend(axes)


def _drawn_border(axes: "Axes", analysis: Analysis) -> None:
    border = analysis.border
    assert border is not None
    if border.fell is not None and border.failed is not None:
        label = f"border: {border.fell:.4g} to {border.failed:.4g}"
        axes.axvspan(border.fell, border.failed, color=RED, alpha=0.2, label=label)
    if border.bound is not None:
        axes.axvline(border.bound, color=PURPLE, linestyle="--", label=f"2/λ_max = {border.bound:.4g}")


def _curves_figure(figure: "Figure", title: str, analysis: Analysis) -> None:
    runs = analysis.runs
    axes = figure.add_subplot()
    set_title(axes, title)
    picked = {name: curve_of(runs, row) for name, row in analysis.picks.items()}
    band = analysis.band
    shown = [] if band is None else [heights(one, runs.minimum) for one in (band.low, band.middle, band.high)]
    scale = scale_of(np.concatenate([*picked.values(), *shown]), off_scale(runs))
    if band is not None:
        low, middle, high = (scale.placed(one) for one in shown)
        axes.fill_between(runs.steps, low, high, color=GREY, alpha=0.25, label=_band_label(band))
        add_line(axes, runs.steps, middle, GREY, (0, (8, 3)), "median at each step", 1.2)
    for name, colour, dash in (("best", GREEN, "-"), ("median", BLUE, "--"), ("worst", RED, ":")):
        if name in picked:
            add_line(
                axes,
                runs.steps,
                scale.placed(picked[name]),
                colour,
                dash,
                f"{name}: {runs.names[analysis.picks[name]]}",
            )
    set_scale(axes, scale, "loss" if runs.minimum is None else ABOVE)
    axes.set_xlabel("step")
    set_legend(axes)


def _band_label(band: Band) -> str:
    return f"10 to 90 % of {band.of}"
