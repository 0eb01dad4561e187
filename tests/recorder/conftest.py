"""Stores that are opened in the tests' own process, and a server."""

import signal
from pathlib import Path

import pytest

from tests.support.servers import Server
from tests.support.template import use_template


@pytest.fixture(scope="package", autouse=True)
def _tables(template: Path) -> None:
    use_template(template)


@pytest.fixture
def server(shared_server: Server, request: pytest.FixtureRequest) -> Server:
    """Give the server, running, with an experiment of the test's own."""
    if shared_server.process is None:
        shared_server.start()
    shared_server.signal(signal.SIGCONT)
    shared_server.experiment = request.node.name
    return shared_server
