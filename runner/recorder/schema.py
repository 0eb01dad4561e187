"""Whether a database is MLflow's own, and of a version that the MLflow here can use."""

import contextlib
import re
import sqlite3
from pathlib import Path
from urllib.parse import quote

import mlflow
import sqlalchemy as sa

from runner.recorder.errors import StoreError
from runner.recorder.mlflow_private import is_known_revision

# In every version of MLflow.
TABLES = {"experiments", "runs", "tags", "metrics", "params"}
BUSY_SECONDS = 5
SHOWN_TABLES = 3


def check_sqlite(path: Path) -> None:
    """Look at a database that is there, before MLflow makes its tables in it.

    Raises:
        StoreError: it cannot be read, which MLflow would try again for minutes, or it is something else's.
    """
    uri = f"file:{quote(str(path))}?mode=rw"
    try:
        with contextlib.closing(sqlite3.connect(uri, BUSY_SECONDS, uri=True)) as connection:
            found = connection.execute("select name from sqlite_master where type = 'table'").fetchall()
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):  # which MLflow waits for
            return
        raise StoreError(f"{path}: cannot be used as a database ({error})") from None
    tables = sorted(name for (name,) in found if not name.startswith("sqlite_"))
    if tables and not TABLES.issubset(tables):
        raise _foreign(str(path), tables)


def check_server(connection: sa.Connection) -> None:
    """Look at a database of a server, where MLflow may live beside others, but with no one else's schema version.

    Raises:
        StoreError: it is under the versions of something else.
    """
    tables = sorted(sa.inspect(connection).get_table_names())
    if "alembic_version" in tables and not TABLES.issubset(tables):
        raise _foreign(f"{connection.engine.url.database}", tables)


def _foreign(name: str, tables: list[str]) -> StoreError:
    shown = ", ".join(tables[:SHOWN_TABLES]) + (", ..." if len(tables) > SHOWN_TABLES else "")
    return StoreError(
        f"{name}: is a database of something else, with tables {shown}; expected one of MLflow's, or a new name"
    )


def describe_schema(text: str) -> str | None:
    """Return what to do where MLflow says that a database has another version's schema; None where it does not."""
    if "out-of-date database schema" not in text:
        return None
    found = re.search(r"found version (\w+)", text)
    revision = found[1] if found else "None"
    if revision == "None" or is_known_revision(revision):
        return "the database is of an older version's schema; back it up, then run 'mlflow db upgrade' on it"
    return (
        f"the database was written by a newer MLflow than {mlflow.__version__}, which is installed here (schema"
        f" {revision}); install that one, or record in another database"
    )
