"""The data of a sweep's figures, as the page's script draws them."""

from typing import Any

import numpy as np

from runner.report.analysis import Analysis, carried
from runner.report.runs import Column, Floats, Indices, Runs, heights
from runner.report.scale import Scale, scale_of
from runner.report.thinning import curve_rows, curve_steps, drawn_rows

MOST_FIGURES = 6
MOST_CELLS = 40_000
MOST_GROUPS = 8
# In quantised curves: a zero, a number that is not finite, and nothing recorded.
ZERO, ABOVE, NOTHING = 0, 65534, 65535
LEVELS = 65532
SMALLEST_SINGLE, LARGEST_SINGLE = 1e-37, 1e38
# A loss of more than this many times the largest at a start is off the scale.
OFF = 1e6


def sweep_data(analysis: Analysis) -> dict[str, Any]:
    """Return what the script needs to draw the figures of a sweep."""
    runs = analysis.runs
    rows = drawn_rows(runs)
    rows = np.union1d(rows, np.array(list(analysis.picks.values()), np.int64))
    final, best = heights(runs.final, runs.minimum), heights(runs.best, runs.minimum)
    scale = scale_of(np.concatenate([np.where(runs.diverged, np.inf, final), best[np.isfinite(best)]]), off_scale(runs))
    ranks = np.zeros(len(runs), np.uint32)
    ranks[runs.order] = np.arange(1, len(runs.order) + 1)
    return {
        "drawn": {
            "names": [runs.names[row] for row in rows],
            "outcome": runs.outcomes[rows].astype(np.uint8),
            "rank": ranks[rows],
            "final": _short(runs.final[rows]),
            "best": _short(runs.best[rows]),
            "reached": _short(runs.reached[rows]),
            "y": scale.placed(np.where(runs.diverged, np.nan, final)[rows]),
            "yBest": _short(scale.placed(best[rows])),
        },
        "columns": [_column(column, rows) for column in runs.settings],
        "scale": scale.data(_quantity(runs)),
        "border": _border(analysis),
        "suggested": [one.lr for one in analysis.suggestions],
        "picks": {name: int(np.searchsorted(rows, row)) for name, row in analysis.picks.items()},
        "curves": _curves(analysis, rows),
        "grid": _grid(runs, final),
        "groups": _groups(runs),
    }


