"""What the record holds of runs, as plain data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from mlflow.entities import Run

from runner.reading.values import Array, restored


@dataclass(frozen=True)
class Row:
    """A run as the store has it, without its histories.

    Attributes:
        id: in MLflow.
        name: of the run.
        status: MLflow's own.
        experiment: the id of its experiment.
        start_ms: when it began, in milliseconds since 1970; `end_ms` likewise.
        params: texts by key.
        metrics: the last values by key.
        tags: texts by key.
    """

    id: str
    name: str
    status: str
    experiment: str
    start_ms: int | None
    end_ms: int | None
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run) -> Self:
        """Return a run that MLflow's client has read."""
        info, data = run.info, run.data
        metrics = {key: restored(value) for key, value in data.metrics.items()}
        ids = info.run_id, info.run_name or "", info.status, info.experiment_id
        return cls(*ids, info.start_time, info.end_time, dict(data.params), metrics, dict(data.tags))


@dataclass(frozen=True, eq=False)
class History:
    """The recorded values of a metric of a run, by step; of equal steps, the first recorded first.

    Attributes:
        run_id: in MLflow.
        key: the metric.
        steps: `(values,)`.
        values: `(values,)`.
    """

    run_id: str
    key: str
    steps: Array
    values: Array


def by_run(histories: Iterable[History]) -> Mapping[str, dict[str, History]]:
    """Return histories by run and key."""
    found: dict[str, dict[str, History]] = {}
    for one in histories:
        found.setdefault(one.run_id, {})[one.key] = one
    return found
