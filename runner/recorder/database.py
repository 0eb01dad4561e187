"""MLflow's database, written many rows at a time: known tables, insert statements, transactions."""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeAlias

import sqlalchemy as sa
from mlflow.exceptions import MlflowException
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.orm import Session

from runner.recorder.errors import RecordLostError
from runner.recorder.mlflow_private import Base, SqlAlchemyStore, models

DIALECTS = ("sqlite", "postgresql")
ROWS_A_TRANSACTION = 100_000
BUSY_MS = 60_000
CACHE_KIB = 96 * 1024
TRIES = 5
# Of each index; of large databases a sample is enough.
ROWS_ANALYZED = 400
# The columns in order, nullable ones with a question mark; then the primary key.
KNOWN = {
    "runs": (
        "run_uuid name? source_type? source_name? entry_point_name? user_id? status? start_time? end_time?"
        " deleted_time? source_version? lifecycle_stage? artifact_uri? experiment_id?",
        "run_uuid",
    ),
    "tags": ("key value? run_uuid", "key run_uuid"),
    "params": ("key value run_uuid", "key run_uuid"),
    "metrics": ("key value timestamp step is_nan run_uuid", "key timestamp step run_uuid value is_nan"),
    "latest_metrics": ("key value timestamp? step is_nan run_uuid", "key run_uuid"),
}


COLUMNS_OF = {table: columns.replace("?", "").split() for table, (columns, _) in KNOWN.items()}

Row: TypeAlias = tuple[Any, ...]
# Executes a statement for many rows.
Statement: TypeAlias = Callable[[Connection, list[Row]], object]
# Statements and rows that must be in one transaction.
Unit: TypeAlias = list[tuple[Statement, list[Row]]]


class Database:
    """Writes the tables of runs in transactions of bounded size."""

    def __init__(self, store: SqlAlchemyStore) -> None:
        engine: Engine = store.engine
        self._store = store
        self._is_sqlite = engine.dialect.name == "sqlite"
        # The type of a boolean for the driver: SQLite's would call an adapter for each Python one.
        self.flag: type = int if self._is_sqlite else bool
        if self._is_sqlite and not sa.event.contains(engine, "connect", _tune):
            sa.event.listen(engine, "connect", _tune)
            engine.dispose()
        runs, tags, latest = (_table(model) for model in (models.SqlRun, models.SqlTag, models.SqlLatestMetric))
        params, metrics = (_table(model) for model in (models.SqlParam, models.SqlMetric))
        insert = sqlite.insert if self._is_sqlite else postgresql.insert
        self.add_run = self._statement(insert(runs).on_conflict_do_nothing(), runs)
        self.add_param = self._statement(insert(params).on_conflict_do_nothing(), params)
        self.add_metric = self._statement(insert(metrics).on_conflict_do_nothing(), metrics)
        tag = insert(tags)
        tag = tag.on_conflict_do_update(index_elements=tags.primary_key, set_={"value": tag.excluded.value})
        self.set_tag = self._statement(tag, tags)
        self.set_latest = self._statement(_upsert_latest(insert(latest), latest), latest)
        ended = sa.update(runs).where(runs.c.run_uuid == sa.bindparam("ended"))
        self.end_run: Statement = partial(_by_names, core=ended, names=("status", "end_time", "ended"))

    def write(self, units: Iterable[Unit], after_each: Callable[[], None]) -> None:
        """Write units in order, in transactions short enough for other writers to wait.

        `after_each` is called after each transaction.
        """
        gathered: Unit = []
        for unit in units:
            gathered += unit
            if sum(len(rows) for _, rows in gathered) >= ROWS_A_TRANSACTION:
                self._commit(gathered)
                after_each()
                gathered = []
        if gathered:
            self._commit(gathered)

    def analyze(self) -> None:
        """Let SQLite count the rows of its indexes, without which it reads a metric's history by the wrong one."""
        if not self._is_sqlite:
            return
        with contextlib.suppress(DatabaseError), self._store.engine.connect() as connection:  # others are writing
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.exec_driver_sql("PRAGMA busy_timeout = 0")
            connection.exec_driver_sql(f"PRAGMA analysis_limit = {ROWS_ANALYZED}")
            connection.exec_driver_sql("ANALYZE")
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {BUSY_MS}")

    def close(self) -> None:
        """Close the connections; SQLite then merges its write-ahead log into the file."""
        self._store.engine.dispose()

    def _statement(self, insert: Any, table: sa.Table) -> Statement:
        """Return the fastest way to insert rows with the driver."""
        columns = tuple(table.columns.keys())
        if not self._is_sqlite:
            return partial(_by_arrays, core=_from_arrays(insert, table), names=columns)
        compiled = insert.compile(dialect=self._store.engine.dialect, column_keys=columns)
        assert tuple(compiled.positiontup) == columns
        return partial(_by_driver, sql=str(compiled))

    def _commit(self, unit: Unit) -> None:
        try:
            self._try(unit)
        except MlflowException as error:
            if "foreign key" in str(error).lower():  # the rows of a running run were deleted
                raise RecordLostError("a run was deleted from the database while it was recorded there") from error
            raise

    def _try(self, unit: Unit) -> None:
        with self._store.ManagedSessionMaker(read_only=False) as session:
            for tried in range(1, TRIES + 1):
                try:
                    self._execute(session, unit)
                    return
                except OperationalError as error:
                    session.rollback()
                    if "locked" not in str(error) or tried == TRIES:
                        raise
                    time.sleep(0.1 * tried)

    def _execute(self, session: Session, unit: Unit) -> None:
        connection = session.connection()
        if self._is_sqlite:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {BUSY_MS}")
            # Wait for other writers here: a transaction that reads before it writes would fail.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        for statement, rows in unit:
            statement(connection, rows)
        session.commit()


