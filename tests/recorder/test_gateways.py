"""Servers behind gateways that require a token, a user or a certificate, or serve under a path."""

import base64
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests.conftest import Command
from tests.support.servers import Forwarding, Server

pytestmark = pytest.mark.xdist_group("server")  # one worker runs them all, and starts the server once
USER = {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "p@ss:word"}
BASIC = f"Basic {base64.b64encode(b'me:p@ss:word').decode()}"


class Guard(ThreadingHTTPServer):
    """Forwards valid requests to a server."""

    daemon_threads = True

    def __init__(self, upstream: str, authorization: str | None = None, prefix: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Guarding)
        self.upstream = upstream
        self.authorization = authorization
        self.prefix = prefix
        self.mood = "well"
        self.refused = 0


class Guarding(Forwarding):
    """Refuses unauthorized requests, other paths, and `/health`, which many such gateways do not have."""

    server: "Guard"  # type: ignore[assignment]

    def do_PATCH(self) -> None:  # noqa: N802  # the base class's name
        self._forward()

    def do_DELETE(self) -> None:  # noqa: N802
        self._forward()

    def _forward(self) -> None:
        if self.server.authorization not in (None, self.headers.get("Authorization")):
            self.send_error(401)
        elif not self.path.startswith(f"{self.server.prefix}/api/"):
            self.send_error(404)
        else:
            self.path = self.path.removeprefix(self.server.prefix)
            super()._forward()


@contextmanager
def guarding(guard: Guard, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve, and return the address."""
    if context is not None:
        guard.socket = context.wrap_socket(guard.socket, server_side=True)
    threading.Thread(target=guard.serve_forever, daemon=True).start()
    yield f"http{'s' if context else ''}://127.0.0.1:{guard.server_address[1]}{guard.prefix}"
    guard.shutdown()


@dataclass(frozen=True)
class Certificates:
    """Self-signed certificates of a gateway and of its client."""

    server: Path
    client: Path

    def context(self, asks: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server)
        if asks:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.client)
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("server", "client"):
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
        command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{name}.key", "-out", f"{name}.crt"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        both = (folder / f"{name}.key").read_text() + (folder / f"{name}.crt").read_text()
        (folder / f"{name}.pem").write_text(both)
    return Certificates(folder / "server.pem", folder / "client.pem")


def record(runner: Command, server: Server, uri: str, **env: str) -> tuple[int, str]:
    done = runner("tracking=server", f"tracking.experiment='{server.experiment}'", "steps=3", "name=one",
                  MLFLOW_TRACKING_URI=uri, **env)  # fmt: skip
    return done.code, done.err


def is_recorded(server: Server) -> bool:
    """Return whether the run is in the record, its artifact included."""
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name(server.experiment)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    files = [file.path for file in client.list_artifacts(run.info.run_id)]
    return run.info.status == "FINISHED" and "config.yaml" in files


@pytest.mark.parametrize(
    ("authorization", "env", "user"),
    [
        ("Bearer abc", {"MLFLOW_TRACKING_TOKEN": "abc"}, ""),
        (BASIC, USER, ""),
        (BASIC, {}, "me:p%40ss%3Aword@"),
    ],
)
def test_runs_are_recorded_on_an_authenticating_server(
    runner: Command, server: Server, authorization: str, env: dict[str, str], user: str
) -> None:  # fmt: skip
    with guarding(Guard(server.uri, authorization, prefix="/team/mlflow")) as uri:
        assert record(runner, server, uri.replace("://", f"://{user}"), **env) == (0, "")
    assert is_recorded(server)


def test_denied_access_is_explained_and_creates_no_file(runner: Command, server: Server) -> None:
    with guarding(Guard(server.uri, "Bearer abc")) as uri:
        code, err = record(runner, server, uri.replace("://", "://me:secret@"))
    assert code == 2
    assert err.startswith(f"error: tracking.uri={uri.replace('://', '://***@')}: answers 401 Unauthorized: expected ")
    assert err.count("\n") == 1
    assert "secret" not in err
    assert list(runner.folder.iterdir()) == []


@pytest.mark.parametrize("way", ["trusted", "unchecked", "both"])
def test_runs_are_recorded_on_a_server_with_a_private_certificate(
    runner: Command, server: Server, certificates: Certificates, way: str
) -> None:  # fmt: skip
    trusted = {"MLFLOW_TRACKING_SERVER_CERT_PATH": str(certificates.server)}
    env = {
        "trusted": trusted,
        "unchecked": {"MLFLOW_TRACKING_INSECURE_TLS": "true"},
        "both": trusted | {"MLFLOW_TRACKING_CLIENT_CERT_PATH": str(certificates.client)},
    }[way]
    with guarding(Guard(server.uri), certificates.context(asks=way == "both")) as uri:
        assert record(runner, server, uri, **env) == (0, "")
    assert is_recorded(server)


@pytest.mark.parametrize("asks", [False, True])
def test_a_missing_certificate_is_reported_in_a_line(
    runner: Command, server: Server, certificates: Certificates, asks: bool
) -> None:  # fmt: skip
    env = {"MLFLOW_TRACKING_SERVER_CERT_PATH": str(certificates.server)} if asks else {}
    with guarding(Guard(server.uri), certificates.context(asks)) as uri:
        code, err = record(runner, server, uri, **env)
    assert (code, err.count("\n")) == (2, 1)
    assert f"MLFLOW_TRACKING_{'CLIENT' if asks else 'SERVER'}_CERT_PATH" in err
    assert list(runner.folder.iterdir()) == []


def test_a_replay_authenticates_like_a_run(runner: Command, server: Server) -> None:
    guard = Guard(server.uri, "Bearer abc")
    guard.mood = "ill"
    with guarding(guard) as uri:
        env = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_TRACKING_TOKEN": "abc"}
        where = ["tracking=server", f"tracking.experiment='{server.experiment}'", "tracking.offline=spool"]
        assert runner(*where, "steps=3", "name=one", **env).code == 0
        guard.mood = "well"
        refused = runner(module="runner.replay", MLFLOW_TRACKING_URI=uri)
        assert (refused.code, "answers 401" in refused.err) == (1, True)
        assert runner(module="runner.replay", **env).code == 0
    assert is_recorded(server)


def test_a_server_that_is_not_mlflow_is_reported_in_a_line(runner: Command, server: Server) -> None:
    with guarding(Guard(server.uri, prefix="/elsewhere")) as uri:
        code, err = record(runner, server, uri.removesuffix("/elsewhere"))
    assert (code, err.count("\n")) == (2, 1)
    assert "answers 404 Not Found, not as MLflow does: expected the address of an MLflow server" in err
