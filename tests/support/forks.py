"""Commands as forks of a process that has imported everything: see `forking/sitecustomize.py`."""

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FORKING = Path(__file__).parent / "forking"
SETTINGS = "RUNNER_TESTS_FORKING"
# What Python, or a library that is imported already, reads from the environment only at its start. Not KMP_: the
# builds of torch for Linux do not read it, and scikit-learn sets it in the process that imports it.
READ_AT_START = ("PYTHON", "COVERAGE_", "LANG", "LC_", "LD_", "MKL_", "MLFLOW_LOGGING", "OMP_", "TORCH_")
MODULES = tuple(
    f"runner{name}" for name in ("", ".delete", ".export", ".learn", ".reap", ".replay", ".report", ".rerun", ".ui")
)
LIMIT = 2**16


@dataclass
class Forks:
    """A process that is started once and forks commands.

    Attributes:
        template: the SQLite file that the commands take MLflow's tables from.
    """

    template: Path
    _env: Mapping[str, str] = field(default_factory=lambda: os.environ | {"PYTHONPATH": str(ROOT)})
    _requests: socket.socket | None = None
    _process: "subprocess.Popen[bytes] | None" = None

    def can_start(self, module: str, arguments: Sequence[str], env: Mapping[str, str]) -> bool:
        """Return whether a fork runs a command as a new Python would."""
        return (
            sys.platform == "linux"
            and module in MODULES
            and self.has_environment(env)
            and sum(map(len, arguments)) < LIMIT
        )

    def has_environment(self, env: Mapping[str, str]) -> bool:
        """Return whether a Python that starts with an environment reads from it what this process has read."""
        return _read_at_start(env) == _read_at_start(self._env)

    def ask(self, request: dict[str, Any], streams: Sequence[int]) -> int:
        """Request a command with three standard streams; return a pipe that reports its process id and exit status."""
        read, write = os.pipe()
        socket.send_fds(self._started(), [json.dumps(request).encode()], [*streams, write])
        os.close(write)
        return read

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


class Fork(subprocess.Popen[str]):
    """A command that is forked by another process, which reports its exit status."""

    def __init__(
        self, forks: Forks, module: str, arguments: Sequence[str], folder: Path, env: Mapping[str, str]
    ) -> None:
        self._forks = forks
        self._request = {"module": module, "arguments": arguments, "cwd": str(folder), "env": dict(env)}
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        super().__init__([module, *arguments], text=True, **pipes)  # type: ignore[call-overload]

    def _execute_child(self, *given: Any) -> None:
        """Fork the child instead; the pipes' ends have the attributes that `Popen` gives them."""
        stdin, _, _, stdout, _, stderr = ends = given[10:16]
        self._reply = open(self._forks.ask(self._request, [stdin, stdout, stderr]), "rb", buffering=0)  # noqa: SIM115
        self.pid = int(self._reply.readline())
        self._child_created = True
        self._close_pipe_fds(*ends)  # type: ignore[attr-defined]

    def _try_wait(self, flags: int) -> tuple[int, int]:
        """Return the process and its status as `waitpid` does, which knows children only."""
        if flags & os.WNOHANG and not select.select([self._reply], [], [], 0)[0]:
            return 0, 0
        status = int(self._reply.readline())
        self._reply.close()
        return self.pid, status

    def _internal_poll(self, *_unused: Any, **_names: Any) -> int | None:
        if self.returncode is None:
            found, status = self._try_wait(os.WNOHANG)
            if found:
                self._handle_exitstatus(status)  # type: ignore[attr-defined]
        return self.returncode


def _read_at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in env.items() if key.startswith(READ_AT_START)}
