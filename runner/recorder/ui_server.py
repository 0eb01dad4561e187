"""MLflow's server on the record, for this machine only: its command, its port, and its life."""

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import FrameType

ARTIFACTS = Path("outputs/artifacts")
HOST = "127.0.0.1"
# At a name that is none of localhost's usual ones, MLflow's UI does not open its assistant.
NAME = "runner.localhost"
NEAR = 100
ANSWER_SECONDS = 0.1
# Ports that browsers refuse to open, of those that a user may serve at.
REFUSED = {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, *range(6665, 6670), 6679, 6697, 10080}


def server_command(port: int, is_verbose: bool = False) -> list[str]:
    """Return the command that serves the UI on this machine only; with `is_verbose` it logs each request."""
    hosts = ",".join(f"{host}:{port}" for host in (HOST, "localhost", NAME))
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


def address(port: int) -> str:
    """Return the address to open: by a name at which the assistant stays shut, where this machine knows it."""
    try:
        host = NAME if socket.gethostbyname(NAME) == HOST else HOST
    except OSError:
        host = HOST
    return f"http://{host}:{port}"


def port_problem(port: int, default: int) -> str | None:
    """Return why a port cannot be used, with a free one after it or after `default`; None if it can."""
    reason = "browsers refuse to open it" if port in REFUSED else _refusal(port)
    return None if reason is None else f"--port {port}: {reason}; free is --port {_free(max(port, default))}"


def _refusal(port: int) -> str | None:
    """Return why the system does not give a port; None if it does."""
    try:
        _try(port)
    except PermissionError:
        return "this user may not use it"
    except OSError as error:
        return "taken by another process" if error.errno == errno.EADDRINUSE else f"{error.strerror}"
    return None


def _try(port: int) -> int:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server sets it
        listener.bind((HOST, port))
        found: int = listener.getsockname()[1]
        return found


def _free(after: int) -> int:
    for other in range(after + 1, min(after + NEAR, 2**16)):
        with contextlib.suppress(OSError):
            if other not in REFUSED:
                return _try(other)
    return _try(0)  # any free port


def serve(command: list[str], port: int, environment: dict[str, str], when_ready: Callable[[], None]) -> int:
    """Run the server until it exits or a signal ends it, and return the exit code; 0 after Ctrl-C.

    Once it answers, `when_ready` is called.
    """
    received: list[int] = []
    servers: list[subprocess.Popen[bytes]] = []

    def end(number: int, _frame: FrameType | None = None) -> None:
        received.append(number)
        for server in servers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    # In a session of its own: it would print a traceback at Ctrl-C.
    with subprocess.Popen(command, start_new_session=True, env=environment) as server:
        servers.append(server)
        if received:
            end(received[0])
        if _has_answered(server, port):
            when_ready()
        code = server.wait()
    for number, handler in before.items():
        signal.signal(number, handler)
    if not received:
        return code
    return 0 if received[0] == signal.SIGINT else 128 + received[0]


def _has_answered(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the server answers; return False if it exits before."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while server.poll() is None:
        with contextlib.suppress(OSError), direct.open(f"http://{HOST}:{port}/health", timeout=5):
            return True
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(ANSWER_SECONDS)
    return False
