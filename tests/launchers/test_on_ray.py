"""Sweeps on Ray: the same record and digits as in one process, whatever dies meanwhile."""

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.reading import runs
from tests.conftest import Command
from tests.support.clusters import Nodes
from tests.support.processes import wait_until
from tests.support.record import losses, rows
from tests.support.sweeps import (
    assert_each_step_is_recorded_once,
    assert_interrupted_within_seconds,
    record_of,
    results_of,
)
from tests.support.template import place

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(900)]
# Noise and two kinds of jobs; some diverge.
MIXED = ["-m", "lr=logspace(-3,1,60)", "optimizer=gd,adam", "gradient_noise=0.1", "steps=50"]
# Half a minute on one CPU.
LONG = ["-m", "lr=logspace(-4,-2,128)", "steps=6000", "log_every=100", "hydra.launcher.shard_seconds=3"]
PATIENCE = 280
MINE = """
import os, time

def bowl(weight, deadly=1e9):
    if bool((weight > deadly).any()):
        os._exit(7)
    return (weight**2).sum(-1)
"""
OWN = ["objective=callable", "objective.target=mine:bowl", "objective.of_one_point=false", "allow_code=true", "steps=9"]


@pytest.fixture
def runner(runner: Command, template: Path) -> Command:
    """Give the command in a folder with a store."""
    place(template, runner.folder / "outputs/mlflow.db")
    return runner


def asked(uri: str, query: str) -> list[tuple[Any, ...]]:
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(uri) as connection:
        try:
            return list(connection.execute(query).fetchall())
        except psycopg.errors.UndefinedTable:
            return []


def on(nodes: Nodes) -> list[str]:
    return ["hydra/launcher=ray", f"hydra.launcher.address='{nodes.address}'"]


