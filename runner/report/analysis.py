"""What the runs of a sweep say: the best, the border of stability, the suggested learning rate, bands over runs."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from runner.report.runs import LR, OUTCOMES, SEED, Flags, Floats, Indices, Outcome, Runs, last_recorded

# A learning rate that does nearly as well makes this share of the way from the start to the best loss.
ENOUGH = 0.99
BAND = (10, 90)


@dataclass(frozen=True)
class Border:
    """The border of stability along the learning rate, as measured.

    Attributes:
        fell: the largest learning rate whose runs all fell, below every one that grew or diverged; None if none did.
        failed: the smallest learning rate with a run that grew or diverged; None if none did.
        last: the largest learning rate with a run that fell.
        bound: 2 / lambda_max, where the curvature was recorded: the median of the runs that fell, at their last step.
    """

    fell: float | None
    failed: float | None
    last: float | None
    bound: float | None

    @property
    def is_mixed(self) -> bool:
        """Whether some run fell above a learning rate at which another did not."""
        return self.failed is not None and self.last is not None and self.last > self.failed

    @property
    def middle(self) -> float | None:
        """The geometric mean of the two learning rates between which the border lies."""
        return None if self.fell is None or self.failed is None else math.sqrt(self.fell * self.failed)


@dataclass(frozen=True)
class Suggestion:
    """A learning rate to use, and the rule by which it was chosen."""

    lr: float
    rule: str


@dataclass(frozen=True, eq=False)
class Band:
    """Quantiles of the loss over steps, over the runs `of`."""

    low: Floats
    middle: Floats
    high: Floats
    of: str


@dataclass(frozen=True, eq=False)
class Analysis:
    """What the runs of a sweep say.

    Attributes:
        counts: the number of runs by outcome.
        border: None unless the learning rate varied, and nothing else but the seed.
        suggestions: empty unless the learning rate varied.
        band: None where nothing finite was recorded.
        picks: the best, median and worst of the runs that have a rank.
        combinations: for each setting that ran with several seeds, its runs; the best first.
    """

    runs: Runs
    counts: dict[Outcome, int]
    border: Border | None
    suggestions: Sequence[Suggestion]
    band: Band | None
    picks: dict[str, int]
    combinations: Sequence[Indices]

    @property
    def best(self) -> int | None:
        """The row of the best run."""
        return self.picks.get("best")


def analysed(runs: Runs) -> Analysis:
    """Return what the runs of a sweep say."""
    counts = np.bincount(runs.outcomes, minlength=len(OUTCOMES))
    order = runs.order
    picks = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]} if len(order) else {}
    combinations = _combinations(runs)
    return Analysis(
        runs,
        {outcome: int(count) for outcome, count in zip(OUTCOMES, counts, strict=True)},
        border_of(runs),
        list(_suggestions(runs, combinations)),
        band_of(runs, combinations),
        {name: int(row) for name, row in picks.items()},
        combinations,
    )


def border_of(runs: Runs) -> Border | None:
    """Return the border of stability; None unless the learning rate varied, and nothing else but the seed."""
    column = runs.column(LR)
    if column is None or column.numbers is None or len(runs.settings) > 1:
        return None
    return _border(column.numbers, runs)


def _border(lr: Floats, runs: Runs) -> Border | None:
    fell, failed = runs.ended(Outcome.FELL), runs.ended(Outcome.GREW) | runs.ended(Outcome.DIVERGED)
    smallest = _extreme(lr, failed, largest=False)
    below = fell if smallest is None else fell & (lr < smallest)
    bounds = runs.bound[fell & np.isfinite(runs.bound)]
    return Border(
        _extreme(lr, below, largest=True),
        smallest,
        _extreme(lr, fell, largest=True),
        float(np.median(bounds)) if len(bounds) else None,
    )


def _extreme(values: Floats, chosen: Flags, largest: bool) -> float | None:
    found = values[chosen]
    return None if not len(found) else float(found.max() if largest else found.min())


def _combinations(runs: Runs) -> list[Indices]:
    """Return the rows of each setting with several seeds, the best first, by medians."""
    if runs.column(SEED) is None:
        return []
    by_setting: dict[tuple[int, ...], list[int]] = {}
    codes = [column.codes for column in runs.settings]
    for row in range(len(runs)):
        by_setting.setdefault(tuple(int(one[row]) for one in codes), []).append(row)
    found = [np.array(rows, np.int64) for rows in by_setting.values() if len(rows) > 1]
    return sorted(found, key=lambda rows: (float(np.median(runs.keys[rows])), float(np.median(runs.reached[rows]))))


def _suggestions(runs: Runs, combinations: Sequence[Indices]) -> list[Suggestion]:
    column = runs.column(LR)
    if column is None or column.numbers is None or not len(runs.order):
        return []
    lr = column.numbers
    if combinations:
        best = combinations[0]
        if not np.isfinite(np.median(runs.keys[best])):
            return []
        rule = f"the best median of the last loss over {len(best)} seeds"
        return [Suggestion(float(lr[best[0]]), rule)]
    first = runs.order[0]
    tied = int((runs.keys == runs.keys[first]).sum())
    ties = f"; of the {tied:,} runs that tie, the one that reached it in the fewest steps" if tied > 1 else ""
    found = [Suggestion(float(lr[first]), f"the best last loss{ties}")]
    if len(runs.settings) == 1:
        found += _conservative(runs, lr, first)
    return found


def _conservative(runs: Runs, lr: Floats, first: int) -> Iterator[Suggestion]:
    """Yield the best learning rate well inside the border, and the smallest that does nearly as well as the best."""
    failed = _extreme(lr, runs.ended(Outcome.GREW) | runs.ended(Outcome.DIVERGED), largest=False)
    inside = [] if failed is None else [row for row in runs.order if lr[row] <= failed / 2]
    if inside and inside[0] != first:
        rule = f"conservative: the best of those at most half of {failed:.4g}, the smallest that grew or diverged"
        yield Suggestion(float(lr[inside[0]]), rule)
    sign = -1 if runs.is_upward[first] else 1
    progress = sign * (runs.start - runs.final)
    whole = progress[first]
    enough = np.isfinite(runs.keys) & (progress >= ENOUGH * whole) & (runs.is_upward == runs.is_upward[first])
    smallest = _extreme(lr, enough, largest=False)
    if whole > 0 and smallest is not None and smallest < lr[first]:
        share = f"{ENOUGH:.0%}".replace("%", " %")
        yield Suggestion(smallest, f"the smallest that made {share} of the best run's progress from start to end")


def band_of(runs: Runs, combinations: Sequence[Indices] = ()) -> Band | None:
    """Return quantiles of the loss at each recorded step: over the seeds of the best setting, or over all runs.

    Runs that diverged are left out; a run that stopped early keeps its last loss.
    """
    ended = np.isfinite(runs.keys)
    rows = np.flatnonzero(ended)
    of = f"the {len(rows):,} runs that ended finite"
    if combinations and ended[combinations[0]].sum() > 1:
        rows = combinations[0][ended[combinations[0]]]
        of = f"{len(rows):,} seeds of the best setting"
    if len(rows) < 2 or runs.curves.shape[1] == 0:
        return None
    curves = carried(runs.curves[rows])
    with np.errstate(all="ignore"):
        low, middle, high = np.nanpercentile(np.where(np.isinf(curves), np.nan, curves), [BAND[0], 50, BAND[1]], axis=0)
    return Band(low, middle, high, of)


def carried(curves: Floats) -> Floats:
    """Return curves whose missing values at the end are their last one."""
    if curves.shape[1] == 0:
        return curves
    last = last_recorded(curves)
    is_over = np.arange(curves.shape[1])[None] > last[:, None]
    ends = curves[np.arange(len(curves)), last]
    return np.where(is_over, ends[:, None], curves)
