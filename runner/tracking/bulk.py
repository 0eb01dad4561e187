"""Writing whole blocks of rows into MLflow's database, through MLflow's own models and sessions.

The public client writes a row at a time, and looks each up before. Here rows wait until there are enough, and
are inserted in the order in which the tables' indexes grow at their ends.
"""

import itertools
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mlflow.store.tracking.dbmodels import models
from mlflow.tracking import MlflowClient

from runner.tracking.database import DIALECTS, ROWS_A_TRANSACTION, Database, Row, Unit, unknown_tables
from runner.tracking.journal import Artifact, Begin, End, Entry, Metrics, now_ms
from runner.tracking.processes import HEARTBEAT
from runner.tracking.store import ID_TAG, LARGEST, Created, Store

# step, timestamp, value, is_nan: in this order MLflow finds which of two values of a metric is the latest.
Value = tuple[int, int, float, bool]


@dataclass
class _Pending:
    """Rows that wait to be written."""

    runs: list[Row] = field(default_factory=list)
    tags: dict[tuple[str, str], str] = field(default_factory=dict)
    params: list[Row] = field(default_factory=list)
    metrics: list[Row] = field(default_factory=list)
    latest: dict[tuple[str, str], Value] = field(default_factory=dict)
    ends: list[Row] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.metrics) + len(self.params) + len(self.tags) + len(self.latest)


def is_known(client: MlflowClient) -> bool:
    """Return whether the client's store is a database whose tables are those that are written here."""
    engine = getattr(client._tracking_client.store, "engine", None)
    return engine is not None and engine.dialect.name in DIALECTS and not unknown_tables(engine)


