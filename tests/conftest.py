"""Running the runner as a user does, in a temporary folder."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from runner.messages import redaction
from tests.support import commands
from tests.support.commands import ROOT as ROOT
from tests.support.commands import Command as Command
from tests.support.commands import Done as Done
from tests.support.forks import Forks

pytest_plugins = ["tests.support.clusters", "tests.support.compiler", "tests.support.databases"]

# As the command does, before anything imports torch: tests run in parallel.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Long descents are to take their time, so that they can be interrupted: there is no compiler and no kept program.
os.environ |= {"CXX": "", "RUNNER_CACHE_DIR": str(Path(tempfile.gettempdir(), "no-programs"))}
# The time of an example depends on the machine.
settings.register_profile("unhurried", settings.default, deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def _nothing_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # A process hides values that it has read from the environment, which would hide words of other tests.
    monkeypatch.setattr(redaction, "_noted", redaction._Noted())


@pytest.fixture(autouse=True)
def _modules_of_no_other_test(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Forget the modules that a test has written and imported: others have the same names."""
    base = str(tmp_path_factory.getbasetemp())
    yield
    for name, module in [*sys.modules.items()]:
        if str(module.__dict__.get("__file__")).startswith(base):
            del sys.modules[name]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the tests of this session, in all their workers, keep MLflow's tables."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tables.db"


@pytest.fixture(scope="session", autouse=True)
def _forks(template: Path) -> Iterator[None]:
    with Forks(template) as commands.forks:
        yield


@pytest.fixture(autouse=True)
def _commands_are_forked(_forks: None) -> None:
    # A new process for each command makes the tests take twice as long.
    assert commands.forks is not None
    assert commands.forks.has_environment(os.environ | {"PYTHONPATH": str(ROOT)}), "a test has changed the environment"


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
    """Work in an empty folder; the fixture lists its contents."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return lambda: sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
