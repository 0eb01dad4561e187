"""Checks that what was written is still in the database: it may be removed or replaced during a run."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import sqlalchemy as sa

from runner.config.uris import sidecar_files, sqlite_path
from runner.recorder.errors import RecordLostError
from runner.recorder.mlflow_private import models

IDS_A_QUERY = 500
OF_ANOTHER_DATABASE = ("no such table", "malformed", "not a database")
Identity = tuple[int, int]


@dataclass(frozen=True)
class Last:
    """The last step that was written of a run, and whether its end was written."""

    step: int = -1
    has_ended: bool = False


@dataclass
class DatabaseFile:
    """The identity of a SQLite file when it was opened."""

    path: Path
    identity: Identity
    size: int
    _sidecars: dict[Path, Identity] = field(default_factory=dict)

    @classmethod
    def of(cls, uri: str) -> Self | None:
        """Return the existing file of a SQLite URI; None for another kind of store."""
        path = sqlite_path(uri)
        if path is None:
            return None
        found = path.stat()
        return cls(path, (found.st_dev, found.st_ino), found.st_size)

    def check(self) -> None:
        """Check that the file is the same, and not shorter.

        Raises:
            RecordLostError: it was removed, replaced or emptied.
        """
        found = self._found()
        loss = self._loss(found)
        if loss is not None:
            self._remove_logs()
            raise RecordLostError(f"{self.path}: the database was {loss} while runs were recorded in it")
        assert found is not None
        self.size = found.st_size
        for sidecar in sidecar_files(self.path):
            with contextlib.suppress(OSError):
                self._sidecars[sidecar] = _identity(sidecar)

    def _found(self) -> os.stat_result | None:
        try:
            return self.path.stat()
        except OSError:
            return None

    def _loss(self, found: os.stat_result | None) -> str | None:
        """Return how the database was removed, replaced or truncated; None if it was not."""
        if found is None:
            return "removed"
        if (found.st_dev, found.st_ino) != self.identity:
            return "replaced"
        return "emptied" if found.st_size < self.size else None

    def _remove_logs(self) -> None:
        """Remove the logs of a removed database, which SQLite would apply to the next one."""
        for sidecar, known in self._sidecars.items():
            with contextlib.suppress(OSError):
                if _identity(sidecar) == known:
                    sidecar.unlink()


def remove_sidecar_files(path: Path) -> None:
    """Remove the logs of a removed database, which SQLite would apply to the next one."""
    for sidecar in sidecar_files(path):
        sidecar.unlink(missing_ok=True)


def _identity(path: Path) -> Identity:
    found = path.lstat()
    return found.st_dev, found.st_ino


def lost_run(run_id: str) -> RecordLostError:
    """Return the error for a run that is missing or changed."""
    return RecordLostError(f"run {run_id}: was recorded, and is now missing or changed")


def check_rows(url: sa.URL, expected: Mapping[str, Last]) -> None:
    """Check with a new connection that runs are in a database as they were last written.

    Raises:
        RecordLostError: a run is missing or changed.
    """
    ids = list(expected)
    try:
        with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
            for start in range(0, len(ids), IDS_A_QUERY):
                _check_some(connection, ids[start : start + IDS_A_QUERY], expected)
    except sa.exc.DatabaseError as error:
        if any(sign in str(error.orig) for sign in OF_ANOTHER_DATABASE):
            raise RecordLostError(f"the database was replaced while runs were recorded in it: {error.orig}") from None
        raise


def _check_some(connection: sa.Connection, ids: list[str], expected: Mapping[str, Last]) -> None:
    runs = models.SqlRun.__table__
    query = sa.select(runs.c.run_uuid, runs.c.status).where(runs.c.run_uuid.in_(ids))
    statuses: dict[str, str] = {row.run_uuid: row.status for row in connection.execute(query)}
    steps = [_last_steps(connection, model.__table__, ids) for model in (models.SqlLatestMetric, models.SqlMetric)]
    for run_id in ids:
        is_there = run_id in statuses and not (expected[run_id].has_ended and statuses[run_id] == "RUNNING")
        if not is_there or any(found.get(run_id, -1) < expected[run_id].step for found in steps):
            raise lost_run(run_id)


def _last_steps(connection: sa.Connection, table: sa.Table, ids: list[str]) -> dict[str, int]:
    query = sa.select(table.c.run_uuid, sa.func.max(table.c.step).label("last")).where(table.c.run_uuid.in_(ids))
    return {row.run_uuid: row.last for row in connection.execute(query.group_by(table.c.run_uuid))}
