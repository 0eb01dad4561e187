"""A real MLflow server, and proxies in front of it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tests.support.processes import wait_until

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient


@dataclass
class Server:
    """An MLflow server on a port of its own, over SQLite."""

    folder: Path
    port: int
    backend: str
    experiment: str = "descent"
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", self.backend,
            "--artifacts-destination", str(self.folder / "artifacts"),
        ]  # fmt: skip
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, cwd=self.folder, env=os.environ | quiet
            )
        wait_until(self.answers)

    def answers(self) -> bool:
        try:
            with urlopen(f"{self.uri}/health", timeout=1):
                return True
        except (URLError, OSError):
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)
        if number is signal.SIGKILL:
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def serving(folder: Path, backend: str) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Server(folder, port, backend)
    server.start()
    try:
        yield server
    finally:
        if server.process is not None:
            server.signal(signal.SIGKILL)


def to(server: Server, uri: str | None = None) -> list[str]:
    return ["tracking=server", f"tracking.uri={uri or server.uri}", f"tracking.experiment='{server.experiment}'"]


def client_of(server: Server) -> "MlflowClient":
    from mlflow.tracking import MlflowClient  # some tests run without it

    return MlflowClient(server.uri)


def runs_of(server: Server, condition: str = "") -> "list[Run]":
    client = client_of(server)
    experiment = client.get_experiment_by_name(server.experiment)
    return [] if experiment is None else list(client.search_runs([experiment.experiment_id], condition))


def statuses(server: Server) -> dict[str, str]:
    return {str(run.info.run_name): run.info.status for run in runs_of(server)}


def losses(server: Server, name: str) -> list[int]:
    (run,) = runs_of(server, f"attributes.run_name = '{name}'")
    history = client_of(server).get_metric_history(run.info.run_id, "loss")
    return sorted(metric.step for metric in history)


class Gateway(ThreadingHTTPServer):
    """A proxy in front of a server that for a while answers 500 or not at all."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), Forwarding)
        self.upstream = upstream
        self.mood = "well"
        self.refused = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Forwarding(BaseHTTPRequestHandler):
    """Forwards a request to the server."""

    server: Gateway

    def do_GET(self) -> None:  # the base class's name
        self._forward()

    def do_POST(self) -> None:
        self._forward()

    def do_PUT(self) -> None:
        self._forward()

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.mood != "well":
            self.server.refused += 1
        if self.server.mood == "hanging":
            time.sleep(15)
        is_ill_now = self.server.mood == "ill but said to be well" and self.path != "/health"
        if self.server.mood == "ill" or is_ill_now:
            self.send_error(500)
            return
        if self.server.mood == "refusing":
            self.send_error(403)
            return
        headers = {key: value for key, value in self.headers.items() if key.lower() not in ("host", "content-length")}
        request = Request(self.server.upstream + self.path, body or None, headers, method=self.command)
        try:
            with urlopen(request, timeout=30) as answer:
                status, content = answer.status, answer.read()
        except HTTPError as error:
            status, content = error.code, error.read()
        if self.server.mood == "losing answers" and self.path.endswith("/runs/create"):
            self.server.mood = "well"
            self.send_error(502)
            return
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Print nothing."""
