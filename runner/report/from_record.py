"""The data of a report from recorded runs."""

import math
import shlex
from collections.abc import Sequence

import numpy as np

from runner.config.direction import Direction
from runner.reading import RunRecord
from runner.reading import Runs as Records
from runner.report.analysis import analysed
from runner.report.page import SweepPart
from runner.report.runs import Column, Floats, Runs

LOSS = "loss"


def runs_of(records: Records) -> Runs:
    """Return recorded runs as arrays, with their losses over the steps."""
    items = list(records)
    steps, curves = np.zeros(0, np.int64), np.zeros((len(items), 0))
    if any(LOSS in record.metrics for record in items):
        steps, curves = records.curves(LOSS)

    def number(results: str, key: str) -> Floats:
        return np.array([getattr(record, results).get(key, math.nan) for record in items], np.float64)

    best = number("best", "loss")
    is_upward = np.array([record.direction is Direction.UP for record in items], bool)
    return Runs(
        ids=[record.id for record in items],
        names=[record.name or record.id for record in items],
        varied=[Column.of(key, [record.params.get(key) for record in items]) for key in records.varied],
        final=number("final", "loss"),
        best=np.where(np.isnan(best), _best_of(curves, is_upward), best),
        best_step=number("best", "step"),
        done=_done(number("metrics", "steps_done"), steps, curves),
        distance=number("final", "distance"),
        loss_error=number("final", "loss_error"),
        bound=number("final", "lr_bound"),
        diverged=np.array([record.outcome == "DIVERGED" for record in items], bool),
        is_upward=is_upward,
        steps=steps,
        curves=curves,
    )


def _best_of(curves: Floats, is_upward: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> Floats:
    """Return the best finite loss of each curve; NaN where there is none."""
    if curves.shape[1] == 0:
        return np.full(len(curves), np.nan)
    signed = np.where(is_upward[:, None], -curves, curves)
    lowest = np.where(np.isfinite(signed), signed, np.inf).min(axis=1)
    return np.asarray(np.where(np.isinf(lowest), np.nan, np.where(is_upward, -lowest, lowest)))


def _done(recorded: Floats, steps: "np.ndarray[tuple[int], np.dtype[np.int64]]", curves: Floats) -> Floats:
    """Return how many steps each run made: as recorded, or else the last step with a loss."""
    if curves.shape[1] == 0:
        return recorded
    last = curves.shape[1] - 1 - np.argmax(~np.isnan(curves[:, ::-1]), axis=1)
    has_any = ~np.isnan(curves).all(axis=1)
    return np.where(np.isnan(recorded) & has_any, steps[last], recorded)


def sweep_part(sweep: RunRecord | None, records: Records) -> SweepPart:
    """Return a sweep as a part of a page; without a parent run, the runs as they were chosen together."""
    analysis = analysed(runs_of(records))
    if sweep is None:
        return SweepPart(f"{len(records):,} runs", ", ".join(record.id for record in records[:3]), analysis)
    return SweepPart(sweep.name or f"sweep {sweep.id}", sweep.id, analysis, sweep_command(sweep))


def sweep_command(sweep: RunRecord) -> str:
    """Return the command that repeats a sweep; empty for a run of another program."""
    if not sweep.is_ours:
        return ""
    return command("-m", *(f"{key}={text}" for key, text in sweep.row.params.items()))


def command(*arguments: str) -> str:
    """Return a command of the runner as a shell takes it."""
    return " ".join(["python -m runner", *map(shlex.quote, arguments)])


def of_one_sweep(records: Sequence[RunRecord]) -> bool:
    """Return whether runs are jobs of one sweep."""
    return len({record.sweep for record in records}) == 1
