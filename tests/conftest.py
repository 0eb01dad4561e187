"""Running the runner as a person does, in a folder of the test's own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings

from runner.messages import redaction

pytest_plugins = ["tests.stores"]

# As the command does, before anything imports torch: tests run beside each other.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# How long an example takes is the machine's affair.
settings.register_profile("unhurried", settings.default, deadline=None)
settings.load_profile("unhurried")

ROOT = Path(__file__).parents[1]
# Whose processes are measured, too; in all of them, coverage would make the tests take half as long again.
MEASURED = ("test_command_line", "test_recorder", "test_ui")


@pytest.fixture(scope="module", autouse=True)
def _coverage_of_processes(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if request.module.__name__.rpartition(".")[2] not in MEASURED:
            patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield


@pytest.fixture(autouse=True)
def _nothing_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # What a test's process has read stays hidden in all that it prints, which would hide words of other tests.
    monkeypatch.setattr(redaction, "_noted", redaction._Noted())


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
        process = self.start(*arguments, module=module, **env)
        out, err = process.communicate(timeout=280)
        return Done(process.returncode, out, err)

    def start(self, *arguments: str, module: str = "runner", **env: str) -> "subprocess.Popen[str]":
        """Start it and return while it runs."""
        inherited = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=self.folder,
            env=inherited | {"PYTHONPATH": str(ROOT)} | env,
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


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Command]:
    """Give the command in an empty folder."""
    command = Command(tmp_path)
    yield command
    command.end()


@pytest.fixture(scope="module")
def shared_runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """Give the command in a folder that the tests of a module share."""
    command = Command(tmp_path_factory.mktemp("shared"))
    yield command
    command.end()


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Work in an empty folder; the fixture lists what stands in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return lambda: sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
