"""Stores that are opened in the tests' own process, and a server that tests share."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import Server, serving
from tests.support.template import use_template


@pytest.fixture(scope="package", autouse=True)
def _tables(template: Path) -> None:
    use_template(template)


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, f"sqlite:///{folder}/server.db") as server:
        yield server


@pytest.fixture
def server(shared_server: Server, request: pytest.FixtureRequest) -> Server:
    """Give the server, running, with an experiment of the test's own."""
    if shared_server.process is None:
        shared_server.start()
    shared_server.signal(signal.SIGCONT)
    shared_server.experiment = request.node.name
    return shared_server