def _by_driver(connection: Connection, rows: list[Row], sql: str) -> None:
    connection.exec_driver_sql(sql, rows)


def _by_names(connection: Connection, rows: list[Row], core: Any, names: tuple[str, ...]) -> None:
    connection.execute(core, [dict(zip(names, row, strict=True)) for row in rows])


def _by_arrays(connection: Connection, rows: list[Row], core: Any, names: tuple[str, ...]) -> None:
    columns = zip(names, zip(*rows, strict=True), strict=True)
    connection.execute(core, {f"all_{name}": list(column) for name, column in columns})


def _from_arrays(insert: Any, table: sa.Table) -> Any:
    """Return an insert with an array for each column: PostgreSQL's drivers send rows one at a time."""
    arrays = []
    for column in table.columns:
        # A cast to a type of limited length would truncate.
        kind = sa.Text() if isinstance(column.type, sa.String) else column.type
        bound = sa.cast(sa.bindparam(f"all_{column.name}"), postgresql.ARRAY(kind))
        arrays.append(sa.func.unnest(bound))
    return insert.from_select(table.columns.keys(), sa.select(*arrays))


def unknown_tables(engine: Engine) -> list[str]:
    """Return the tables that differ from those known here, in MLflow or in the database."""
    inspector = sa.inspect(engine)
    return [name for name in KNOWN if not _is_known(name, [column["name"] for column in inspector.get_columns(name)])]


def _is_known(name: str, columns: list[str]) -> bool:
    table = Base.metadata.tables.get(name)
    return table is not None and _layout(table) == KNOWN[name] and set(columns) == set(table.columns.keys())


def _layout(table: sa.Table) -> tuple[str, str]:
    columns = " ".join(column.name + "?" * bool(column.nullable) for column in table.columns)
    return columns, " ".join(column.name for column in table.primary_key)


def _table(model: Any) -> sa.Table:
    table: sa.Table = model.__table__
    return table


def _upsert_latest(insert: Any, table: sa.Table) -> Any:
    """Return an insert that replaces a latest metric by a later one, by MLflow's order."""
    new = insert.excluded
    return insert.on_conflict_do_update(
        index_elements=table.primary_key,
        set_={name: new[name] for name in ("value", "timestamp", "step", "is_nan")},
        where=sa.tuple_(new.step, new.timestamp, new.value) > sa.tuple_(table.c.step, table.c.timestamp, table.c.value),
    )


def _tune(connection: sqlite3.Connection, _record: object) -> None:
    """Allow reads during writes to a SQLite file, and cache the ends of its indexes."""
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    with contextlib.suppress(sqlite3.OperationalError):  # locked by a reader; the next recorder tries again
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode == "wal":  # not every file system supports it
            connection.execute("PRAGMA synchronous = NORMAL")
