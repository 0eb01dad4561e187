"""Recorded runs as a collection: selected, ordered, and read as tables."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

from runner.config.direction import Direction
from runner.messages.errors import UserError, nearest
from runner.messages.html import table_html
from runner.reading.reader import Reader
from runner.reading.record import RANK, RunRecord
from runner.reading.rows import History
from runner.reading.values import Array, varied

if TYPE_CHECKING:
    import pandas as pd

# How many runs a notebook shows, and how many characters of their ids.
SHOWN = 10
ID_SHOWN = 20


@dataclass(frozen=True, eq=False, repr=False)
class Runs(Sequence[RunRecord]):
    """Recorded runs, in the order in which they began.

    Attributes:
        items: the runs.
        sweeps: the parent runs of the sweeps that they are jobs of.
        reader: reads further of them from the store.
    """

    items: tuple[RunRecord, ...]
    sweeps: tuple[RunRecord, ...]
    reader: Reader = field(repr=False)

    def __repr__(self) -> str:
        """Return how many runs there are, what varies, and how they ended."""
        varied = f", varied: {', '.join(self.varied)}" if self.varied else ""
        outcomes = f", {self._outcomes}" if self.items else ""
        return f"{type(self).__name__}({counted(len(self))}{varied}{outcomes})"

    def _repr_html_(self) -> str:
        """Return a table of the best runs, or of the first where no loss is finite, for notebooks."""
        best = self.best(SHOWN)
        shown = best if best else self[:SHOWN]
        rows = [
            {"run": run.id[:ID_SHOWN]} | {key: run.params.get(key) for key in self.varied} | run.summary
            for run in shown
        ]
        order = "the best first" if best else "in the order in which they began"
        note = f"{len(shown):,} of {len(self):,}, {order}" if len(shown) < len(self) else order
        return table_html(f"{counted(len(self))}: {self._outcomes}", rows, note if rows else "")

    @property
    def _outcomes(self) -> str:
        return ", ".join(f"{count:,} {name}" for name, count in Counter(run.outcome for run in self).items()) or "none"

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> RunRecord: ...
    @overload
    def __getitem__(self, index: slice) -> "Runs": ...
    def __getitem__(self, index: int | slice) -> "RunRecord | Runs":
        """Return a run, or the runs of a slice."""
        return self._of(self.items[index]) if isinstance(index, slice) else self.items[index]

    def __iter__(self) -> Iterator[RunRecord]:
        """Yield the runs."""
        return iter(self.items)

    def _of(self, items: Iterable[RunRecord]) -> "Runs":
        return replace(self, items=tuple(items))

    @cached_property
    def varied(self) -> list[str]:
        """The params that differ between the runs, the choice of a group under its name: `optimizer`."""
        return varied([run.params for run in self])

    def best(self, count: int = 1) -> "Runs":
        """Return the best runs, the best first; those without a finite final loss are left out.

        The jobs of one sweep are ordered by the recorded `rank`. Others are ordered by the final loss in the run's
        direction, runs that minimize first; of equal losses, the one that needed fewer steps to reach it comes first,
        then the one nearer to a known minimum.
        """
        have_loss = [run for run in self if math.isfinite(_loss(run)) and run.outcome != "DIVERGED"]
        is_ranked = len({run.sweep for run in have_loss}) == 1 and all(RANK in run.metrics for run in have_loss)
        return self._of(sorted(have_loss, key=_by_rank if is_ranked else _by_loss)[:count])

    def where(self, conditions: Mapping[str, Any] | None = None, /, **more: Any) -> "Runs":
        """Return the runs whose values fulfil all conditions.

        A condition is a value that must be equal, a tuple of values of which one must be, or a function that is given
        the value and says whether it fits: `where(optimizer="gd", lr=lambda lr: lr < 0.1)`. A name is that of a param,
        a metric, or `outcome`, `status`, `name`, `id` or `sweep`; names with dots are given as a mapping.

        Raises:
            UserError: no run has a value of this name.
        """
        found = self
        for key, condition in {**(conditions or {}), **more}.items():
            values = [_value(run, key) for run in self]
            if self.items and all(value is _MISSING for value in values):
                raise UserError(f"{key}: no run has it{nearest(key, self._names())}")
            found = found._of(run for run in found if _fits(_value(run, key), condition))
        return found

    def _names(self) -> list[str]:
        return [*_COLUMNS, *dict.fromkeys(key for run in self for key in (*run.params, *run.metrics))]

    def frame(self) -> "pd.DataFrame":
        """Return a row for each run: id, name, the params that vary, outcome, results, times and the other params.

        Params are numbers, flags or text; results are named as the metrics in MLflow.
        """
        from runner.reading.frames import frame_of

        return frame_of(self.items, self.varied)

    def histories(self, keys: str | Iterable[str] | None = None) -> "pd.DataFrame":
        """Return a row for each recorded value of metrics: run_id, key, step, value.

        Without keys, all metrics that are recorded step by step are returned. The columns run_id and key are
        categorical.

        Raises:
            UserError: no run has one of the metrics.
        """
        from runner.reading.tables import long_table

        return long_table(self._histories(self._keys(keys)))

    def curves(self, key: str = "loss") -> tuple[Array, Array]:
        """Return the steps at which any run recorded a metric, and its values `(runs, steps)`; NaN where not recorded.

        Raises:
            UserError: no run has the metric.
        """
        import numpy as np

        from runner.reading.tables import curves_of

        found = {one.run_id: one for one in self._histories(self._keys(key))}
        empty = np.empty(0, dtype=np.int64), np.empty(0)
        return curves_of([found.get(run.id) or History(run.id, key, *empty) for run in self])

    def _histories(self, keys: Sequence[str]) -> list[History]:
        return self.reader.histories([run.row for run in self], keys)

    def _keys(self, keys: str | Iterable[str] | None) -> list[str]:
        known = dict.fromkeys(key for run in self for key in run.metrics)
        if keys is None:
            return [key for key in known if any(key in run.metrics and run.is_step_metric(key) for run in self)]
        wanted = list(dict.fromkeys([keys] if isinstance(keys, str) else keys))
        if self.items and (unknown := [key for key in wanted if key not in known]):
            raise UserError(*(f"{key}: no run has recorded this metric{nearest(key, known)}" for key in unknown))
        return wanted


def counted(count: int) -> str:
    """Return a number of runs in words."""
    return f"{count:,} run{'s' if count != 1 else ''}"


_MISSING = object()
_COLUMNS = ("outcome", "status", "name", "id", "sweep")


def _value(run: RunRecord, key: str) -> Any:
    if key == "status":
        return run.row.status
    if key in _COLUMNS:
        return getattr(run, key)
    for values in (run.params, run.metrics):
        for name in (key, key.removesuffix(".name")):
            if name in values:
                return values[name]
    return _MISSING


def _fits(value: Any, condition: Any) -> bool:
    if value is _MISSING:
        return False
    if callable(condition):
        return bool(condition(value))
    return any(_is_equal(value, one) for one in (condition if isinstance(condition, tuple) else (condition,)))


def _is_equal(value: Any, other: Any) -> bool:
    """Return whether two values are equal; true is not 1."""
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)


def _loss(run: RunRecord) -> float:
    return run.final.get("loss", math.nan)


def _by_rank(run: RunRecord) -> tuple[bool, float]:
    return run.direction is Direction.UP, run.metrics[RANK]


def _by_loss(run: RunRecord) -> tuple[bool, float, float, float]:
    loss, steps = _loss(run), run.metrics.get("steps_done", math.inf)
    if run.best.get("loss") == loss:
        steps = run.best.get("step", steps)
    return run.direction is Direction.UP, run.direction.sort_key(loss), steps, run.final.get("distance", 0.0)