def test_jobs_on_the_nodes_give_the_record_of_jobs_in_one_process(
    runner: Command, nodes: Nodes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    done = runner(*MIXED, *on(nodes))
    assert done.code == 0, done.err
    here = Command(tmp_path_factory.mktemp("here"))
    alone = here(*MIXED)
    assert record_of(runner) == record_of(here)
    assert len(record_of(runner)) > 120 * 50
    assert results_of(done.out) == results_of(alone.out)
    assert "device     2 nodes of Ray\n" in done.out
    workers = "select distinct value from tags where key = 'runner.worker'"
    assert rows(runner, workers) == [(socket.gethostname(),)]


def test_a_search_on_the_nodes_has_the_trials_and_results_of_one_here(
    runner: Command, nodes: Nodes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    search = ["-m", "hydra/sweeper=search", "lr=tag(log,interval(1e-3,10))", "optimizer=gd,adam", "steps=20"]
    search += ["gradient_noise=0.1", "hydra.sweeper.n_trials=24", "hydra.sweeper.batch_size=12"]
    search += ["hydra/sweeper/pruner=hyperband"]
    done = runner(*search, *on(nodes))
    assert done.code == 0, done.err
    here = Command(tmp_path_factory.mktemp("here"))
    alone = here(*search)
    assert record_of(runner) == record_of(here)
    assert [line for line in done.out.splitlines() if line.startswith(("search", "best trial", "importance"))] == [
        line for line in alone.out.splitlines() if line.startswith(("search", "best trial", "importance"))
    ]


def test_a_killed_worker_is_replaced(runner: Command, nodes: Nodes) -> None:
    process = runner.fork(*LONG, *on(nodes))
    wait_until(lambda: losses(runner) > 100)
    os.kill(nodes.workers()[0], signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert_each_step_is_recorded_once(runner, jobs=128, steps=60)


def test_where_nodes_record_killed_workers_leave_one_run_of_each_job(
    runner: Command, nodes: Nodes, postgresql: Callable[[str], str]
) -> None:
    uri = postgresql("nodes")
    sweep = [*LONG, "steps=3000", *on(nodes), "hydra.launcher.record=nodes", f"tracking.uri={uri}"]
    # A worker goes on until its runs are recorded as ended.
    running = "select count(*) from runs r join params p using (run_uuid) where status = 'RUNNING' and p.key = 'lr'"
    losses = "select count(*) from metrics where key = 'loss'"
    process = runner.fork(*sweep)
    wait_until(lambda: asked(uri, losses) > [(100,)] and asked(uri, running) > [(1,)])
    for worker in nodes.workers():
        os.kill(worker, signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert_each_step_is_recorded_once(runner, jobs=128, steps=30, ask=lambda query: asked(uri, query))
    assert asked(uri, "select count(*) > 0 from runs where lifecycle_stage = 'deleted'") == [(True,)]
    # The runs of the second attempt are read like all others.
    found = runs(uri=uri)
    again = [run for run in found if "_" in run.tags["runner.id"]]
    assert {run.config.lr for run in again} == {run.params["lr"] for run in again} != set()
    assert sorted(run.metrics["rank"] for run in found) == list(range(1, 129))


def test_where_nodes_record_ctrl_c_kills_what_has_begun(
    runner: Command, nodes: Nodes, postgresql: Callable[[str], str]
) -> None:
    uri = postgresql("interrupted")
    process = runner.fork(*LONG, *on(nodes), "hydra.launcher.record=nodes", f"tracking.uri={uri}")
    wait_until(lambda: asked(uri, "select count(*) from metrics where key = 'loss'") > [(100,)])
    assert_interrupted_within_seconds(process)
    assert nodes.workers() == []
    unended = "select count(*) from runs where status not in ('KILLED', 'FINISHED') or lifecycle_stage = 'deleted'"
    wait_until(lambda: asked(uri, unended) == [(0,)])


def test_nodes_come_and_go(runner: Command, nodes: Nodes) -> None:
    leaving = nodes.add()
    process = runner.fork(*LONG, *on(nodes))
    wait_until(lambda: losses(runner) > 100)
    nodes.remove(leaving)
    nodes.add()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert_each_step_is_recorded_once(runner, jobs=128, steps=60)


def test_a_sweep_whose_driver_was_killed_is_completed_by_resume(runner: Command, nodes: Nodes) -> None:
    process = runner.fork(*LONG, *on(nodes))
    wait_until(lambda: losses(runner) > 100)
    process.kill()
    process.wait(timeout=PATIENCE)
    wait_until(lambda: not nodes.workers())
    done = runner(*LONG, *on(nodes), "resume=true")
    assert done.code == 0, done.err
    assert_each_step_is_recorded_once(runner, jobs=128, steps=60)


def test_ctrl_c_ends_all_workers_within_seconds(runner: Command, nodes: Nodes) -> None:
    process = runner.fork(*LONG, *on(nodes))
    wait_until(lambda: losses(runner) > 100)
    assert_interrupted_within_seconds(process)
    assert nodes.workers() == []
    statuses = dict(map(tuple, rows(runner, "select status, count(*) from runs group by status")))
    assert set(statuses) <= {"KILLED", "FINISHED"}


def test_a_job_that_kills_its_worker_fails_alone(runner: Command, nodes: Nodes) -> None:
    (runner.folder / "mine.py").write_text(MINE)
    starts = ",".join(map(str, range(1, 9)))
    sweep = ["-m", *OWN, f"initial_weight={starts}", "lr=0.1", "objective.arguments.deadly=7.5"]
    done = runner(*sweep, *on(nodes), "hydra.launcher.max_retries=0")
    assert done.code == 1
    assert "8 jobs asked for, 0 skipped, 8 run: 7 finished, 1 failed" in done.out
    failed = [line for line in done.errors if line.startswith("job ")]
    assert [line.partition(" failed: ")[0] for line in failed] == ["job initial_weight=8"]
    statuses = "select name, status from runs where name like 'initial_weight=_'"
    assert sorted(rows(runner, statuses)) == [
        (f"initial_weight={start}", "FAILED" if start == 8 else "FINISHED") for start in range(1, 9)
    ]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (["address=127.0.0.2:9"], "hydra.launcher.address=127.0.0.2:9: no cluster answers ("),
        (["address='ray://here:10001'"], "hydra.launcher.address=ray://here:10001: expected null, auto or host:port"),
        (["record=nodes"], "hydra.launcher.record=nodes: SQLite is for one machine, expected a tracking server or "),
        (["record=node"], "hydra.launcher.record=node: expected driver or nodes; did you mean 'nodes'?"),
        (["num_gpus=1"], "hydra.launcher: num_cpus=1 num_gpus=1 on one node, expected at most what a node has"),
        (["num_cpus=0"], "hydra.launcher.num_cpus=0: expected a number of at least 1"),
        (["shard_seconds=never"], "hydra.launcher.shard_seconds=never: expected a number of at least 0.1"),
    ],
)
def test_a_mistake_is_reported_in_a_line(runner: Command, nodes: Nodes, settings: list[str], line: str) -> None:
    since = time.monotonic()
    done = runner("-m", "lr=0.1,0.2", *on(nodes), *(f"hydra.launcher.{setting}" for setting in settings))
    assert (done.code, len(done.errors)) == (2, 1), done.err
    assert done.errors[0].startswith(line)
    assert time.monotonic() - since < 30
    # The recorder, which may still be ending, holds the database.
    wait_until(lambda: rows(runner, "select count(*) from runs") == [(0,)])


def test_a_node_without_the_users_module_is_reported_before_anything_starts(runner: Command, nodes: Nodes) -> None:
    (runner.folder / "mine.py").write_text(MINE)
    (runner.folder / "empty").mkdir()
    empty = f"hydra.launcher.runtime_env={{working_dir:{runner.folder}/empty}}"
    done = runner("-m", *OWN, "lr=0.1,0.2", "initial_weight=1", *on(nodes), empty)
    assert (done.code, len(done.errors)) == (2, 1), done.err
    assert "objective.target=mine:bowl: cannot be imported" in done.errors[0]
    assert rows(runner, "select count(*) from runs") == [(0,)]


def test_no_secret_is_sent_to_other_processes(runner: Command) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    (runner.folder / "mine.py").write_text("def bowl(weight, token):\n    return (weight**2).sum(-1)\n")
    given = ["-m", *OWN, "initial_weight=1,2", "+objective.arguments.token=hunter2hunter2", "hydra/launcher=ray"]
    done = runner(*given)
    assert (done.code, len(done.errors)) == (2, 1), done.err
    assert done.errors[0].startswith("objective.arguments.token=***")
    assert "hydra/launcher=ray would send it to other processes, expected" in done.errors[0]
    assert "hunter2hunter2" not in done.out + done.err
    assert rows(runner, "select count(*) from runs") == [(0,)]


def test_ray_starts_on_this_machine_without_an_address(runner: Command) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    (runner.folder / "mine.py").write_text(MINE)
    done = runner("-m", *OWN, "lr=0.1,0.2", "initial_weight=1", "hydra/launcher=ray")
    assert done.code == 0, done.err
    assert "device     1 node of Ray\n" in done.out
    assert_each_step_is_recorded_once(runner, jobs=2, steps=9)


def test_without_ray_the_command_to_install_it_is_reported(tmp_path: Path) -> None:
    done = Command(tmp_path).without_package("ray", "-m", "lr=0.1,0.2", "hydra/launcher=ray")
    line = "error: hydra/launcher=ray: Ray is not installed, expected it: pip install ray\n"
    assert (done.code, done.err) == (2, line)
