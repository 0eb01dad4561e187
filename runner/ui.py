"""MLflow's UI on the record: `python -m runner.ui`."""

import argparse
import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import FrameType

from runner.config.folders import check_working_directory
from runner.config.schema import URI
from runner.config.uris import DEFAULT_URI, absolute_uri, sqlite_path
from runner.messages.errors import UserError
from runner.messages.redaction import shown_text
from runner.recorder.relocation import follow

ARTIFACTS = Path("outputs/artifacts")
HOST = "127.0.0.1"
DEFAULT_PORT = 5000
NEAR = 100


def server_command(port: int, is_verbose: bool = False) -> list[str]:
    """Return the command that serves the UI on this machine only; with `is_verbose` it logs each request."""
    hosts = ",".join(f"{host}:{port}" for host in (HOST, "localhost"))
    return [
        sys.executable, "-m", "mlflow", "server",
        "--artifacts-destination", ARTIFACTS.absolute().as_uri(),
        "--host", HOST,
        "--port", str(port),
        "--allowed-hosts", hosts,
        "--cors-allowed-origins", ",".join(f"http://{host}" for host in hosts.split(",")),
        "--workers", "1",
        "--uvicorn-opts", "--log-level info" if is_verbose else "--log-level warning --no-access-log",
    ]  # fmt: skip


def port_problem(port: int) -> str | None:
    """Return why a port cannot be used, with a free one; None if it can."""
    try:
        _try(port)
    except PermissionError:
        reason = "this user may not use it"
    except OSError as error:
        reason = "taken by another process" if error.errno == errno.EADDRINUSE else f"{error.strerror}"
    else:
        return None
    return f"--port {port}: {reason}; free is --port {_free(port)}"


def _try(port: int) -> int:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server sets it
        listener.bind((HOST, port))
        found: int = listener.getsockname()[1]
        return found


def _free(port: int) -> int:
    for other in range(max(port, DEFAULT_PORT) + 1, min(max(port, DEFAULT_PORT) + NEAR, 2**16)):
        with contextlib.suppress(OSError):
            return _try(other)
    return _try(0)  # any free port


def _serve(command: list[str]) -> int:
    """Run the server until it exits or a signal ends it, and return the exit code; 0 after Ctrl-C."""
    received: list[int] = []
    servers: list[subprocess.Popen[bytes]] = []

    def end(number: int, _frame: FrameType | None = None) -> None:
        received.append(number)
        for server in servers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    # In a session of its own: it would print a traceback at Ctrl-C.
    with subprocess.Popen(command, start_new_session=True) as server:
        servers.append(server)
        if received:
            end(received[0])
        code = server.wait()
    for number, handler in before.items():
        signal.signal(number, handler)
    if not received:
        return code
    return 0 if received[0] == signal.SIGINT else 128 + received[0]


def main() -> None:
    """Serve the UI until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m runner.ui", description="Browse the record in MLflow's UI.")
    uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    parser.add_argument("--uri", default=uri, help=f"the database ({shown_text(uri)})".replace("%", "%%"))
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="of 127.0.0.1 (%(default)s)")
    parser.add_argument("--verbose", action="store_true", help="log each request")
    arguments = parser.parse_args()
    if not 0 < arguments.port < 2**16:
        parser.error(f"--port {arguments.port}: expected a whole number from 1 to {2**16 - 1}")
    shown = shown_text(arguments.uri)
    if not URI.accepts(arguments.uri):
        parser.error(f"--uri {shown}: expected {URI.allowed}")
    try:
        check_working_directory()
    except UserError as error:
        parser.error(f"{error}")
    path = sqlite_path(arguments.uri)
    if path is not None and not path.is_file():
        parser.error(f"--uri {shown}: no database there yet, expected one; a run creates it: python -m runner")
    if arguments.uri.startswith("http"):
        parser.error(f"--uri {shown}: expected a database; a server has its UI at its own address")
    if (reason := port_problem(arguments.port)) is not None:
        parser.error(reason)
    if path is not None:
        follow(path)
    # The URI may hold a password, which a command line would show to every user.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = absolute_uri(arguments.uri)
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
    if not arguments.verbose:
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("PYTHONWARNINGS", "ignore")
    print(f"open http://{HOST}:{arguments.port} (Ctrl-C ends it)", flush=True)
    command = server_command(arguments.port, arguments.verbose)
    code = _serve(command)
    if code != 0:
        sys.exit(code)


if __name__ == "__main__":
    main()
