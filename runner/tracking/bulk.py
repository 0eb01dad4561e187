"""Writing whole blocks of rows into MLflow's database, through MLflow's own models and sessions.

The public client writes a row at a time, and looks each up before. Here rows wait until there are enough, and
are inserted in the order in which the tables' indexes grow at their ends.
"""

import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.dbmodels import models
from mlflow.tracking import MlflowClient
from sqlalchemy import bindparam, event, inspect, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Engine

from runner.tracking.journal import Artifact, Begin, End, Metrics, now_ms
from runner.tracking.processes import HEARTBEAT
from runner.tracking.store import ID_TAG, LONGEST_NAME, Store, cut

ROWS_A_TRANSACTION = 100_000
LOCKED_SECONDS = 120
LARGEST = 1.7976931348623157e308
PRAGMAS = ("synchronous=normal", "cache_size=-131072", "temp_store=memory")
INSERTS: dict[str, Callable[..., Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}

RUN, TAG, PARAM = models.SqlRun.__table__, models.SqlTag.__table__, models.SqlParam.__table__
METRIC, LATEST = models.SqlMetric.__table__, models.SqlLatestMetric.__table__
# The columns that are written here; a table with others is not one that this module knows.
COLUMNS: dict[Any, list[str]] = {
    RUN: [
        *("run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status", "start_time"),
        *("end_time", "deleted_time", "source_version", "lifecycle_stage", "artifact_uri", "experiment_id"),
    ],
    TAG: ["key", "value", "run_uuid"],
    PARAM: ["key", "value", "run_uuid"],
    METRIC: ["key", "value", "timestamp", "step", "is_nan", "run_uuid"],
    LATEST: ["key", "value", "timestamp", "step", "is_nan", "run_uuid"],
}
Row = tuple[Any, ...]
# step, timestamp, value, is_nan: in this order MLflow finds which of two values of a metric is the latest.
Value = tuple[int, int, float, bool]


def is_known(client: MlflowClient) -> bool:
    """Return whether the client's store is a database whose tables are those that this module writes."""
    engine = getattr(client._tracking_client.store, "engine", None)
    if engine is None or engine.dialect.name not in INSERTS:
        return False
    found = inspect(engine)
    return all(
        {column["name"] for column in found.get_columns(table.name)} == set(names) for table, names in COLUMNS.items()
    )


def tuned(engine: Engine) -> None:
    """Make a SQLite database one that is read while it is written, and quickly written."""
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def _set(connection: Any, _record: Any) -> None:
        for pragma in PRAGMAS:
            connection.execute(f"pragma {pragma}")

    engine.dispose()
    with engine.connect() as connection:
        connection.exec_driver_sql("pragma journal_mode=wal")


@dataclass
class _Pending:
    """Rows that wait to be written."""

    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    tags: dict[tuple[str, str], str] = field(default_factory=dict)
    params: list[Row] = field(default_factory=list)
    metrics: list[Row] = field(default_factory=list)
    latest: dict[tuple[str, str], Value] = field(default_factory=dict)
    ends: list[dict[str, Any]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.metrics) + len(self.params) + len(self.tags) + len(self.latest)


class BulkStore(Store):
    """A store that writes rows in bulk; what it does not write it leaves to the client, once the rows are in."""

    def __init__(self, client: MlflowClient, artifacts: str | None, may_have_begun: bool) -> None:
        super().__init__(client, artifacts, may_have_begun)
        self._store = client._tracking_client.store
        tuned(self._store.engine)
        self._insert = INSERTS[self._store.engine.dialect.name]
        self._locations: dict[str, str] = {}
        self._pending = _Pending()
        self._ids = _rising_ids()
        self._begun: dict[str, str] | None = None

    def flush(self) -> None:
        """Write all rows that wait."""
        pending = self._pending
        starts = range(0, max(1, len(pending.metrics)), ROWS_A_TRANSACTION)
        chunks = [pending.metrics[start : start + ROWS_A_TRANSACTION] for start in starts]
        if len(chunks) > 1:  # a run has ended only when its last metric is in
            pending.ends += _deferred_ends(pending.runs)
        runs = [tuple(run[name] for name in COLUMNS[RUN]) for run in pending.runs.values()]
        tags = [(key, value, run) for (run, key), value in pending.tags.items()]
        latest = [
            (key, value, at, step, is_nan, run) for (run, key), (step, at, value, is_nan) in pending.latest.items()
        ]
        before = [(RUN, runs), (TAG, tags), (PARAM, pending.params)]
        for index, chunk in enumerate(chunks):
            is_last = index == len(chunks) - 1
            tables = [*(before if index == 0 else []), (METRIC, chunk), *([(LATEST, latest)] if is_last else [])]
            self._write(tables, pending.ends if is_last else [])
        self._pending = _Pending()  # not before: what fails is written again

    def beat(self) -> None:
        """Note that the runs that are under way were heard of now."""
        for run in self._beating:
            self._set_tags(self._runs[run], {HEARTBEAT: str(now_ms())})

    def _artifact(self, artifact: Artifact) -> None:
        self.flush()
        super()._artifact(artifact)

    def _begin_again(self, run_id: str, begin: Begin) -> None:
        self.flush()
        super()._begin_again(run_id, begin)

    def _existing(self, experiment: str, run: str) -> str | None:
        if self._begun is None:
            with self._store.ManagedSessionMaker() as session:
                query = session.query(models.SqlTag.value, models.SqlTag.run_uuid)
                self._begun = dict(query.filter(models.SqlTag.key == ID_TAG).all())
        return self._begun.get(run)

    def _create(self, experiment: str, begin: Begin) -> str:
        run_id = next(self._ids)
        name = cut(begin.name, LONGEST_NAME)
        tags = self._tags_of(begin) | {"mlflow.runName": name}
        if experiment not in self._locations:
            self._locations[experiment] = self._client.get_experiment(experiment).artifact_location.rstrip("/")
        self._pending.runs[run_id] = {
            "run_uuid": run_id,
            "name": name,
            "source_type": "UNKNOWN",
            "source_name": "",
            "entry_point_name": "",
            "user_id": tags.get("mlflow.user", "unknown"),
            "status": "RUNNING",
            "start_time": begin.time_ms,
            "end_time": None,
            "deleted_time": None,
            "source_version": "",
            "lifecycle_stage": "active",
            "artifact_uri": f"{self._locations[experiment]}/{run_id}/artifacts",
            "experiment_id": int(experiment),
        }
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
            self._add(block, start, values[start : start + width])
            self._flush_if_many()

    def _add(self, block: Metrics, start: int, values: "np.ndarray[Any, np.dtype[np.float64]]") -> None:
        """Take the values `(runs, keys, steps)` of some runs, from run `start` of the block on."""
        is_nan = np.isnan(values)
        stored = np.nan_to_num(values, nan=0.0, posinf=LARGEST, neginf=-LARGEST)
        last = int(np.argmax(block.steps))
        for place, run in enumerate(block.runs[start : start + len(values)]):
            run_id = self._runs[run]
            for index, key in enumerate(block.keys):
                numbers, nans = stored[place, index].tolist(), is_nan[place, index].tolist()
                self._pending.metrics += zip(
                    itertools.repeat(key),
                    numbers,
                    itertools.repeat(block.time_ms),
                    block.steps,
                    nans,
                    itertools.repeat(run_id),
                )
                self._keep_latest(run_id, key, (block.steps[last], block.time_ms, numbers[last], nans[last]))

    def _keep_latest(self, run_id: str, key: str, value: Value) -> None:
        known = self._pending.latest.get((run_id, key))
        if known is None or value > known:
            self._pending.latest[run_id, key] = value

    def _end(self, end: End) -> None:
        run_id = self._runs[end.run]
        for key, result in end.results.items():
            is_nan = math.isnan(result)
            stored = 0.0 if is_nan else max(-LARGEST, min(LARGEST, result))
            self._pending.metrics.append((key, stored, end.time_ms, end.step, is_nan, run_id))
            self._keep_latest(run_id, key, (end.step, end.time_ms, stored, is_nan))
        self._set_tags(run_id, self._end_tags(end))
        if run_id in self._pending.runs:
            self._pending.runs[run_id] |= {"status": end.status, "end_time": end.time_ms}
        else:
            self._pending.ends.append({"id": run_id, "new_status": end.status, "new_end": end.time_ms})
        self._forget(end.run)
        self._flush_if_many()

    def _flush_if_many(self) -> None:
        if len(self._pending) >= ROWS_A_TRANSACTION:
            self.flush()

    def _write(self, tables: Sequence[tuple[Any, Sequence[Row]]], ends: Sequence[dict[str, Any]]) -> None:
        if not ends and not any(rows for _, rows in tables):
            return

        def write() -> None:
            with self._store.ManagedSessionMaker(read_only=False) as session:
                for table, rows in tables:
                    self._insert_rows(session, table, rows)
                if ends:
                    changed = update(RUN).where(RUN.c.run_uuid == bindparam("id"))
                    values: dict[str, Any] = {"status": bindparam("new_status"), "end_time": bindparam("new_end")}
                    session.connection().execute(changed.values(**values), list(ends))

        _patiently(write)

    def _insert_rows(self, session: Any, table: Any, rows: Sequence[Row]) -> None:
        if not rows:
            return
        names = COLUMNS[table]
        statement = self._statement(table)
        if self._store.engine.dialect.name != "sqlite":
            session.connection().execute(statement, [dict(zip(names, row, strict=True)) for row in rows])
            return
        # The same statement, compiled once: passing tuples to the driver takes a third of the time.
        compiled = statement.values(dict.fromkeys(names)).compile(dialect=self._store.engine.dialect)
        order = [names.index(name) for name in compiled.positiontup]
        if order != list(range(len(names))):
            rows = [tuple(row[place] for place in order) for row in rows]
        session.connection().exec_driver_sql(str(compiled), list(rows))

    def _statement(self, table: Any) -> Any:
        """Return the insert for a table; what another recorder has written before stays, or is brought up to date."""
        insert = self._insert(table)
        keys = [column.name for column in table.primary_key.columns]
        if table is TAG:
            return insert.on_conflict_do_update(index_elements=keys, set_={"value": insert.excluded.value})
        if table is LATEST:
            names = ["step", "timestamp", "value", "is_nan"]
            new = {name: insert.excluded[name] for name in names}
            is_later = tuple_(*(new[name] for name in names[:3])) > tuple_(*(table.c[name] for name in names[:3]))
            return insert.on_conflict_do_update(index_elements=keys, set_=new, where=is_later)
        return insert.on_conflict_do_nothing()


def _deferred_ends(runs: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Take the ends out of the rows of new runs, and return them as changes to be made later."""
    ended = [run for run in runs.values() if run["status"] != "RUNNING"]
    ends = [{"id": run["run_uuid"], "new_status": run["status"], "new_end": run["end_time"]} for run in ended]
    for run in ended:
        run |= {"status": "RUNNING", "end_time": None}
    return ends


def _rising_ids() -> Iterator[str]:
    """Yield run ids, 32 hexadecimal digits each greater than the last: so they are written where the indexes end."""
    for count in itertools.count():
        yield f"{time.time_ns() // 1_000_000:012x}{count % 2**24:06x}{os.urandom(7).hex()}"


def _patiently(write: Callable[[], None]) -> None:
    """Write, again and again while another process holds the database."""
    deadline = time.monotonic() + LOCKED_SECONDS
    while True:
        try:
            return write()
        except MlflowException as error:
            if "database is locked" not in str(error) or time.monotonic() > deadline:
                raise