class BulkStore(Store):
    """A store that writes rows in bulk; what it does not write it leaves to the client, once the rows are in."""

    def __init__(self, client: MlflowClient, artifacts: str | None, may_have_begun: bool) -> None:
        super().__init__(client, artifacts, may_have_begun)
        self._store = client._tracking_client.store
        self._database = Database(self._store)
        self._locations: dict[str, str] = {}
        self._pending = _Pending()
        self._ids = _rising_ids()
        self._begun: dict[str, str] | None = None
        self._entry: Entry | None = None
        self._added = 0

    def apply(self, entry: Entry) -> Created | None:
        """Take one entry, and write what waits when it is much; taken again after an error, it adds nothing twice."""
        if entry is not self._entry:
            self._entry, self._added = entry, 0
        return super().apply(entry)

    def flush(self) -> None:
        """Write all rows that wait; a run has ended only when its last metric is in."""
        pending, database = self._pending, self._database
        tags = [(key, value, run) for (run, key), value in pending.tags.items()]
        latest = [
            (key, value, at, step, is_nan, run) for (run, key), (step, at, value, is_nan) in pending.latest.items()
        ]
        starts = range(0, len(pending.metrics), ROWS_A_TRANSACTION)
        units: list[Unit] = [
            [(database.add_run, pending.runs), (database.set_tag, tags)],
            [(database.add_param, pending.params)],
            *([(database.add_metric, pending.metrics[start : start + ROWS_A_TRANSACTION])] for start in starts),
            [(database.set_latest, latest), (database.end_run, pending.ends)],
        ]
        written = [[(statement, rows) for statement, rows in unit if rows] for unit in units]
        database.write(unit for unit in written if unit)
        self._pending = _Pending()  # not before: what fails is written again

    def close(self) -> None:
        """Let go of the database, which a SQLite one leaves as a single file."""
        self._database.close()

    def beat(self) -> None:
        """Note that the runs that are under way were heard of now."""
        for run in self._beating:
            self._set_tags(self._runs[run], {HEARTBEAT: str(now_ms())})

    def _artifact(self, artifact: Artifact) -> None:
        self.flush()
        super()._artifact(artifact)

    def _begin_again(self, run_id: str, begin: Begin) -> dict[str, str]:
        self.flush()
        return super()._begin_again(run_id, begin)

    def _existing(self, experiment: str, run: str) -> str | None:
        if self._begun is None:
            with self._store.ManagedSessionMaker() as session:
                query = session.query(models.SqlTag.value, models.SqlTag.run_uuid)
                self._begun = dict(query.filter(models.SqlTag.key == ID_TAG).all())
        return self._begun.get(run)

    def _create(self, experiment: str, begin: Begin) -> str:
        run_id = next(self._ids)
        tags = self._tags_of(begin) | {"mlflow.runName": begin.name}
        if experiment not in self._locations:
            self._locations[experiment] = self._client.get_experiment(experiment).artifact_location.rstrip("/")
        location = f"{self._locations[experiment]}/{run_id}/artifacts"
        row = (run_id, begin.name, "UNKNOWN", "", "", tags.get("mlflow.user", "unknown"), "RUNNING", begin.time_ms)
        self._pending.runs.append((*row, None, None, "", "active", location, int(experiment)))
        self._set_tags(run_id, tags)
        if self._begun is not None:
            self._begun[begin.run] = run_id
        return run_id

    def _set_tags(self, run_id: str, tags: dict[str, str]) -> None:
        for key, value in tags.items():
            self._pending.tags[run_id, key] = value

    def _log_params(self, run_id: str, params: dict[str, str]) -> None:
        self._pending.params += ((key, value, run_id) for key, value in params.items())

    def _metrics(self, block: Metrics) -> None:
        shape = len(block.steps), len(block.keys), len(block.runs)
        values = np.frombuffer(block.values, "<f8").reshape(shape).transpose(2, 1, 0)
        width = max(1, ROWS_A_TRANSACTION // (shape[0] * shape[1]))
        for start in range(0, shape[2], width):
            if start >= self._added:
                self._add(block, start, values[start : start + width])
                self._added = start + width
            self._flush_if_many()

    def _add(self, block: Metrics, start: int, values: "np.ndarray[Any, np.dtype[np.float64]]") -> None:
        """Take the values `(runs, keys, steps)` of some runs, from run `start` of the block on."""
        is_nan = np.isnan(values)
        stored = np.nan_to_num(values, nan=0.0, posinf=LARGEST, neginf=-LARGEST)
        last = int(np.argmax(block.steps))
        for place, run in enumerate(block.runs[start : start + len(values)]):
            run_id, time_ms = self._runs[run], block.time_of(start + place)
            for index, key in enumerate(block.keys):
                numbers, nans = stored[place, index].tolist(), is_nan[place, index].tolist()
                self._pending.metrics += zip(
                    itertools.repeat(key),
                    numbers,
                    itertools.repeat(time_ms),
                    block.steps,
                    nans,
                    itertools.repeat(run_id),
                )
                self._keep_latest(run_id, key, (block.steps[last], time_ms, numbers[last], nans[last]))

    def _keep_latest(self, run_id: str, key: str, value: Value) -> None:
        known = self._pending.latest.get((run_id, key))
        if known is None or value > known:
            self._pending.latest[run_id, key] = value

    def _end(self, end: End) -> None:
        if not self._added:
            self._add_end(self._runs[end.run], end)
            self._added = 1
        self._flush_if_many()

    def _add_end(self, run_id: str, end: End) -> None:
        for key, result in end.results.items():
            is_nan = math.isnan(result)
            stored = 0.0 if is_nan else max(-LARGEST, min(LARGEST, float(result)))
            self._pending.metrics.append((key, stored, end.time_ms, end.step, is_nan, run_id))
            self._keep_latest(run_id, key, (end.step, end.time_ms, stored, is_nan))
        self._set_tags(run_id, self._end_tags(end))
        self._pending.ends.append((end.status, end.time_ms, run_id))
        self._forget(end.run)

    def _flush_if_many(self) -> None:
        if len(self._pending) >= ROWS_A_TRANSACTION:
            self.flush()


def _rising_ids() -> Iterator[str]:
    """Yield run ids, 32 hexadecimal digits each greater than the last: so they are written where the indexes end."""
    for count in itertools.count():
        yield f"{time.time_ns() // 1_000_000:012x}{count % 2**24:06x}{os.urandom(7).hex()}"
