"""Reading runs from MLflow's database by SQL: MLflow's client makes an object of every row."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from runner.messages.errors import UserError
from runner.messages.redaction import shown_text
from runner.reading.reader import Reader, no_garbage_collection
from runner.reading.rows import History, Row
from runner.reading.values import all_restored, restored
from runner.recorder.mlflow_private import engine_of
from runner.recorder.opening import describe_error
from runner.recorder.reading import PARENT_TAG
from runner.recorder.store import Store

RUNS_A_QUERY = 500
RUNS = "SELECT run_uuid, name, status, experiment_id, start_time, end_time FROM runs WHERE lifecycle_stage = 'active'"
IN_ORDER = " ORDER BY start_time, run_uuid"
CHILDREN = f"{RUNS} AND run_uuid IN (SELECT run_uuid FROM tags WHERE key = :key AND value = :parent){IN_ORDER}"
OF_EXPERIMENTS = f"{RUNS} AND experiment_id IN :some{IN_ORDER}"
OF_IDS = f"{RUNS} AND run_uuid IN :some{IN_ORDER}"
PARAMS = "SELECT run_uuid, key, value FROM params WHERE run_uuid IN :some"
TAGS = "SELECT run_uuid, key, value FROM tags WHERE run_uuid IN :some"
LAST = "SELECT run_uuid, key, value, is_nan FROM latest_metrics WHERE run_uuid IN :some"
# SQLite: a query a history, whose rows need neither the run nor the key. This is the order of an index with rowid.
ONE_HISTORY = (
    "SELECT step, CASE WHEN is_nan THEN NULL ELSE value END FROM metrics WHERE run_uuid = ? AND key = ?"
    " ORDER BY step, rowid"
)
# PostgreSQL: a row a history.
MANY_HISTORIES = (
    "SELECT run_uuid, key, array_agg(step ORDER BY step, timestamp),"
    " array_agg(CASE WHEN is_nan THEN 'NaN' ELSE value END ORDER BY step, timestamp)"
    " FROM metrics WHERE run_uuid IN :some AND key IN :keys GROUP BY run_uuid, key"
)


class DatabaseReader(Reader):
    """Reads runs and histories by SQL."""

    def __init__(self, store: Store, uri: str) -> None:
        super().__init__(store, uri)
        engine = engine_of(store.client)
        assert engine is not None
        self._engine = engine

    def of_experiments(self, experiments: Sequence[str]) -> list[Row]:
        """Return the runs of experiments."""
        return self._rows(OF_EXPERIMENTS, some=[int(one) for one in experiments])

    def children(self, experiment: str, parent: str) -> list[Row]:
        """Return the runs of a sweep, or nested in another run."""
        return self._rows(CHILDREN, key=PARENT_TAG, parent=parent)

    def of_ids(self, ids: Sequence[str]) -> list[Row]:
        """Return the runs with these ids that exist."""
        return [row for some in _chunks(ids) for row in self._rows(OF_IDS, some=some)]

    def _rows(self, query: str, **values: Any) -> list[Row]:
        with no_garbage_collection(), self._connected() as connection:
            rows = {
                run_id: Row(run_id, name or "", status, str(experiment), start, end)
                for run_id, name, status, experiment, start, end in _all(connection, query, **values)
            }
            for some in _chunks(list(rows)):
                for run_id, key, text in _all(connection, PARAMS, some=some):
                    rows[run_id].params[key] = text
                for run_id, key, text in _all(connection, TAGS, some=some):
                    rows[run_id].tags[key] = text or ""
                for run_id, key, value, is_nan in _all(connection, LAST, some=some):
                    rows[run_id].metrics[key] = restored(value, is_nan)
        return list(rows.values())

    def histories(self, rows: Sequence[Row], keys: Sequence[str]) -> list[History]:
        """Return the recorded values of metrics, run by run in their order, and key by key."""
        read = self._from_sqlite if self._engine.dialect.name == "sqlite" else self._from_postgresql
        with no_garbage_collection(), self._connected() as connection:
            return list(read(connection, rows, keys)) if keys else []

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as error:
            raise UserError(f"{shown_text(self.uri)}: {describe_error(error, self.uri)}") from error

    def _from_sqlite(self, connection: Connection, rows: Sequence[Row], keys: Sequence[str]) -> Iterator[History]:
        cursor = connection.connection.cursor()
        for row in rows:
            for key in keys:
                if key in row.metrics and (found := cursor.execute(ONE_HISTORY, (row.id, key)).fetchall()):
                    steps, values = zip(*found, strict=True)
                    yield _history(row.id, key, steps, values)

    def _from_postgresql(self, connection: Connection, rows: Sequence[Row], keys: Sequence[str]) -> Iterator[History]:
        for some in _chunks([row.id for row in rows]):
            found = {
                (run_id, key): (steps, values)
                for run_id, key, steps, values in _all(connection, MANY_HISTORIES, some=some, keys=list(keys))
            }
            for run_id, key in itertools.product(some, keys):
                if (run_id, key) in found:
                    yield _history(run_id, key, *found[run_id, key])


def _history(run_id: str, key: str, steps: Sequence[int], values: Sequence[float | None]) -> History:
    read = all_restored(np.array(values, dtype=np.float64))
    return History(run_id, key, np.array(steps, dtype=np.int64), read)


def _chunks(ids: Sequence[str]) -> Iterator[list[str]]:
    return (list(ids[start : start + RUNS_A_QUERY]) for start in range(0, len(ids), RUNS_A_QUERY))


def _all(connection: Connection, query: str, **values: Any) -> Sequence[Any]:
    lists: list[sa.BindParameter[Any]] = [
        sa.bindparam(name, expanding=True) for name, value in values.items() if isinstance(value, list)
    ]
    return connection.execute(sa.text(query).bindparams(*lists), values).all()
