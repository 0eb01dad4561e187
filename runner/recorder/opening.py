"""Opening a store: checks that it can be reached, locks its first use, and explains why it cannot be used."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import sqlalchemy as sa
from mlflow.tracking import MlflowClient

from runner.config.uris import IN_MEMORY, absolute_uri, is_in_memory, sidecar_files, sqlite_path, sqlite_uri
from runner.messages.redaction import shown_text
from runner.recorder.bulk import BulkStore, is_known
from runner.recorder.errors import StoreError, UnreachableError
from runner.recorder.mlflow_private import make_no_folders, make_tables, set_artifact_root, store_of
from runner.recorder.reachability import unreachable
from runner.recorder.relocation import follow
from runner.recorder.schema import check_server, check_sqlite, describe_schema
from runner.recorder.server import ServerStore, check
from runner.recorder.store import Store
from runner.recorder.verification import DatabaseFile, remove_sidecar_files
from runner.tracking.files import is_output, lock, open_file, open_to_read, refuse_link, share

# The number of the runner's advisory lock in PostgreSQL, which no other program is likely to use.
LOCK_NUMBER = 0x6472756E
FIRST_USE_SECONDS = 60


def prepared(settings: dict[str, Any]) -> bool:
    """Return whether the store exists: it is a server, or a database with tables."""
    path = sqlite_path(settings["uri"])
    if path is None:
        return True
    return path.is_file() and path.stat().st_size > 0


def open_store(settings: dict[str, Any]) -> Store:
    """Open the tracking store; a missing database is created.

    Raises:
        UnreachableError: the store does not answer.
        StoreError: the store has another schema, or cannot be created.
    """
    if not settings.get("is_reached") and (reason := unreachable(settings["uri"])) is not None:
        raise UnreachableError(f"tracking.uri={shown_text(settings['uri'])}: {reason}")
    if is_in_memory(settings["uri"]):
        raise StoreError(f"tracking.uri={settings['uri']}: {IN_MEMORY}")
    uri = absolute_uri(settings["uri"])
    if uri.startswith("http"):
        return _open_server(uri, settings["again"])
    artifacts = None if settings["artifacts"] is None else Path(settings["artifacts"]).absolute().as_uri()
    if artifacts is not None:
        # Without it, MLflow creates a folder ./mlruns for its default experiment.
        set_artifact_root(artifacts)
    try:
        with _first_use(uri):
            if (path := sqlite_path(uri)) is not None:
                follow(path)
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)
    except Exception as error:
        raise StoreError(f"tracking.uri={shown_text(uri)}: {describe_error(error, uri)}") from error
    store = (BulkStore if is_known(client) else Store)(client, artifacts, settings["again"])
    if not isinstance(store, BulkStore):
        store.warning = "the tables of this MLflow are not known here: recording row by row, slowly"
    store.file = DatabaseFile.of(uri)
    return store


def _open_server(uri: str, may_have_begun: bool) -> Store:
    try:
        check(uri)
        return ServerStore(MlflowClient(uri), None, may_have_begun)
    except Exception as error:
        kind = type(error) if isinstance(error, StoreError) else StoreError
        raise kind(f"tracking.uri={shown_text(uri)}: {describe_error(error, uri)}") from error


@contextlib.contextmanager
def _first_use(uri: str) -> Iterator[None]:
    """Lock the first use of a database: MLflow would let two processes create its tables at once."""
    path = sqlite_path(uri)
    if path is None:
        with _postgresql_lock(uri) if uri.startswith("postgresql") else contextlib.nullcontext():
            yield
        return
    make_no_folders()
    with _lock_file(path.with_name(f"{path.name}.lock")) as file:
        lock(file, fcntl.LOCK_EX)
        for name in (*([path] if is_output(path) else []), *sidecar_files(path)):
            refuse_link(name)
        if not path.exists() or path.stat().st_size == 0:
            _create(path)
        check_sqlite(path)
        yield


def _lock_file(path: Path) -> BinaryIO:
    try:
        file = open_file(path, os.O_RDWR | os.O_CREAT)
    except PermissionError:
        if not path.exists():
            raise
        file = open_to_read(path)  # of another user; read access is enough to lock it
    return open(file, "rb")


@contextlib.contextmanager
def _postgresql_lock(uri: str) -> Iterator[None]:
    engine = sa.create_engine(uri)
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text(f"SET lock_timeout = '{FIRST_USE_SECONDS}s'"))
            connection.execute(sa.text(f"SELECT pg_advisory_lock({LOCK_NUMBER})"))
            check_server(connection)
            yield
    finally:
        engine.dispose()


def _create(path: Path) -> None:
    """Create a SQLite database under another name and rename it, so that a kill leaves no partial one."""
    making = path.with_name(f"{path.name}.making")
    for left in making.parent.glob(f"{making.name}*"):
        left.unlink()
    remove_sidecar_files(path)
    make_tables(sqlite_uri(making))
    client = MlflowClient(sqlite_uri(making))
    client.search_experiments(max_results=1)
    store_of(client).engine.dispose()
    share(making)
    making.replace(path)


def describe_error(error: BaseException, uri: str) -> str:
    """Return an error in one line, without the password of the URI."""
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    if (advice := describe_schema(text)) is not None:
        return advice
    line = shown_text(" ".join(text.split()).replace(uri, shown_text(uri)))
    return line[:300] or type(error).__name__
