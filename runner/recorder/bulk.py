"""Bulk inserts into MLflow's database, with MLflow's own models and sessions.

The public client queries and writes one row at a time. Here rows are buffered and inserted in the order of the tables'
indexes, run by run and key by key, so that the indexes grow at their ends.
"""

import itertools
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from mlflow.tracking import MlflowClient

from runner.recorder.artifacts import local_folder, run_folder
from runner.recorder.database import DIALECTS, ROWS_A_TRANSACTION, Database, Row, Unit, unknown_tables
from runner.recorder.mlflow_private import engine_of, models, store_of
from runner.recorder.reading import ID_TAG, LARGEST
from runner.recorder.store import Created, Store
from runner.recorder.verification import Last, check_rows
from runner.tracking.journal import GOES_ON, Artifact, Begin, End, Entry, Metrics, now_ms
from runner.tracking.processes import HEARTBEAT

# How many values are buffered, so that those of a run are written together.
VALUES_AT_ONCE = 4_000_000

USER = "mlflow.user"

# step, timestamp, value, is_nan: the order by which MLflow finds the latest value of a metric.
Value = tuple[int, int, float, bool]


Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class _Values:
    """The values of one entry as stored in the table, `(runs, keys, steps)`; rows are built when they are written."""

    entry: Metrics
    stored: Array
    is_nan: Array

    @classmethod
    def of(cls, entry: Metrics, flag: type) -> Self:
        shape = len(entry.steps), len(entry.keys), len(entry.runs)
        values = np.frombuffer(entry.values, "<f8").reshape(shape).transpose(2, 1, 0)
        return cls(
            entry, np.nan_to_num(values, nan=0.0, posinf=LARGEST, neginf=-LARGEST), np.isnan(values).astype(flag)
        )

    def rows(self, place: int, key: str, run_id: str) -> Iterator[Row]:
        """Return the rows of one key of one run, step by step."""
        index, entry, again = self.entry.keys.index(key), self.entry, itertools.repeat
        numbers, nans = self.stored[place, index].tolist(), self.is_nan[place, index].tolist()
        return zip(again(key), numbers, again(entry.time_of(place)), entry.steps, nans, again(run_id), strict=False)

    def latest(self) -> Iterator[tuple[str, str, Value]]:
        """Yield each run and key with its latest value."""
        last = int(np.argmax(self.entry.steps))
        step, numbers, nans = self.entry.steps[last], self.stored[..., last].tolist(), self.is_nan[..., last].tolist()
        for place, run in enumerate(self.entry.runs):
            for index, key in enumerate(self.entry.keys):
                yield run, key, (step, self.entry.time_of(place), numbers[place][index], nans[place][index])


@dataclass
class _Pending:
    """The buffered rows."""

    runs: list[Row] = field(default_factory=list)
    tags: dict[tuple[str, str], str] = field(default_factory=dict)
    params: list[Row] = field(default_factory=list)
    values: list[_Values] = field(default_factory=list)
    metrics: list[Row] = field(default_factory=list)
    latest: dict[tuple[str, str], Value] = field(default_factory=dict)
    ends: list[Row] = field(default_factory=list)

    @property
    def is_much(self) -> bool:
        """Whether the buffer is full."""
        rows = len(self.metrics) + len(self.params) + len(self.tags) + len(self.latest)
        return rows >= ROWS_A_TRANSACTION or sum(values.stored.size for values in self.values) >= VALUES_AT_ONCE

    def value_rows(self, ids: dict[str, str]) -> Iterator[list[Row]]:
        """Yield the rows of all values in the order of the indexes, run by run and key by key, in parts."""
        by_run: dict[str, list[tuple[_Values, int]]] = {}
        for values in self.values:
            for place, run in enumerate(values.entry.runs):
                by_run.setdefault(run, []).append((values, place))
        rows: list[Row] = []
        for run, parts in by_run.items():
            for key in sorted({key for values, _ in parts for key in values.entry.keys}):
                for values, place in parts:
                    if key in values.entry.keys:
                        rows += values.rows(place, key, ids[run])
                    if len(rows) >= ROWS_A_TRANSACTION:
                        yield rows
                        rows = []
        yield rows


