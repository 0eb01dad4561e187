"""Runs as a table."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from runner.reading.record import RunRecord

# The results of a run of this program that come first; the others follow by name.
FIRST_RESULTS = ("rank", "final/loss", "best/loss", "best/step", "final/distance", "final/gradient_norm", "steps_done")


def frame_of(runs: Sequence[RunRecord], varied: Sequence[str]) -> pd.DataFrame:
    """Return a row for each run: id and name, the params that vary, outcome and results, times, the other params."""
    columns: dict[str, Any] = {
        "run_id": [run.id for run in runs],
        "name": [run.name for run in runs],
    }
    others = [key for key in dict.fromkeys(key for run in runs for key in run.params) if key not in varied]

    def add(name: str, values: list[Any]) -> None:
        columns[name if name not in columns else f"params.{name}"] = values

    for key in varied:
        add(key, [run.params.get(key) for run in runs])
    columns["outcome"] = [run.outcome for run in runs]
    for key in _results(runs):
        columns[key if key not in columns else f"metrics.{key}"] = np.array(
            [run.metrics.get(key, np.nan) for run in runs], dtype=np.float64
        )
    columns["started"] = pd.to_datetime([run.row.start_ms for run in runs], unit="ms", utc=True)
    columns["ended"] = pd.to_datetime([run.row.end_ms for run in runs], unit="ms", utc=True)
    columns["sweep"] = [run.sweep for run in runs]
    for key in others:
        if key not in ("name", "parent_run"):
            add(key, [run.params.get(key) for run in runs])
    return pd.DataFrame(columns)


def _results(runs: Sequence[RunRecord]) -> list[str]:
    """Return the metrics that have a column: results, and for others' runs the last value of every metric."""
    found = {key for run in runs for key in run.metrics if not (run.is_ours and run.is_step_metric(key))}
    return [key for key in FIRST_RESULTS if key in found] + sorted(found - {*FIRST_RESULTS})
