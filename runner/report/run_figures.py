"""The figures of a run: loss and gradient norm, the path of the weight, the learning rate, the curvature."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from runner.report.figures import (
    ABOVE,
    BLUE,
    GREEN,
    GREY,
    LINES,
    ORANGE,
    RED,
    SKY,
    Draw,
    add_line,
    finite,
    is_log,
    set_legend,
    set_scale,
    set_title,
)
from runner.report.runs import Floats, Indices, heights
from runner.report.scale import scale_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEVELS = 16
MOST_DOTS = 400

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


def run_figures(title: str, run: Trajectory) -> Iterator[tuple[str, Draw]]:
    """Yield the figures of a run by name: loss, path, lr, curvature; those for which there is data."""
    if any(key in run.values for key in ("loss", "gradient_norm")):
        yield "loss", lambda figure: _loss_figure(figure, title, run)
    if run.landscape is not None and "loss" in run.landscape and _weights(run) is not None:
        yield "path", lambda figure: _path_figure(figure, title, run)
    if "lr" in run.values and np.ptp(finite(run.values["lr"])) > 0:
        yield "lr", lambda figure: _rate_figure(figure, title, run)
    if "lr_bound" in run.values or "curvature" in run.values:
        yield "curvature", lambda figure: _curvature_figure(figure, title, run)


def _loss_figure(figure: "Figure", title: str, run: Trajectory) -> None:
    axes = figure.add_subplot()
    set_title(axes, title)
    names = [key for key in ("loss", "gradient_norm") if key in run.values]
    shown = {key: heights(run.values[key], run.minimum) if key == "loss" else run.values[key] for key in names}
    scale = scale_of(np.concatenate(list(shown.values())))
    labels = {
        "loss": "loss" if run.minimum is None else ABOVE,
        "gradient_norm": "gradient norm",
    }
    for key, (colour, dash) in zip(names, LINES, strict=False):
        values = shown[key]
        add_line(axes, run.steps, np.where(np.isnan(values), np.nan, scale.placed(values)), colour, dash, labels[key])
    set_scale(axes, scale, labels[names[0]] if len(names) == 1 else "")
    if is_log(run.steps[run.steps > 0].astype(float)) and _fell_early(shown.get("loss")):
        axes.set_xscale("log")
    axes.set_xlabel("step")
    set_legend(axes)


def _fell_early(loss: Floats | None) -> bool:
    """Return whether nearly all of the change of a loss came in the first tenth of its steps."""
    if loss is None:
        return False
    numbers = finite(loss)
    early = numbers[: max(len(numbers) // 10, 1)]
    return bool(np.ptp(early) >= 0.999 * np.ptp(numbers) > 0) and bool(np.isfinite(loss[~np.isnan(loss)]).all())


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
    set_title(axes, title)
    draw = _path_on_curve if path.shape[1] == 1 else _path_on_contours
    draw(figure, axes, path, run.landscape, run)
    set_legend(axes)


def _path_on_curve(
    _figure: "Figure", axes: "Axes", path: Floats, landscape: Mapping[str, Any], run: Trajectory
) -> None:
    x, loss = landscape["x"], np.asarray(landscape["loss"], np.float64)
    axes.plot(x, loss, color=GREY, linewidth=1.5, label="objective")
    inside = np.isfinite(path[:, 0]) & (path[:, 0] >= x[0]) & (path[:, 0] <= x[-1])
    at = path[inside, 0]
    axes.plot(at, np.interp(at, x, loss), color=BLUE, marker=_dots(path), markersize=4, linewidth=0.8, label="path")
    numbers = finite(loss)
    spread = (np.ptp(numbers) or 1.0) * 0.06
    axes.set_ylim(numbers.min() - spread, numbers.max() + spread)
    if len(numbers) and (numbers > 0).all() and numbers.max() / numbers.min() > 1e4:
        axes.set_yscale("log")
        axes.set_ylim(numbers.min() / 2, numbers.max() * 2)
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
    set_title(axes, title)
    add_line(axes, run.steps, run.values["lr"], BLUE, "-", "learning rate")
    if is_log(run.values["lr"]):
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("learning rate")


def _curvature_figure(figure: "Figure", title: str, run: Trajectory) -> None:
    """Draw the bound on the learning rate beside the learning rate, or the curvature where there is no bound."""
    axes = figure.add_subplot()
    set_title(axes, title)
    has_bound = "lr_bound" in run.values
    name = "2 / largest curvature" if has_bound else "largest curvature"
    values = run.values["lr_bound" if has_bound else "curvature"]
    add_line(axes, run.steps, np.where(np.isfinite(values), values, np.nan), RED, "--", name)
    if has_bound and "lr" in run.values:
        add_line(axes, run.steps, run.values["lr"], BLUE, "-", "learning rate")
        set_legend(axes)
    if is_log(finite(values)):
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("learning rate" if has_bound else "largest eigenvalue of the Hessian")
