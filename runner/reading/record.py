"""A recorded run."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException

from runner.config.direction import Direction
from runner.config.schema import Config
from runner.messages.errors import UserError
from runner.messages.html import pairs_html
from runner.reading.reader import Reader
from runner.reading.rows import Row
from runner.reading.values import is_incidental, short_name, typed
from runner.recorder.errors import StoreError
from runner.recorder.opening import describe_error
from runner.recorder.reading import DIVERGED, ID_TAG, PARENT_TAG, RESULTS
from runner.recorder.reading_back import RecordedRun, read_artifact
from runner.recorder.store import OUTCOME

if TYPE_CHECKING:
    import pandas as pd

RANK = "rank"
FINAL = "final/"
BEST = "best/"
STOPPED_BY_A_RULE = "stopped by a rule"


@dataclass(frozen=True, eq=False, repr=False)
class RunRecord:
    """A run, or a job of a sweep, as the record has it.

    Attributes:
        row: the run as the store has it, without its histories.
    """

    row: Row
    _reader: Reader = field(repr=False)

    def __repr__(self) -> str:
        """Return id, name and outcome in one line."""
        loss = self.final.get("loss")
        shown = "" if loss is None else f", loss={loss:.6g}"
        return f"{type(self).__name__}({self.id}, {self.name!r}, {self.outcome}{shown})"

    def _repr_html_(self) -> str:
        """Return a table of results, and of the params that are not null, for notebooks."""
        began = "" if self.started is None else f"{self.started:%Y-%m-%d %H:%M:%S} UTC"
        own = {key: value for key, value in self.params.items() if value is not None and not is_incidental(key)}
        return pairs_html(self.name, {"id": self.id, "began": began} | self.summary | own)

    @property
    def summary(self) -> dict[str, Any]:
        """The outcome and the most important results, by name, where they are recorded."""
        results = {
            "loss": self.final.get("loss"),
            "best loss": self.best.get("loss"),
            "at step": self.best.get("step"),
            "distance": self.final.get("distance"),
            "steps": self.metrics.get("steps_done"),
        }
        if self.is_ours:
            return {"outcome": self.outcome} | {key: value for key, value in results.items() if value is not None}
        return {"outcome": self.outcome} | dict(itertools.islice(self.metrics.items(), 5))

    @property
    def id(self) -> str:
        """The run's id in MLflow."""
        return self.row.id

    @property
    def name(self) -> str:
        """The run's name in MLflow."""
        return self.row.name

    @property
    def tags(self) -> Mapping[str, str]:
        """All tags, MLflow's own too."""
        return self.row.tags

    @property
    def metrics(self) -> Mapping[str, float]:
        """The last value of each metric, under its name in MLflow."""
        return self.row.metrics

    @cached_property
    def params(self) -> Mapping[str, Any]:
        """The params as values, by name; the choice of a group is under the group's name: `optimizer`."""
        texts = self.row.params
        return {short_name(key, texts): typed(text) for key, text in texts.items()}

    @property
    def is_ours(self) -> bool:
        """Whether this program recorded the run."""
        return ID_TAG in self.tags

    @property
    def sweep(self) -> str | None:
        """The id of the sweep that the run is a job of, or of the run that it is nested in; None for a single run."""
        return self.tags.get(PARENT_TAG)

    @property
    def outcome(self) -> str:
        """COMPLETED, STOPPED (by a rule), DIVERGED, KILLED, FAILED or RUNNING; MLflow's status for others' runs."""
        if not self.is_ours or self.row.status != "FINISHED":
            return self.row.status
        if DIVERGED in self.tags:
            return "DIVERGED"
        return "STOPPED" if self.sentence.startswith(STOPPED_BY_A_RULE) else "COMPLETED"

    @property
    def sentence(self) -> str:
        """How the run ended, in words; empty where that is not recorded."""
        return self.tags.get(OUTCOME, "")

    @property
    def final(self) -> Mapping[str, float]:
        """The final results by name: `loss`, `distance`, ...; the last value of each metric for others' runs.

        Empty for a run that is still going, or whose process ended without them.
        """
        return self._under(FINAL) if self.is_ours else self.metrics

    @property
    def best(self) -> Mapping[str, float]:
        """The step with the best loss: its `loss`, `step` and `weight`; empty where no loss was finite."""
        return self._under(BEST)

    def _under(self, prefix: str) -> dict[str, float]:
        return {key.removeprefix(prefix): value for key, value in self.metrics.items() if key.startswith(prefix)}

    @property
    def direction(self) -> Direction:
        """Whether the run minimized or maximized its loss."""
        return Direction.UP if self.params.get("optimizer.maximize") is True else Direction.DOWN

    @property
    def started(self) -> datetime | None:
        """When the run began."""
        return _time(self.row.start_ms)

    @property
    def ended(self) -> datetime | None:
        """When the run ended; None while it is going."""
        return _time(self.row.end_ms)

    @cached_property
    def recorded(self) -> RecordedRun:
        """What the run was composed of: its config as plain containers, its overrides, the source of the user's own.

        Raises:
            UserError: that is not recorded.
        """
        try:
            return self._reader.recorded(self.row)
        except (StoreError, MlflowException) as error:
            text = f"{error}" if isinstance(error, StoreError) else describe_error(error, self._reader.uri)
            raise UserError(text) from None

    @property
    def config(self) -> Config:
        """The config of the run.

        Raises:
            UserError: it is not recorded, or without a secret that the run needs, or this version does not accept it.
        """
        return self.recorded.config()

    def artifact(self, path: str) -> bytes | None:
        """Return the content of an artifact, such as `landscape.npz`; None where there is no such artifact."""
        return read_artifact(self._reader.client, self.id, path)

    def trajectory(self) -> "pd.DataFrame":
        """Return the recorded steps as rows; the columns are the metrics under their names in MLflow."""
        from runner.reading.tables import wide_table

        keys = [key for key in self.metrics if self.is_step_metric(key)]
        return wide_table(self._reader.histories([self.row], keys), keys)

    def is_step_metric(self, key: str) -> bool:
        """Return whether a metric is recorded step by step, rather than once as a result."""
        return not self.is_ours or not (key.startswith((FINAL, BEST)) or key in RESULTS or key == RANK)


def _time(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)
