"""Turns: of several processes on one study, one at a time asks for trials, so that there are not too many.

An Optuna storage gives each trial a number of its own, but two processes that count the trials at the same time would
both ask for the last ones.
"""

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, TypeAlias

from optuna.storages.journal import JournalFileOpenLock

from runner.tracking.files import lock

# Of the lock in a database; no other program is likely to use this one.
KEY = 1_734_633_842
Turns: TypeAlias = Callable[[], AbstractContextManager[None]]


class FileLock(JournalFileOpenLock):
    """A lock on a file, which is made if it is missing; it ends with its process, which may take it again.

    Optuna's own locks are files, which stay when a process is killed that has one: half a minute, and for ever where
    the path is relative.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._file: BinaryIO | None = None
        self._taken = 0

    def acquire(self) -> bool:
        """Wait for the lock."""
        if self._file is None:
            self._file = open(self._path, "ab")  # noqa: SIM115  # closed by `release`
            lock(self._file, fcntl.LOCK_EX)
        self._taken += 1
        return True

    def release(self) -> None:
        """Release the lock."""
        self._taken -= 1
        if self._taken == 0 and self._file is not None:
            self._file.close()
            self._file = None

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Have the lock until the context ends."""
        self.acquire()
        try:
            yield
        finally:
            self.release()


def turns_by_database(url: str) -> Turns:
    """Return turns by a lock of a database; of one without such locks, turns that do not wait."""
    import sqlalchemy

    parsed = sqlalchemy.make_url(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
        # Not the database itself: to close it would end SQLite's own locks.
        return FileLock(Path(f"{parsed.database}.turn")).turn
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
