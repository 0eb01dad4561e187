"""Turns: of several processes on one study, one at a time asks for trials, so that there are not too many.

An Optuna storage gives each trial a number of its own, but two processes that count the trials at the same time would
both ask for the last ones.
"""

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

from runner.tracking.files import lock

# Of the lock in a database; no other program is likely to use this one.
KEY = 1_734_633_842
Turns: TypeAlias = Callable[[], AbstractContextManager[None]]


def turns_by_file(path: Path) -> Turns:
    """Return turns by a lock on a file, which is made if it is missing."""

    @contextlib.contextmanager
    def turn() -> Iterator[None]:
        with open(path, "ab") as file:
            lock(file, fcntl.LOCK_EX)
            yield

    return turn


def turns_by_database(url: str) -> Turns:
    """Return turns by a lock of a database; of one without such locks, turns that do not wait."""
    import sqlalchemy

    parsed = sqlalchemy.make_url(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
        # Not the database itself: to close it would end SQLite's own locks.
        return turns_by_file(Path(f"{parsed.database}.turn"))
    statements = {
        "postgresql": ("SELECT pg_advisory_lock(:key)", "SELECT pg_advisory_unlock(:key)"),
        "mysql": ("SELECT GET_LOCK(:key, -1)", "SELECT RELEASE_LOCK(:key)"),
    }
    if backend not in statements:
        return contextlib.nullcontext
    begin, end = map(sqlalchemy.text, statements[backend])
    key = {"key": KEY}
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT")

    @contextlib.contextmanager
    def turn() -> Iterator[None]:
        with engine.connect() as connection:
            connection.execute(begin, key)
            try:
                yield
            finally:
                connection.execute(end, key)

    return turn