def _short(values: Floats) -> "Floats | np.ndarray[Any, np.dtype[np.float32]]":
    """Return numbers in single precision if they fit, which is enough to draw them."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    fits = not len(sizes) or (sizes.min() > SMALLEST_SINGLE and sizes.max() < LARGEST_SINGLE)
    return values.astype(np.float32) if fits else values


def _quantity(runs: Runs) -> str:
    return "loss" if runs.minimum is None else "loss above the known minimum"


def off_scale(runs: Runs) -> float:
    """Return the loss above which a run is off the scale: what exploded would flatten all others."""
    starts = heights(runs.start, runs.minimum)
    starts = starts[np.isfinite(starts) & (starts > 0)]
    return OFF * float(starts.max()) if len(starts) else np.inf


def _column(column: Column, rows: Indices) -> dict[str, Any]:
    if column.numbers is None:
        return {"name": column.name, "codes": column.codes[rows].astype(np.uint32), "choices": column.choices}
    return {"name": column.name, "numbers": _short(column.numbers[rows]), "isLog": column.is_log}


def _border(analysis: Analysis) -> dict[str, Any] | None:
    border = analysis.border
    if border is None:
        return None
    return {"fell": border.fell, "failed": border.failed, "bound": border.bound}


def _curves(analysis: Analysis, drawn: Indices) -> dict[str, Any] | None:
    """Return the curves of some of the drawn runs, quantised, with the band."""
    runs = analysis.runs
    if not len(runs.steps) or np.isnan(runs.curves).all():
        return None
    steps = curve_steps(runs)
    rows = curve_rows(runs, drawn, len(steps))
    rows = np.union1d(rows, np.array(list(analysis.picks.values()), np.int64))
    values = heights(runs.curves[rows][:, steps], runs.minimum)
    band = analysis.band
    bands = [] if band is None else [heights(one[steps], runs.minimum) for one in (band.low, band.middle, band.high)]
    finite = [values[np.isfinite(values)], *(one[np.isfinite(one)] for one in bands)]
    scale = scale_of(np.concatenate(finite), off_scale(runs))
    return {
        "steps": runs.steps[steps].astype(np.float64),
        "owner": np.searchsorted(drawn, rows).astype(np.uint32),
        "values": _quantised(values, scale),
        "scale": scale.data(_quantity(runs)),
        "band": None if band is None else {"of": band.of, "lines": [scale.placed(one) for one in bands]},
    }


def _quantised(values: Floats, scale: Scale) -> "np.ndarray[Any, np.dtype[np.uint16]]":
    """Return values as 16-bit numbers between the ends of the scale, in logs where it is logarithmic."""
    with np.errstate(all="ignore"):
        where = np.log(values / scale.low) if scale.is_log else values - scale.low
        whole = np.log(scale.high / scale.low) if scale.is_log else (scale.high - scale.low) or 1.0
        levels = np.round(np.clip(where / whole, 0, 1) * LEVELS) + 1
    levels = np.where(scale.is_log & (values < scale.low), ZERO, levels)
    levels = np.where(np.isinf(values) | (values > scale.high), ABOVE, levels)
    return np.where(np.isnan(values), NOTHING, levels).astype(np.uint16).ravel()


def _grid(runs: Runs, final: Floats) -> dict[str, Any] | None:
    """Return the median loss of each cell of a grid of two settings; None where there is no such grid."""
    if len(runs.settings) != 2:
        return None
    across, up = sorted(runs.settings, key=lambda column: -len(column.choices))
    shape = len(up.choices), len(across.choices)
    if shape[0] * shape[1] > min(4 * len(runs), MOST_CELLS):
        return None
    keys = np.where(np.isfinite(runs.keys), final, np.inf)
    cells = np.full(shape[0] * shape[1], np.nan)
    at = up.codes * shape[1] + across.codes
    order = np.argsort(at, kind="stable")
    starts = np.flatnonzero(np.diff(at[order], prepend=-1))
    for first, last in zip(starts, [*starts[1:], len(order)], strict=True):
        cells[at[order[first]]] = np.median(keys[order[first:last]])
    return {
        "across": {"name": across.name, "choices": across.choices},
        "up": {"name": up.name, "choices": up.choices},
        "values": cells,
    }


def _groups(runs: Runs) -> dict[str, Any] | None:
    """Return which column is drawn as lines, one for each value of the other of two; None where that does not fit."""
    if len(runs.settings) != 2:
        return None
    few, many = sorted(runs.settings, key=lambda column: len(column.choices))
    if many.numbers is None or len(few.choices) > MOST_GROUPS or len(many.choices) < 3:
        return None
    final = heights(runs.final, runs.minimum)
    scale = scale_of(np.where(np.isfinite(runs.keys), final, np.inf), off_scale(runs))
    lines = []
    for code, choice in enumerate(few.choices):
        mine = few.codes == code
        xs = np.unique(many.numbers[mine])
        ys = np.array(
            [np.median(np.where(np.isfinite(runs.keys), final, np.inf)[mine & (many.numbers == x)]) for x in xs]
        )
        lines.append(
            {"name": f"{few.name}={choice}", "x": xs, "y": np.where(np.isfinite(ys), scale.placed(ys), np.nan)}
        )
    return {"column": many.name, "lines": lines}


def curve_of(runs: Runs, row: int) -> Floats:
    """Return the curve of one run as it is compared with others: its last loss kept once it has stopped."""
    return np.asarray(heights(carried(runs.curves[row : row + 1])[0], runs.minimum))
