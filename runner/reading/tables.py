"""Histories as tables and arrays."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from runner.reading.rows import History
from runner.reading.values import Array


def long_table(histories: Sequence[History]) -> pd.DataFrame:
    """Return a row for each recorded value: run_id, key, step, value."""
    lengths = [len(one.steps) for one in histories]
    return pd.DataFrame(
        {
            "run_id": _repeated([one.run_id for one in histories], lengths),
            "key": _repeated([one.key for one in histories], lengths),
            "step": _joined((one.steps for one in histories), np.int64),
            "value": _joined((one.values for one in histories), np.float64),
        }
    )


def _repeated(names: Sequence[str], lengths: Sequence[int]) -> pd.Categorical:
    """Return a column with each name as many times as its length says, which stores each name once."""
    distinct = list(dict.fromkeys(names))
    code = {name: index for index, name in enumerate(distinct)}
    return pd.Categorical.from_codes(
        np.repeat(np.array([code[name] for name in names], dtype=np.int32), lengths),
        categories=pd.Index(distinct, dtype=str),
    )


def _joined(parts: Iterable[Array], kind: Any) -> Array:
    return np.concatenate([np.empty(0, dtype=kind), *parts])


def wide_table(histories: Sequence[History], keys: Sequence[str]) -> pd.DataFrame:
    """Return the histories of one run with a row for each step and a column for each key."""
    steps, values = curves_of(histories)
    present = {one.key: row for one, row in zip(histories, values, strict=True)}
    columns = {key: present[key] for key in keys if key in present}
    return pd.DataFrame(columns, index=pd.Index(steps, name="step"))


def curves_of(histories: Sequence[History]) -> tuple[Array, Array]:
    """Return all steps, and the values `(histories, steps)`; NaN where a history has none, the last of several."""
    if not histories:
        return np.empty(0, dtype=np.int64), np.empty((0, 0))
    first = histories[0].steps
    if all(np.array_equal(one.steps, first) for one in histories) and len(np.unique(first)) == len(first):
        return first, np.stack([one.values for one in histories])
    steps = np.unique(np.concatenate([one.steps for one in histories]))
    values = np.full((len(histories), len(steps)), np.nan)
    for row, one in zip(values, histories, strict=True):
        row[np.searchsorted(steps, one.steps)] = one.values
    return steps, values
