"""Figures of runs and sweeps by matplotlib, as SVG or PNG; without pyplot, which would keep state."""

import io
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from runner.report.analysis import Analysis, Band
from runner.report.runs import OUTCOMES, Column, Floats, Indices, Outcome, Runs, heights
from runner.report.scale import Scale, scale_of
from runner.report.sweep_data import curve_of, off_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which can be told apart without red and green.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#6b7280",
)  # fmt: skip
LINES = ((BLUE, "-"), (RED, "--"), (GREEN, "-."), (PURPLE, ":"), (ORANGE, "-"), (SKY, "--"), (GREY, "-."))
MARKS = {
    Outcome.FELL: ("o", BLUE),
    Outcome.UNCHANGED: ("s", GREY),
    Outcome.GREW: ("^", ORANGE),
    Outcome.DIVERGED: ("x", RED),
    Outcome.UNKNOWN: ("_", GREY),
}
SIZE = (6.4, 4.0)
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "runner",  # the same figure is the same file
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.usetex": False,
}
LEVELS = 16
LONGEST = 70
WIDE = 24
MOST_DOTS = 400
MOST_MARKS = 3000

ABOVE = "loss above the known minimum"

Draw = Callable[["Figure"], None]
Place = Callable[[Floats], tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The recorded steps of a run.

    Attributes:
        steps: their numbers.
        values: metrics by key, NaN where not recorded at a step.
        minimum: the known minimum of the loss, None if unknown.
        landscape: arrays of `landscape.npz`; empty where there is none.
        marks: points of the weight by name: best and last.
    """

    steps: Indices
    values: Mapping[str, Floats]
    minimum: float | None = None
    landscape: Mapping[str, Any] | None = None
    marks: Mapping[str, Floats] | None = None


def drawn(draw: Draw, kind: str = "svg", size: tuple[float, float] = SIZE) -> bytes:
    """Return a figure as a file of a kind that matplotlib writes: svg, png, pdf."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    file = io.BytesIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's own settings might need LaTeX
        matplotlib.rcParams.update(STYLE)
        figure = Figure(size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        metadata = {"Date": None} if kind == "svg" else {}
        figure.savefig(file, format=kind, dpi=160, metadata=metadata)
    return file.getvalue()


def run_figures(title: str, run: Trajectory) -> Iterator[tuple[str, Draw]]:
    """Yield the figures of a run by name: loss, path, lr, curvature; those for which there is data."""
    if any(key in run.values for key in ("loss", "gradient_norm")):
        yield "loss", lambda figure: _loss_figure(figure, title, run)
    if run.landscape is not None and "loss" in run.landscape and _weights(run) is not None:
        yield "path", lambda figure: _path_figure(figure, title, run)
    if "lr" in run.values and np.ptp(_finite(run.values["lr"])) > 0:
        yield "lr", lambda figure: _rate_figure(figure, title, run)
    if "lr_bound" in run.values or "curvature" in run.values:
        yield "curvature", lambda figure: _curvature_figure(figure, title, run)


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
            _line(axes, runs.steps, scale.placed(curve), colour, dash, name)
        minima = {runs.minimum for _, runs, _ in curves}
        _scaled(axes, scale, "loss" if minima <= {None} else ABOVE)
        axes.set_xlabel("step")
        _legend(axes)

    return draw


def _finite(values: Floats) -> Floats:
    found = values[np.isfinite(values)]
    return found if len(found) else np.zeros(1)


def _line(axes: "Axes", steps: Any, values: Floats, colour: str, dash: Any, name: str, width: float = 1.8) -> None:
    marker = "o" if np.isfinite(values).sum() == 1 else ""
    axes.plot(steps, values, color=colour, linestyle=dash, marker=marker, label=_plain(name), linewidth=width)


def _titled(axes: "Axes", title: str) -> None:
    axes.set_title(textwrap.shorten(title, LONGEST, placeholder=" ..."), parse_math=False)


def _legend(axes: "Axes") -> None:
    """Name what is drawn, below the axes, where nothing is hidden."""
    figure = axes.get_figure()
    handles, labels = axes.get_legend_handles_labels()
    if figure is None or not handles:
        return
    columns = 2 if max(map(len, labels)) > WIDE else 3
    for text in figure.legend(handles, labels, loc="outside lower center", ncols=columns).get_texts():
        text.set_parse_math(False)  # a dollar in a name is a dollar


def _plain(text: str) -> str:
    """Return a label that a legend shows: one that starts with an underscore would be left out."""
    return f" {text}" if text.startswith("_") else text


def _scaled(axes: "Axes", scale: Scale, label: str) -> None:
    """Set the vertical axis, with the floor of zeros and the strip of what is off the scale where they are used."""
    axes.set_ylabel(label)
    heights_drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines] or [np.zeros(0)])
    dots = [np.asarray(one.get_offsets(), float).reshape(-1, 2)[:, 1] for one in axes.collections]
    has_strip = bool((np.concatenate([heights_drawn, *dots]) >= scale.strip).any())
    if scale.is_log:
        axes.set_yscale("log")
    low = scale.low if scale.floor is None else scale.floor
    high = scale.strip if has_strip else scale.high
    margin = (high / low) ** 0.04 if scale.is_log else 0.05 * ((high - low) or abs(high) or 1.0)
    axes.set_ylim((low / margin, high * margin) if scale.is_log else (low - margin, high + margin))
    for at, text in ((scale.floor, "exactly 0"), (scale.strip if has_strip else None, "diverged or off the scale")):
        if at is not None:
            axes.axhline(at, color=GREY, linewidth=0.8, linestyle=":")
            side: dict[str, Any] = {"xytext": (3, 2), "textcoords": "offset points"}
            axes.annotate(text, (0, at), xycoords=("axes fraction", "data"), color=GREY, fontsize=8, **side)


