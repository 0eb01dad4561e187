"""The command line as tests call it."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.forks import ROOT as ROOT
from tests.support.forks import Fork, Forks

PATIENCE = 280
# With this environment variable, a command creates MLflow's tables as MLflow does, instead of copying them.
FRESH = {"RUNNER_TESTS_TABLES": "made"}
forks: Forks | None = None


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines of the error messages."""
        return [line.removeprefix("error: ") for line in self.err.splitlines() if line.startswith("error: ")]


@dataclass(frozen=True)
class Command:
    """`python -m runner` in a working directory."""

    folder: Path
    started: "list[subprocess.Popen[str]]" = field(default_factory=list)

    def __call__(self, *arguments: str, module: str = "runner", **env: str) -> Done:
        """Run the command to its end, forked where that makes no difference."""
        return _ended(self.fork(*arguments, module=module, **env))

    def fork(self, *arguments: str, module: str = "runner", **env: str) -> "subprocess.Popen[str]":
        """Start the command, forked where that makes no difference, and return at once."""
        environment = _environment(env)
        if forks is None or not forks.can_start(module, arguments, environment):
            return self.start(*arguments, module=module, **env)
        self.started.append(Fork(forks, module, arguments, self.folder, environment))
        return self.started[-1]

    def alone(self, *arguments: str, module: str = "runner", **env: str) -> Done:
        """Run the command to its end in a new Python process."""
        return _ended(self.start(*arguments, module=module, **env))

    def without_package(self, package: str, *arguments: str) -> Done:
        """Run the command to its end in a new Python process that cannot import a package."""
        hidden = self.folder / "hidden"
        (hidden / package).mkdir(parents=True)
        (hidden / package / "__init__.py").write_text("raise ImportError('none')")
        return self.alone(*arguments, PYTHONPATH=os.pathsep.join([str(hidden), *filter(None, sys.path)]))

    def start(self, *arguments: str, module: str = "runner", **env: str) -> "subprocess.Popen[str]":
        """Start the command in a new Python process and return at once."""
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=self.folder,
            env=_environment(env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell may have started us with Ctrl-C ignored, which children inherit.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self.started.append(process)
        return process

    def end(self) -> None:
        """End the processes that a failed test has left running."""
        for process in self.started:
            process.kill()


def _ended(process: "subprocess.Popen[str]") -> Done:
    out, err = process.communicate(timeout=PATIENCE)
    return Done(process.returncode, out, err)


def _environment(more: dict[str, str]) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return inherited | {"PYTHONPATH": str(ROOT), "BROWSER": "true"} | more
