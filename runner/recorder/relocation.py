"""Moved or copied working directories: paths into `outputs/` are rewritten for the new place.

MLflow stores absolute paths of artifacts. Everything under an `outputs/` belongs to the working directory above it, so
a database or journal that names the `outputs/` of another directory was once in that directory.
"""

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from runner.config.uris import sqlite_path, sqlite_uri
from runner.tracking.journal import Open

OUTPUTS = "outputs"
# The last such folder in a path, and the rest.
PLACE = re.compile(rf"(?P<above>.*)/{OUTPUTS}/(?P<within>.*)")
BUSY_SECONDS = 60


def outputs_of(path: Path | str) -> Path | None:
    """Return the `outputs/` that contains a path, or None."""
    match = PLACE.fullmatch(f"{path}/")
    return Path(match["above"] or "/", OUTPUTS) if match else None


def follow(database: Path) -> None:
    """Rewrite the paths of artifacts in a SQLite database that was moved together with its `outputs/`."""
    outputs = outputs_of(database)
    if outputs is None or not database.is_file() or database.is_symlink():
        return
    # A file that is not MLflow's database, or is not writable, is reported when it is opened.
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(database, BUSY_SECONDS, isolation_level=None)) as connection,
    ):
        locations = connection.execute("select distinct artifact_location from experiments").fetchall()
        for location in sorted({text for (text,) in locations if text is not None and _local(text) is not None}):
            _follow(connection, location.rstrip("/"), outputs)


def _follow(connection: sqlite3.Connection, location: str, outputs: Path) -> None:
    old = _local(location)
    old_outputs = None if old is None else outputs_of(old)
    if old is None or old_outputs is None or old_outputs == outputs or ".." in old.parts:
        return
    new = outputs / old.relative_to(old_outputs)
    moved = new.as_uri() if location.startswith("file:") else str(new)
    connection.execute("begin immediate")
    rows = connection.execute("select run_uuid, artifact_uri from runs where artifact_uri is not null")
    runs = {run_id: uri for run_id, uri in rows if uri.startswith(f"{location}/")}
    here, there = set(_names(new)), set(_names(old))
    if there and not here & runs.keys():  # artifacts that were never in this folder
        connection.execute("rollback")
        return
    connection.execute(
        "update experiments set artifact_location = ? where rtrim(artifact_location, '/') = ?", (moved, location)
    )
    connection.executemany(
        "update runs set artifact_uri = ? where run_uuid = ?",
        [(moved + uri[len(location) :], run_id) for run_id, uri in runs.items() if run_id not in there - here],
    )
    connection.execute("commit")


def _names(folder: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield from (path.name for path in folder.iterdir())


def _local(uri: str) -> Path | None:
    """Return the path of an artifact location; None if it is not a local path."""
    if uri.startswith("/"):
        return Path(uri)
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme == "file" and parts.netloc in ("", "localhost") else None


def followed(opening: Open, journal: Path) -> Open:
    """Return where to record a journal that was moved together with its `outputs/`: in the new place."""
    outputs = outputs_of(journal.absolute())
    old_outputs = None if opening.artifacts is None else outputs_of(opening.artifacts)
    if outputs is None or old_outputs is None or old_outputs == outputs:
        return opening
    database = sqlite_path(opening.uri)
    uri = opening.uri
    if database is not None and outputs_of(database) == old_outputs:
        uri = sqlite_uri(outputs / database.relative_to(old_outputs))
    return replace(opening, uri=uri, artifacts=str(outputs / Path(str(opening.artifacts)).relative_to(old_outputs)))