def _is_log(values: Floats) -> bool:
    return scale_of(values).is_log


def _loss_figure(figure: "Figure", title: str, run: Trajectory) -> None:
    axes = figure.add_subplot()
    _titled(axes, title)
    names = [key for key in ("loss", "gradient_norm") if key in run.values]
    shown = {key: heights(run.values[key], run.minimum) if key == "loss" else run.values[key] for key in names}
    scale = scale_of(np.concatenate(list(shown.values())))
    labels = {
        "loss": "loss" if run.minimum is None else ABOVE,
        "gradient_norm": "gradient norm",
    }
    for key, (colour, dash) in zip(names, LINES, strict=False):
        values = shown[key]
        _line(axes, run.steps, np.where(np.isnan(values), np.nan, scale.placed(values)), colour, dash, labels[key])
    _scaled(axes, scale, labels[names[0]] if len(names) == 1 else "")
    if _is_log(run.steps[run.steps > 0].astype(float)) and _fell_early(shown.get("loss")):
        axes.set_xscale("log")
    axes.set_xlabel("step")
    _legend(axes)


def _fell_early(loss: Floats | None) -> bool:
    """Return whether nearly all of the change of a loss came in the first tenth of its steps."""
    if loss is None:
        return False
    finite = _finite(loss)
    early = finite[: max(len(finite) // 10, 1)]
    return bool(np.ptp(early) >= 0.999 * np.ptp(finite) > 0) and bool(np.isfinite(loss[~np.isnan(loss)]).all())


def _weights(run: Trajectory) -> Floats | None:
    """Return the path `(steps, dim)` of one or two dimensions; None where it is not recorded."""
    keys = ["weight"] if "weight" in run.values else ["weight/0", "weight/1"]
    if (
        run.landscape is None
        or np.ndim(run.landscape["loss"]) != len(keys)
        or not all(key in run.values for key in keys)
    ):
        return None
    return np.stack([run.values[key] for key in keys], axis=1)


def _path_figure(figure: "Figure", title: str, run: Trajectory) -> None:
    path = _weights(run)
    assert path is not None
    assert run.landscape is not None
    axes = figure.add_subplot()
    _titled(axes, title)
    draw = _path_on_curve if path.shape[1] == 1 else _path_on_contours
    draw(figure, axes, path, run.landscape, run)
    _legend(axes)


def _path_on_curve(
    _figure: "Figure", axes: "Axes", path: Floats, landscape: Mapping[str, Any], run: Trajectory
) -> None:
    x, loss = landscape["x"], np.asarray(landscape["loss"], np.float64)
    axes.plot(x, loss, color=GREY, linewidth=1.5, label="objective")
    inside = np.isfinite(path[:, 0]) & (path[:, 0] >= x[0]) & (path[:, 0] <= x[-1])
    at = path[inside, 0]
    axes.plot(at, np.interp(at, x, loss), color=BLUE, marker=_dots(path), markersize=4, linewidth=0.8, label="path")
    finite = _finite(loss)
    spread = (np.ptp(finite) or 1.0) * 0.06
    axes.set_ylim(finite.min() - spread, finite.max() + spread)
    if len(finite) and (finite > 0).all() and finite.max() / finite.min() > 1e4:
        axes.set_yscale("log")
        axes.set_ylim(finite.min() / 2, finite.max() * 2)
    axes.set_xlim(x[0], x[-1])
    _marked(axes, run, path, landscape, lambda point: (point[0], float(np.interp(point[0], x, loss))))
    axes.set_xlabel("weight")
    axes.set_ylabel("loss")


def _path_on_contours(
    figure: "Figure", axes: "Axes", path: Floats, landscape: Mapping[str, Any], run: Trajectory
) -> None:
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogFormatterSciNotation, LogLocator

    x, y, loss = landscape["x"], landscape["y"], np.asarray(landscape["loss"], np.float64)
    base = float(landscape["minimum"]) if "minimum" in landscape else None
    above = np.ma.masked_invalid(loss if base is None else loss - base)
    label, positive = "loss", above.compressed()
    levels: Any = np.unique(np.quantile(positive, np.linspace(0, 1, LEVELS))) if len(positive) else LEVELS
    norm = None
    positive = positive[positive > 0]
    if base is not None and len(positive) and positive.max() / positive.min() > 100:
        label = ABOVE
        low = max(positive.min(), positive.max() * 1e-8)
        levels, norm = np.geomspace(low, positive.max(), LEVELS), LogNorm(low, positive.max())
        above = np.ma.maximum(above, low)
    if np.size(levels) > 1:
        filled = axes.contourf(x, y, above, levels=levels, norm=norm, cmap="cividis", extend="min")
        filled.set_rasterized(True)  # as shapes they would take ten times the room
        if norm is None:
            figure.colorbar(filled, label=label)
        else:
            figure.colorbar(filled, label=label, ticks=LogLocator(), format=LogFormatterSciNotation())
    axes.plot(path[:, 0], path[:, 1], color="white", linewidth=2.4, alpha=0.6)
    axes.plot(path[:, 0], path[:, 1], color=RED, marker=_dots(path), markersize=3, linewidth=1.3, label="path")
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    axes.grid(visible=False)
    _marked(axes, run, path, landscape, lambda point: (point[0], point[1]))
    axes.set_xlabel("weight 0")
    axes.set_ylabel("weight 1")


def _dots(path: Floats) -> str:
    """Return the marker of each step: none where there are many."""
    return "." if len(path) <= MOST_DOTS else ""


def _marked(
    axes: "Axes",
    run: Trajectory,
    path: Floats,
    landscape: Mapping[str, Any],
    place: Callable[[Floats], tuple[float, float]],
) -> None:
    """Mark the start, the end, the best point and the known minima."""
    edge: dict[str, Any] = {"markeredgecolor": "black", "linestyle": "none", "zorder": 5, "clip_on": True}
    points = {"start": path[0], "end": path[-1], **(run.marks or {})}
    for name, (marker, colour, size) in {
        "start": ("s", "white", 7), "end": ("D", ORANGE, 7), "best": ("*", GREEN, 12),
    }.items():  # fmt: skip
        if name in points and np.isfinite(points[name]).all():
            axes.plot(
                *([one] for one in place(points[name])),
                marker=marker,
                color=colour,
                markersize=size,
                label=name,
                **edge,
            )
    for index, point in enumerate(np.asarray(landscape.get("minima", np.zeros((0, 1)))).reshape(-1, path.shape[1])):
        label = "known minimum" if index == 0 else "_"
        x, y = place(point)
        axes.plot([x], [y], marker="P", color=SKY, markersize=8, label=label, **edge)


def _rate_figure(figure: "Figure", title: str, run: Trajectory) -> None:
    axes = figure.add_subplot()
    _titled(axes, title)
    _line(axes, run.steps, run.values["lr"], BLUE, "-", "learning rate")
    if _is_log(run.values["lr"]):
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("learning rate")


def _curvature_figure(figure: "Figure", title: str, run: Trajectory) -> None:
    """Draw the bound on the learning rate beside the learning rate, or the curvature where there is no bound."""
    axes = figure.add_subplot()
    _titled(axes, title)
    has_bound = "lr_bound" in run.values
    name = "2 / largest curvature" if has_bound else "largest curvature"
    values = run.values["lr_bound" if has_bound else "curvature"]
    _line(axes, run.steps, np.where(np.isfinite(values), values, np.nan), RED, "--", name)
    if has_bound and "lr" in run.values:
        _line(axes, run.steps, run.values["lr"], BLUE, "-", "learning rate")
        _legend(axes)
    if _is_log(_finite(values)):
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("learning rate" if has_bound else "largest eigenvalue of the Hessian")


def _final_figure(figure: "Figure", title: str, analysis: Analysis, column: Column) -> None:
    runs = analysis.runs
    assert column.numbers is not None
    axes = figure.add_subplot()
    _titled(axes, title)
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
    _scaled(axes, scale, "last loss" if runs.minimum is None else "last loss above the known minimum")
    axes.set_xlabel(column.name, parse_math=False)
    _legend(axes)


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
    _titled(axes, title)
    picked = {name: curve_of(runs, row) for name, row in analysis.picks.items()}
    band = analysis.band
    shown = [] if band is None else [heights(one, runs.minimum) for one in (band.low, band.middle, band.high)]
    scale = scale_of(np.concatenate([*picked.values(), *shown]), off_scale(runs))
    if band is not None:
        low, middle, high = (scale.placed(one) for one in shown)
        axes.fill_between(runs.steps, low, high, color=GREY, alpha=0.25, label=_band_label(band))
        _line(axes, runs.steps, middle, GREY, (0, (8, 3)), "median at each step", 1.2)
    for name, colour, dash in (("best", GREEN, "-"), ("median", BLUE, "--"), ("worst", RED, ":")):
        if name in picked:
            _line(
                axes,
                runs.steps,
                scale.placed(picked[name]),
                colour,
                dash,
                f"{name}: {runs.names[analysis.picks[name]]}",
            )
    _scaled(axes, scale, "loss" if runs.minimum is None else ABOVE)
    axes.set_xlabel("step")
    _legend(axes)


def _band_label(band: Band) -> str:
    return f"10 to 90 % of {band.of}"
