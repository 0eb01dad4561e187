"""Commands as forks of a process that has imported everything: see `forking/sitecustomize.py`."""

import contextlib
import io
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
FORKING = Path(__file__).parent / "forking"
SETTINGS = "RUNNER_TESTS_FORKING"
# What Python, or a library that is imported already, reads from the environment only at its start.
READ_AT_START = ("PYTHON", "COVERAGE_", "KMP_", "LANG", "LC_", "LD_", "MKL_", "MLFLOW_LOGGING", "OMP_", "TORCH_")
MODULES = ("runner", "runner.delete", "runner.reap", "runner.replay")
LIMIT = 2**16


@dataclass
class Forks:
    """A process whose children are commands.

    Attributes:
        template: the SQLite file that its children take MLflow's tables from.
    """

    template: Path
    _env: Mapping[str, str] = field(default_factory=lambda: os.environ | {"PYTHONPATH": str(ROOT)})
    _requests: socket.socket | None = None
    _process: "subprocess.Popen[bytes] | None" = None

    def can_run(self, module: str, arguments: Sequence[str], env: Mapping[str, str]) -> bool:
        """Return whether a fork runs a command as a new Python would."""
        return (
            sys.platform == "linux"
            and module in MODULES
            and _read_at_start(env) == _read_at_start(self._env)
            and sum(map(len, arguments)) < LIMIT
        )

    def run(
        self, module: str, arguments: Sequence[str], folder: Path, env: Mapping[str, str], timeout: float
    ) -> tuple[int, str, str]:
        """Run a command to its end and return its exit code and what it has printed.

        Raises:
            TimeoutError: it has not ended in time, and is killed.
        """
        request = {"module": module, "arguments": arguments, "cwd": str(folder), "env": dict(env)}
        pipes = [os.pipe() for _ in range(3)]
        with open(os.devnull) as nothing:
            streams = [nothing.fileno(), *(write for _, write in pipes)]
            socket.send_fds(self._started(), [json.dumps(request).encode()], streams)
        for _, write in pipes:
            os.close(write)
        out, err, reply = _read([read for read, _ in pipes], timeout)
        return int(reply.split()[1]), out, err

    def __enter__(self) -> "Forks":
        return self

    def __exit__(self, *_error: object) -> None:
        if self._requests is not None and self._process is not None:
            self._requests.close()
            self._process.communicate()

    def _started(self) -> socket.socket:
        if self._requests is None:
            self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                settings = json.dumps({"fd": theirs.fileno(), "template": str(self.template)})
                path = os.pathsep.join(map(str, (FORKING, ROOT)))
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "runner"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,  # as a command's: Python has to find that it cannot be sought in
                    stderr=subprocess.PIPE,
                    pass_fds=[theirs.fileno()],
                    cwd=ROOT,
                    env={**self._env, "PYTHONPATH": path, SETTINGS: settings},
                )
        return self._requests


def _read_at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in env.items() if key.startswith(READ_AT_START)}


def _read(fds: Sequence[int], timeout: float) -> list[str]:
    """Return what comes through pipes until all are closed: the last tells the process, then its exit code."""
    content = dict.fromkeys(fds, b"")
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for fd in fds:
            selector.register(fd, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(deadline - time.monotonic())
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(content[fds[-1]]), signal.SIGKILL)
                raise TimeoutError(f"has not ended after {timeout} s: {content}")
            for key, _ in ready:
                more = os.read(key.fd, 2**16)
                content[key.fd] += more
                if not more:
                    selector.unregister(key.fd)
                    os.close(key.fd)
    return [io.TextIOWrapper(io.BytesIO(content[fd]), encoding="utf-8").read() for fd in fds]
