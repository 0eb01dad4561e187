"""Which of many runs a page draws: all extremes, and an even sample of the rest."""

import numpy as np

from runner.report.runs import Indices, Outcome, Runs

MOST_POINTS, FEWEST_POINTS = 2000, 600
MOST_CURVE_VALUES = 100_000
MOST_STEPS = 160
EXTREMES = 50


def drawn_rows(runs: Runs) -> Indices:
    """Return the rows to draw: the best and worst, the ends of every number, and an even sample; fewer in many figures.

    The sample takes every n-th run by rank, and every n-th of those that diverged by their first number.
    """
    count = len(runs)
    most = min(max(2 * MOST_POINTS // max(len(runs.settings), 1), FEWEST_POINTS), MOST_POINTS)
    if count <= most:
        return np.arange(count)
    middle = len(runs.order) // 2
    chosen = [runs.order[:EXTREMES], runs.order[middle : middle + 1], runs.order[-EXTREMES:]]
    for column in runs.settings:
        if column.numbers is not None:
            by_value = np.argsort(column.numbers, kind="stable")
            chosen += [by_value[:EXTREMES], by_value[-EXTREMES:]]
    kept = np.unique(np.concatenate(chosen))[:most]
    unranked = np.setdiff1d(np.arange(count), runs.order)
    numbers = next((column.numbers for column in runs.settings if column.numbers is not None), None)
    if numbers is not None:
        unranked = unranked[np.argsort(numbers[unranked], kind="stable")]
    rest = np.concatenate([runs.order, unranked])
    rest = rest[~np.isin(rest, kept)]
    sample = rest[np.linspace(0, len(rest) - 1, max(most - len(kept), 0)).astype(int)]
    return np.unique(np.concatenate([kept, sample]))


def curve_steps(runs: Runs) -> Indices:
    """Return which of the recorded steps a page draws: at most some, denser at the start."""
    count = len(runs.steps)
    if count <= MOST_STEPS:
        return np.arange(count)
    even = np.linspace(0, count - 1, MOST_STEPS // 2)
    early = np.geomspace(1, count, MOST_STEPS // 2) - 1
    return np.unique(np.concatenate([even, early]).astype(np.int64))


def curve_rows(runs: Runs, among: Indices, steps: int) -> Indices:
    """Return which of the drawn runs get a curve: the best, the worst, some that diverged, and an even sample."""
    most = max(MOST_CURVE_VALUES // max(steps, 1), 12)
    if len(among) <= most:
        return among
    ranked = runs.order[np.isin(runs.order, among)]
    diverged = among[runs.ended(Outcome.DIVERGED)[among]]
    few = most // 10
    ends = [ranked[: 2 * few], ranked[-few:], _even(diverged, few)]
    kept = np.unique(np.concatenate([*ends, list(_picks(ranked))])).astype(np.int64)
    return np.unique(np.concatenate([kept, _even(np.setdiff1d(among, kept), most - len(kept))]))


def _picks(ranked: Indices) -> tuple[int, ...]:
    return (int(ranked[len(ranked) // 2]),) if len(ranked) else ()


def _even(rows: Indices, most: int) -> Indices:
    if len(rows) <= most:
        return rows
    return np.asarray(rows[np.linspace(0, len(rows) - 1, max(most, 0)).astype(int)])
