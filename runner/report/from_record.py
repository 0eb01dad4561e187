"""The data of a report from recorded runs."""

import io
import math
import shlex
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from runner.config.direction import Direction
from runner.messages.errors import UserError
from runner.reading import RunRecord, runs
from runner.reading import Runs as Records
from runner.report import search
from runner.report.analysis import analysed
from runner.report.figures import ABOVE
from runner.report.page import Line, Part, RunPart, SweepPart
from runner.report.run_figures import Trajectory
from runner.report.runs import Column, Floats, Indices, Runs, heights, last_recorded
from runner.report.search import Search
from runner.tracking.inheritance import OVERRIDES
from runner.tracking.processes import NUMBER, OWNER

LOSS = "loss"
LANDSCAPE = "landscape.npz"
MOST_OTHERS = 6
# More losses than these are not held in memory: 160 MB.
MOST_VALUES = 2e7
AT_ONCE = 100
MOST_STEPS = 320


def runs_of(records: Records) -> Runs:
    """Return recorded runs as arrays, with their losses over the steps."""
    items = list(records)
    steps, curves = _curves(records)

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


def _curves(records: Records) -> tuple[Indices, Floats]:
    """Return the losses over the steps; of very many, at some of the steps, read a part of the runs at a time."""
    if not any(LOSS in record.metrics for record in records):
        return np.zeros(0, np.int64), np.zeros((len(records), 0))
    if sum(map(_recorded_steps, records)) <= MOST_VALUES:
        return records.curves(LOSS)
    steps, curves = np.zeros(0, np.int64), np.zeros((0, 0))
    for first in range(0, len(records), AT_ONCE):
        part = records[first : first + AT_ONCE]
        if not any(LOSS in record.metrics for record in part):
            continue
        found, values = part.curves(LOSS)
        if not len(steps):
            steps = found[np.unique(np.linspace(0, len(found) - 1, MOST_STEPS).astype(int))]
            curves = np.full((len(records), len(steps)), np.nan)
        is_kept = np.isin(found, steps)
        curves[first : first + len(part), np.searchsorted(steps, found[is_kept])] = values[:, is_kept]
    return steps, curves


def _recorded_steps(record: RunRecord) -> float:
    """Return about how many steps of a run are recorded."""
    every = record.params.get("log_every")
    return record.metrics.get("steps_done", 0.0) / (every if isinstance(every, int) else 1)


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
    last = last_recorded(curves)
    has_any = ~np.isnan(curves).all(axis=1)
    return np.where(np.isnan(recorded) & has_any, steps[last], recorded)


def sweep_part(sweep: RunRecord | None, records: Records) -> SweepPart:
    """Return a sweep as a part of a page; without a parent run, the runs as they were chosen together."""
    analysis = analysed(runs_of(records))
    if sweep is None:
        return SweepPart(f"{len(records):,} runs", ", ".join(record.id for record in records[:3]), analysis)
    title = sweep.name or f"sweep {sweep.id}"
    return SweepPart(title, sweep.id, analysis, sweep_command(sweep), search_of(sweep))


def search_of(sweep: RunRecord) -> Search | None:
    """Return what the parent run of a search says of it; None for another sweep, or one that did not end itself."""
    tags = sweep.tags
    metrics = tags.get(search.METRIC, "").split(search.BETWEEN)
    ways = tags.get(search.DIRECTION, "").split(search.BETWEEN)
    if not sweep.is_ours or search.METRIC not in tags or len(ways) != len(metrics):
        return None
    history = sweep.trajectory()
    names = [search.VALUE] if len(metrics) == 1 else [f"{search.VALUE}/{metric}" for metric in metrics]
    has_all = all(name in history.columns for name in names)
    values = history[names].dropna() if has_all else history[[]]
    found = {
        key.removeprefix(search.IMPORTANCE): share
        for key, share in sweep.metrics.items()
        if key.startswith(search.IMPORTANCE)
    }
    own = (search.BEST_TRIAL, search.BEST_VALUE, "best.run")
    best = tags.get(search.BEST_TRIAL, "")
    return Search(
        metrics,
        [way == "maximize" for way in ways],
        tags.get(search.SAMPLER, ""),
        tags.get(search.STUDY, ""),
        {
            key.removeprefix(search.STATES): int(text)
            for key, text in tags.items()
            if key.startswith(search.STATES) and NUMBER.fullmatch(text)
        },
        values.index.to_numpy(np.int64) if has_all else np.zeros(0, np.int64),
        values.to_numpy(np.float64) if has_all else np.zeros((0, len(metrics))),
        {
            key.removeprefix("best."): _few(text)
            for key, text in tags.items()
            if key.startswith("best.") and key not in own
        },
        int(best) if NUMBER.fullmatch(best) else None,
        dict(sorted(found.items(), key=lambda item: -item[1])),
        tags.get(search.REMARK, "").removeprefix("none: "),
    )


def _few(text: str) -> str:
    """Return a number with few digits."""
    try:
        return f"{float(text):.6g}"
    except ValueError:
        return text


