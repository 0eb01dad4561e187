"""The command line as tests call it."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.forks import ROOT as ROOT
from tests.support.forks import Forks

PATIENCE = 280
forks: Forks | None = None


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines that say what was wrong."""
        return [line.removeprefix("error: ") for line in self.err.splitlines() if line.startswith("error: ")]


@dataclass(frozen=True)
class Command:
    """`python -m runner` in a working directory."""

    folder: Path
    started: "list[subprocess.Popen[str]]" = field(default_factory=list)

    def __call__(self, *arguments: str, module: str = "runner", **env: str) -> Done:
        """Run it to its end, in a process that is spared the imports where that makes no difference."""
        environment = _environment(env)
        if forks is not None and forks.can_run(module, arguments, environment):
            return Done(*forks.run(module, arguments, self.folder, environment, PATIENCE))
        return self.alone(*arguments, module=module, **env)

    def alone(self, *arguments: str, module: str = "runner", **env: str) -> Done:
        """Run it to its end in a Python of its own."""
        process = self.start(*arguments, module=module, **env)
        out, err = process.communicate(timeout=PATIENCE)
        return Done(process.returncode, out, err)

    def start(self, *arguments: str, module: str = "runner", **env: str) -> "subprocess.Popen[str]":
        """Start it in a Python of its own and return while it runs."""
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
        """End what a test that failed has left running."""
        for process in self.started:
            process.kill()


def _environment(more: dict[str, str]) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return inherited | {"PYTHONPATH": str(ROOT)} | more
