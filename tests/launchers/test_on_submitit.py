"""Sweeps on submitit, by its local executor: the record of one process, whatever is killed, and nothing left over."""

import os
import signal
from pathlib import Path

import pytest

from runner.launchers.shared_folder import Tail, append
from tests.conftest import Command
from tests.support.processes import wait_until
from tests.support.record import losses, rows
from tests.support.sweeps import (
    assert_each_step_is_recorded_once,
    assert_interrupted_within_seconds,
    record_of,
    results_of,
)
from tests.support.template import place

pytestmark = pytest.mark.timeout(600)
PATIENCE = 280
ON = ["hydra/launcher=submitit", "hydra.launcher.executor=local", "hydra.launcher.jobs=1"]
# Three seconds of little work.
SLOW = """
import time

def bowl(weight):
    time.sleep(0.003)
    return (weight**2).sum(-1)
"""
OWN = ["objective=callable", "objective.target=mine:bowl", "objective.of_one_point=false", "allow_code=true"]
LONG = ["-m", *OWN, "initial_weight=1,2,3", "lr=0.01", "steps=1000", "log_every=10"]


@pytest.fixture
def runner(runner: Command, template: Path) -> Command:
    """Give the command in a folder with a store and a module."""
    pytest.importorskip("submitit", reason="submitit is not installed")
    place(template, runner.folder / "outputs/mlflow.db")
    (runner.folder / "mine.py").write_text(SLOW)
    return runner


def jobs_in(folder: Path) -> list[int]:
    """Return the processes of submitit with files in a folder: those that execute shards, then those that wait."""
    found: dict[int, bool] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        if b"submitit" in command and bytes(folder) in command:
            found[int(process.name)] = b"submitit.core._submit" not in command
    return sorted(found, key=lambda process: found[process])


def test_jobs_give_the_record_of_one_process(runner: Command, tmp_path_factory: pytest.TempPathFactory) -> None:
    sweep = ["-m", "lr=logspace(-3,1,60)", "gradient_noise=0.1", "steps=50"]
    done = runner(*sweep, *ON, OMP_NUM_THREADS="2")
    assert done.code == 0, done.err
    assert "device     jobs of submitit (local)\n" in done.out
    here = Command(tmp_path_factory.mktemp("here"))
    assert results_of(done.out) == results_of(here(*sweep).out)
    assert record_of(runner) == record_of(here)
    threads = "select distinct value from tags where key = 'device.threads'"
    assert rows(runner, threads) == [("1",)]
    assert list((runner.folder / "outputs/submitit").iterdir()) == []


def test_whatever_is_killed_each_step_is_recorded_once(runner: Command) -> None:
    process = runner.fork(*LONG, *ON)
    wait_until(lambda: losses(runner) > 0)
    first = jobs_in(runner.folder)[0]
    os.kill(first, signal.SIGKILL)
    recorded = losses(runner)
    wait_until(lambda: losses(runner) > recorded)
    assert first not in jobs_in(runner.folder)
    process.kill()
    process.wait(timeout=PATIENCE)
    wait_until(lambda: not jobs_in(runner.folder))
    done = runner(*LONG, "resume=true")
    assert done.code == 0, done.err
    assert_each_step_is_recorded_once(runner, jobs=3, steps=100)


def test_ctrl_c_ends_all_jobs_within_seconds(runner: Command) -> None:
    process = runner.fork(*LONG, *ON)
    wait_until(lambda: losses(runner) > 0)
    assert_interrupted_within_seconds(process)
    assert jobs_in(runner.folder) == []
    assert rows(runner, "select status, count(*) from runs group by status") == [("KILLED", 4)]
    assert list((runner.folder / "outputs/submitit").iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (["executor=slrum"], "hydra.launcher.executor=slrum: expected slurm or local; did you mean 'slurm'?"),
        (["executor=slurm"], "hydra.launcher.executor=slurm: no srun on this machine, expected a machine that submits"),
        (["jobs=0"], "hydra.launcher.jobs=0: expected a whole number of at least 1"),
        (["folder=mine.py/jobs"], "hydra.launcher.folder=mine.py/jobs: "),
        (
            ["+parameters.slurm_partion=gpu"],
            "hydra.launcher.parameters.slurm_partion=gpu: no parameter of submitit, expected one such as timeout_min, "
            "cpus_per_task, mem_gb, slurm_partition; did you mean 'slurm_partition'?",
        ),
        (["parameters.timeout_min=long"], "hydra.launcher.parameters.timeout_min=long: "),
        (["+parameters.tasks_per_node=2"], "hydra.launcher.parameters.tasks_per_node=2: expected 1, a shard is"),
    ],
)
def test_a_mistake_is_reported_in_a_line(runner: Command, settings: list[str], line: str) -> None:
    if settings == ["executor=slurm"] and any(Path(path, "srun").exists() for path in os.get_exec_path()):
        pytest.skip("this machine has Slurm")
    keys = [("+" if one.startswith("+") else "") + f"hydra.launcher.{one.lstrip('+')}" for one in settings]
    done = runner("-m", "lr=0.1,0.2", *ON, *keys)
    assert (done.code, len(done.errors)) == (2, 1), done.err
    assert done.errors[0].startswith(line)
    assert rows(runner, "select count(*) from runs") == [(0,)]


def test_no_secret_is_written_to_the_folder(runner: Command) -> None:
    secret = "hunter2hunter2"
    (runner.folder / "mine.py").write_text("def bowl(weight, token):\n    return (weight**2).sum(-1)\n")
    given = ["-m", *OWN, "initial_weight=1,2", f"+objective.arguments.token={secret}", *ON]
    done = runner(*given)
    assert (done.code, len(done.errors)) == (2, 1), done.err
    assert done.errors[0].startswith("objective.arguments.token=***")
    assert "hydra/launcher=submitit would write it to a file, expected" in done.errors[0]
    assert secret not in done.out + done.err
    assert rows(runner, "select count(*) from runs") == [(0,)]


def test_without_submitit_the_command_to_install_it_is_reported(tmp_path: Path) -> None:
    done = Command(tmp_path).without_package("submitit", "-m", "lr=0.1,0.2", *ON)
    line = "error: hydra/launcher=submitit: submitit is not installed, expected it: pip install submitit\n"
    assert (done.code, done.err) == (2, line)


def test_an_incomplete_message_is_not_read(tmp_path: Path) -> None:
    file, whole = tmp_path / "updates", tmp_path / "whole"
    append(file, "first")
    append(whole, "second")
    content, tail = whole.read_bytes(), Tail(file)
    assert list(tail.new()) == ["first"]
    for number, byte in enumerate(content):
        with file.open("ab") as opened:
            opened.write(bytes([byte]))
        assert list(tail.new()) == (["second"] if number == len(content) - 1 else [])
    zeros = bytes(len(content))  # as of a file that a network shows before its content
    with file.open("ab") as opened:
        opened.write(content[:12] + zeros[12:])
    assert list(tail.new()) == []