def sweep_command(sweep: RunRecord) -> str:
    """Return the command that repeats a sweep; empty for a run of another program."""
    if not sweep.is_ours:
        return ""
    params = sweep.row.params
    own = [key for key in params if not key.startswith(f"{OWNER}.")]  # the others are claims to resume it
    keys = sweep.tags[OVERRIDES].split() if OVERRIDES in sweep.tags else own
    return command("-m", *_of_search(sweep), *(f"{key}={params[key]}" for key in keys if key in params))


def _of_search(sweep: RunRecord) -> list[str]:
    try:
        return shlex.split(sweep.tags.get(search.OVERRIDES, ""))
    except ValueError:  # not as this program writes it
        return []


def command(*arguments: str) -> str:
    """Return a command of the runner as a shell takes it."""
    return " ".join(["python -m runner", *map(shlex.quote, arguments)])


def parts_of(texts: Sequence[str], uri: str | None) -> list[Part]:
    """Return the sweeps and runs with these ids, or prefixes of ids, as parts of a page.

    Raises:
        UserError: there is no such run, or no such store.
    """
    return [_part(text, runs(text, uri=uri)) for text in dict.fromkeys(texts)]


def _part(text: str, records: Records) -> Part:
    if len(records) == 1 and records[0].id.startswith(text):
        return run_part(records)
    return sweep_part(records.sweeps[0] if records.sweeps else None, records)


def run_part(records: Records) -> RunPart:
    """Return a single run as a part of a page, with its figures."""
    (record,) = records
    arrays = runs_of(records)
    run = trajectory_of(record, arrays)
    title = record.name or f"run {record.id}"
    return RunPart(title, record.id, arrays, _facts(record, arrays), list(_lines_of(run)), _run_command(record), run)


def trajectory_of(record: RunRecord, arrays: Runs) -> Trajectory:
    """Return the recorded steps of a run, with the landscape around its path where that was recorded."""
    frame = record.trajectory()
    values = {str(key): frame[key].to_numpy(np.float64) for key in frame.columns}
    landscape = _landscape(record.artifact(LANDSCAPE))
    best = [record.best[key] for key in ("weight", "weight/0", "weight/1") if key in record.best]
    marks = {"best": np.array(best)} if landscape and len(best) == np.ndim(landscape["loss"]) else {}
    return Trajectory(frame.index.to_numpy(np.int64), values, arrays.minimum, landscape, marks)


def _landscape(content: bytes | None) -> dict[str, Any] | None:
    """Return the arrays of a landscape; None where there is none, or it is not as this program writes it."""
    if content is None:
        return None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile):
        return None
    axes = [arrays[name] for name in ("y", "x") if name in arrays]
    fits = "loss" in arrays and arrays["loss"].shape == tuple(len(axis) for axis in axes)
    return arrays if fits and "minima" in arrays else None


def _lines_of(run: Trajectory) -> Iterator[tuple[str, list[Line]]]:
    """Yield the figures over steps of a run: title and lines."""
    steps = run.steps.astype(np.float64)

    def lines(*keys: str) -> list[Line]:
        return [Line(key, steps, run.values[key]) for key in keys if key in run.values]

    if LOSS in run.values:
        title = LOSS if run.minimum is None else ABOVE
        yield title, [Line(title, steps, heights(run.values[LOSS], run.minimum))]
    if "gradient_norm" in run.values:
        yield "gradient norm", lines("gradient_norm")
    if "lr" in run.values or "lr_bound" in run.values:
        yield "learning rate", lines("lr", "lr_bound")
    known = ("loss", "gradient_norm", "lr", "lr_bound")
    others = [key for key in run.values if not key.startswith(("weight", "gradient")) and key not in known]
    for key in others[:MOST_OTHERS]:
        yield key, lines(key)
    weights = [key for key in run.values if key.startswith("weight")]
    if weights:
        yield "weight", lines(*weights)


def _facts(record: RunRecord, arrays: Runs) -> dict[str, str]:
    facts = {"outcome": record.sentence or record.outcome.lower()}
    if np.isfinite(arrays.final[0]) or np.isinf(arrays.final[0]):
        facts["last loss"] = f"{arrays.final[0]:.9g}"
    if np.isfinite(arrays.best[0]):
        at = f" at step {arrays.best_step[0]:,.0f}" if np.isfinite(arrays.best_step[0]) else ""
        facts["best loss"] = f"{arrays.best[0]:.9g}{at}"
    if arrays.minimum is not None:
        facts["known minimum"] = f"{arrays.minimum:.9g}"
    if np.isfinite(arrays.distance[0]):
        facts["distance to it"] = f"{arrays.distance[0]:.6g}"
    if np.isfinite(arrays.done[0]):
        facts["steps"] = f"{arrays.done[0]:,.0f}"
    facts |= {
        key: f"{record.params[key]}" for key in ("objective", "optimizer", "schedule", "lr") if key in record.params
    }
    remark = record.tags.get("runner.remark")
    return facts if remark is None else facts | {"remark": remark}


def _run_command(record: RunRecord) -> str:
    if not record.is_ours:
        return ""
    try:
        return command(*record.recorded.overrides)
    except UserError:  # its config is not recorded
        return ""
