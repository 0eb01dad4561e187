"""Checks that a database is MLflow's, and of a schema that this MLflow can use."""

import contextlib
import re
import sqlite3
from pathlib import Path
from urllib.parse import quote

import mlflow
import sqlalchemy as sa

from runner.recorder.errors import StoreError
from runner.recorder.mlflow_private import is_known_revision

# Tables of every version of MLflow.
TABLES = {"experiments", "runs", "tags", "metrics", "params"}
BUSY_SECONDS = 5
SHOWN_TABLES = 3


def check_sqlite(path: Path) -> None:
    """Check an existing database before MLflow creates its tables in it.

    Raises:
        StoreError: it cannot be read, which MLflow would retry for minutes, or it belongs to another program.
    """
    uri = f"file:{quote(str(path))}?mode=rw"
    try:
        with contextlib.closing(sqlite3.connect(uri, BUSY_SECONDS, uri=True)) as connection:
            found = connection.execute("select name from sqlite_master where type = 'table'").fetchall()
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):  # MLflow waits for the lock
            return
        raise StoreError(f"{path}: cannot be used as a database ({error})") from None
    tables = sorted(name for (name,) in found if not name.startswith("sqlite_"))
    if tables and not TABLES.issubset(tables):
        raise _foreign(str(path), tables)


def check_server(connection: sa.Connection) -> None:
    """Check a database on a server, where other tables may exist, but not with a schema version of their own.

    Raises:
        StoreError: another program versions its schema there.
    """
    tables = sorted(sa.inspect(connection).get_table_names())
    if "alembic_version" in tables and not TABLES.issubset(tables):
        raise _foreign(f"{connection.engine.url.database}", tables)


def _foreign(name: str, tables: list[str]) -> StoreError:
    shown = ", ".join(tables[:SHOWN_TABLES]) + (", ..." if len(tables) > SHOWN_TABLES else "")
    return StoreError(
        f"{name}: is a database of another program, with tables {shown}; expected one of MLflow's, or a new name"
    )


def describe_schema(text: str) -> str | None:
    """Return what to do if MLflow reports the schema of another version; None if it does not."""
    if "out-of-date database schema" not in text:
        return None
    found = re.search(r"found version (\w+)", text)
    revision = found[1] if found else "None"
    if revision == "None" or is_known_revision(revision):
        return "the database has the schema of an older MLflow; back it up, then run 'mlflow db upgrade' on it"
    return (
        f"the database was written by a newer MLflow than {mlflow.__version__}, which is installed here (schema"
        f" {revision}); install that one, or record in another database"
    )