def is_known(client: MlflowClient) -> bool:
    """Return whether the client's store is a database whose tables this module can write."""
    engine = engine_of(client)
    return engine is not None and engine.dialect.name in DIALECTS and not unknown_tables(engine)


class BulkStore(Store):
    """Writes rows in bulk; everything else goes through the client, after the buffered rows are written."""

    def __init__(self, client: MlflowClient, artifacts: str | None, may_have_begun: bool) -> None:
        super().__init__(client, artifacts, may_have_begun)
        self._store = store_of(client)
        self._database = Database(self._store)
        self._locations: dict[str, str] = {}
        self._pending = _Pending()
        self._ids = _rising_ids()
        self._begun: dict[str, str] | None = None
        self._entry: Entry | None = None
        self._is_taken = False
        self._has_ended_a_sweep = False

    def apply(self, entry: Entry) -> Created | None:
        """Buffer one entry, and write the buffer if it is full; an entry repeated after an error is not added twice."""
        if entry is not self._entry:
            self._entry, self._is_taken = entry, False
        return super().apply(entry)

    def flush(self) -> None:
        """Write the buffered rows; a run ends only after its last metric."""
        pending, database = self._pending, self._database
        tags = [(key, value, run) for (run, key), value in pending.tags.items()]
        latest = [
            (key, value, at, step, is_nan, run) for (run, key), (step, at, value, is_nan) in pending.latest.items()
        ]
        units: Iterable[Unit] = itertools.chain(
            [[(database.add_run, pending.runs), (database.set_tag, tags)], [(database.add_param, pending.params)]],
            ([(database.add_metric, rows)] for rows in pending.value_rows(self._runs)),
            [
                [(database.add_metric, pending.metrics)],
                [(database.set_latest, latest), (database.end_run, pending.ends)],
            ],
        )
        written = ([(statement, rows) for statement, rows in unit if rows] for unit in units)
        database.write((unit for unit in written if unit), self.after_transaction)
        self._pending = _Pending()  # only now: rows that failed are written again

    def close(self) -> None:
        """Close the database; SQLite then leaves a single file."""
        if self._has_ended_a_sweep:
            self._database.analyze()
        self._database.close()

    def _verify_runs(self, written: Mapping[str, Last]) -> None:
        check_rows(self._store.engine.url, written)

    def _set_heartbeat(self, run_id: str) -> None:
        self._set_tags(run_id, {HEARTBEAT: str(now_ms())})

    def _artifact(self, artifact: Artifact) -> None:
        self.flush()
        super()._artifact(artifact)

    def _root_of(self, run_id: str, uri: str) -> Path | None:
        """Return the root for a run's artifacts; a local location outside the root is replaced in the database."""
        if self._artifacts is None or local_folder(uri) is None:
            return super()._root_of(run_id, uri)
        root = local_folder(self._artifacts)
        assert root is not None
        if local_folder(uri) != run_folder(root, run_id):
            with self._store.ManagedSessionMaker(read_only=False) as session:
                found = session.query(models.SqlRun).filter_by(run_uuid=run_id)
                found.update({"artifact_uri": f"{self._artifacts}/{run_id}/artifacts"})
        return root

    def _begin_again(self, run_id: str, begin: Begin) -> dict[str, str]:
        self.flush()
        return super()._begin_again(run_id, begin)

    def _existing(self, experiment: str, run: str) -> str | None:
        if self._begun is None:
            with self._store.ManagedSessionMaker() as session:
                query = session.query(models.SqlTag.value, models.SqlTag.run_uuid)
                query = query.join(models.SqlRun, models.SqlRun.run_uuid == models.SqlTag.run_uuid)
                self._begun = dict(query.filter(models.SqlTag.key == ID_TAG).all())
        return self._begun.get(run)

    def _create(self, experiment: str, begin: Begin) -> str:
        run_id = next(self._ids)
        tags = self._tags_of(begin) | {"mlflow.runName": begin.name}
        if experiment not in self._locations:
            location = self._client.get_experiment(experiment).artifact_location.rstrip("/")
            # A local folder that the database names is not used: it may be any folder.
            self._locations[experiment] = location if local_folder(location) is None else self._artifacts or location
        location = f"{self._locations[experiment]}/{run_id}/artifacts"
        self._roots[run_id] = local_folder(self._locations[experiment])
        above = self._unfinished.get(begin.parent or "", begin)
        user = tags.get(USER) or above.tags.get(USER, "unknown")
        row = (run_id, begin.name, "UNKNOWN", "", "", user, "RUNNING", begin.time_ms)
        self._pending.runs.append((*row, None, None, "", "active", location, int(experiment)))
        self._set_tags(run_id, tags)
        if self._begun is not None:
            self._begun[begin.run] = run_id
        return run_id

    def _restore_experiment(self, experiment: str) -> None:
        """Restore an experiment, and none of its runs."""
        with self._store.ManagedSessionMaker(read_only=False) as session:
            found = session.query(models.SqlExperiment).filter_by(experiment_id=int(experiment))
            found.update({"lifecycle_stage": "active", "last_update_time": now_ms()})

    def _set_tags(self, run_id: str, tags: dict[str, str]) -> None:
        for key, value in tags.items():
            self._pending.tags[run_id, key] = value

    def _log_tags(self, run_id: str, tags: dict[str, str]) -> None:
        self._set_tags(run_id, tags)

    def _log_params(self, run_id: str, params: dict[str, str]) -> None:
        self._pending.params += ((key, value, run_id) for key, value in params.items())

    def _metrics(self, block: Metrics) -> None:
        if not self._is_taken:
            values = _Values.of(block, self._database.flag)
            ids = {
                run: self._runs[run] for run in block.runs
            }  # raises for a run that has not begun, before anything is buffered
            self._pending.values.append(values)
            for run, key, value in values.latest():
                self._keep_latest(ids[run], key, value)
            self._is_taken = True
        self._flush_if_much()

    def _keep_latest(self, run_id: str, key: str, value: Value) -> None:
        known = self._pending.latest.get((run_id, key))
        if known is None or value > known:
            self._pending.latest[run_id, key] = value

    def _end(self, end: End) -> None:
        if not self._is_taken:
            self._add_end(self._runs[end.run], end)
            self._is_taken = True
        self._flush_if_much()

    def _add_end(self, run_id: str, end: End) -> None:
        for key, result in end.results.items():
            is_nan = self._database.flag(math.isnan(result))
            stored = 0.0 if is_nan else max(-LARGEST, min(LARGEST, float(result)))
            self._pending.metrics.append((key, stored, end.time_ms, end.step, is_nan, run_id))
            self._keep_latest(run_id, key, (end.step, end.time_ms, stored, is_nan))
        self._set_tags(run_id, self._end_tags(end))
        begin = self._unfinished.get(end.run)
        self._has_ended_a_sweep |= begin is not None and begin.tags.get("runner.kind") == "sweep"
        if end.status != GOES_ON:
            self._pending.ends.append((end.status, end.time_ms, run_id))
        self._forget(end.run)

    def _flush_if_much(self) -> None:
        if self._pending.is_much:
            self.flush()


def _rising_ids() -> Iterator[str]:
    """Yield run ids of 32 hexadecimal digits in increasing order, so that indexes grow at their ends."""
    for count in itertools.count():
        yield f"{time.time_ns() // 1_000_000:012x}{count % 2**24:06x}{os.urandom(7).hex()}"
