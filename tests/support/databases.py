"""Stores for tests: an empty database, a PostgreSQL server, and an MLflow server."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.servers import Server, serving

PATIENCE = 30


def _tool(name: str) -> str | None:
    """Return the path of a PostgreSQL program, which Debian does not put on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name)


def _as_owner() -> dict[str, int]:
    """Return the user that the server runs as: it refuses to run as root."""
    if os.getuid() != 0:
        return {}
    owner = pwd.getpwnam("postgres")
    return {"user": owner.pw_uid, "group": owner.pw_gid}


@pytest.fixture(scope="session")
def postgresql(empty_postgresql: Callable[..., str]) -> Callable[[str], str]:
    """Return a function that creates a database of a name, with MLflow's tables, and returns its URI."""
    from tests.support.template import make_tables

    template = "tables"
    make_tables(empty_postgresql(template))
    return lambda name: empty_postgresql(name, template)


@pytest.fixture(scope="session")
def empty_postgresql() -> Iterator[Callable[..., str]]:
    """Return a function that creates a database of a name, empty or from a template, and returns its URI."""
    initdb, server = _tool("initdb"), _tool("postgres")
    if initdb is None or server is None:
        if os.environ.get("CI"):
            raise RuntimeError("PostgreSQL is missing: .ci/run installs it")
        pytest.skip("PostgreSQL is not installed")
    psycopg = pytest.importorskip("psycopg")
    folder = Path(f"/tmp/runner-postgresql-{os.getpid()}")  # a socket's path must be short, and its owner's
    folder.mkdir()
    owner = _as_owner()
    if owner:
        os.chown(folder, owner["user"], owner["group"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    data = str(folder / "data")
    subprocess.run([initdb, "-D", data, "-A", "trust", "-U", "tester"], check=True, **owner, **quiet)  # type: ignore[call-overload]
    options = ["-D", data, "-p", str(port), "-k", str(folder), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    process = subprocess.Popen([server, *options], **owner, **quiet)  # type: ignore[call-overload]
    uri = f"postgresql://tester@127.0.0.1:{port}"

    def database(name: str, template: str = "template1") -> str:
        connection = psycopg.connect(f"{uri}/postgres")
        connection.autocommit = True
        connection.cursor().execute(f'create database "{name}" template "{template}"')
        connection.close()
        return f"{uri}/{name}"

    def answers() -> bool:
        try:
            psycopg.connect(f"{uri}/postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    deadline = time.monotonic() + PATIENCE
    while not answers():
        assert time.monotonic() < deadline, "PostgreSQL did not start"
        time.sleep(0.05)
    yield database
    process.send_signal(signal.SIGINT)  # SIGTERM would wait for every client
    process.wait()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def _empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from runner.recorder.opening import open_store

    folder = tmp_path_factory.mktemp("empty")
    open_store({"uri": f"sqlite:///{folder}/mlflow.db", "artifacts": None, "again": False}).close()
    return folder


@pytest.fixture
def folder(_empty_store: Path, tmp_path: Path) -> Path:
    """Give a folder with an empty database of MLflow's, which takes a second to make."""
    return Path(shutil.copytree(_empty_store, tmp_path / "store"))


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give an MLflow server over SQLite."""
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, f"sqlite:///{folder}/server.db") as server:
        yield server
