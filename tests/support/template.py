"""A database with MLflow's tables, made once a session and copied where MLflow would make them in a second or two."""

import functools
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from fcntl import LOCK_EX, flock
from pathlib import Path

import mlflow.store.db.utils as db_utils
import sqlalchemy as sa

from tests.support.commands import FRESH

_make_tables: Callable[[sa.Engine], None] = db_utils._initialize_tables
_latest_schema: Callable[[], str] = db_utils._get_latest_schema_revision


def use_template(path: str | Path) -> None:
    """Let MLflow copy its tables in this process from a SQLite file, which the first user of it creates."""
    template = Path(path)

    def copy_tables(engine: sa.Engine) -> None:
        if engine.dialect.name != "sqlite" or FRESH.items() <= os.environ.items():
            _make_tables(engine)
            return
        _make(template)
        with closing(sqlite3.connect(template)) as source, engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            source.backup(driver)

    db_utils._initialize_tables = copy_tables
    # Alembic would read all migrations at each opening of a store.
    db_utils._get_latest_schema_revision = functools.cache(_latest_schema)


def place(template: Path, database: Path) -> None:
    """Copy an empty store to a place that has none."""
    _make(template)
    database.parent.mkdir(parents=True)
    shutil.copy(template, database)


def _make(template: Path) -> None:
    with open(f"{template}.lock", "w") as lock:
        flock(lock, LOCK_EX)
        if template.exists():
            return
        making = template.with_suffix(".making")
        make_tables(f"sqlite:///{making}")
        making.rename(template)


def make_tables(uri: str) -> None:
    """Make MLflow's tables in an empty database, as MLflow does."""
    engine = db_utils.create_sqlalchemy_engine(uri)
    _make_tables(engine)
    engine.dispose()
