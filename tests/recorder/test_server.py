"""Recording through a real MLflow server: nothing is lost when it is unavailable, killed or hangs."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from runner.recorder.delete import main as delete
from runner.recorder.reading_back import read_back
from tests.conftest import Command
from tests.support.claims import OWNED, refusals
from tests.support.processes import wait_until
from tests.support.servers import Gateway, Server, losses, runs_of, serving, statuses, to

pytestmark = pytest.mark.xdist_group("server")  # one worker runs them all, and starts the server once


def test_runs_and_sweeps_are_recorded_in_postgresql_and_through_a_server_over_it(
    runner: Command, tmp_path: Path, postgresql: Callable[[str], str]
) -> None:
    uri = postgresql("direct")
    sweep = ["lr=logspace(-3,-1,30)", "steps=50", "optimizer=gd,adam"]
    direct = runner("-m", f"tracking.uri={uri}", *sweep)
    assert direct.code == 0, direct.err
    (tmp_path / "server").mkdir()
    with serving(tmp_path / "server", postgresql("served")) as server:
        through = runner("-m", *to(server), *sweep)
        assert through.code == 0, through.err
        found = [client.search_runs(["1"], max_results=100) for client in map(MlflowClient, (uri, server.uri))]
        both = [
            {
                str(run.info.run_name): (run.info.status, comparable(run.data.metrics))
                for run in runs
                if "mlflow.parentRunId" in run.data.tags
            }
            for runs in found
        ]
    assert len(both[0]) == 60
    assert both[0] == both[1]


def comparable(metrics: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in metrics.items() if not key.startswith(("seconds", "steps_per"))}


def test_runs_sweeps_and_artifacts_go_through_the_server(runner: Command, server: Server) -> None:
    one = runner(*to(server), "steps=20", "name=one")
    assert one.code == 0, one.err
    sweep = runner("-m", *to(server), "lr=0.1,0.2,0.3", "steps=10")
    assert sweep.code == 0, sweep.err
    found = statuses(server)
    assert {"one", "lr=0.1", "lr=0.2", "lr=0.3"} <= found.keys()
    assert set(found.values()) == {"FINISHED"}
    assert losses(server, "one") == list(range(1, 21))
    assert list((server.folder / "artifacts").rglob("config.yaml"))
    resumed = runner("-m", *to(server), "lr=0.1,0.2,0.3", "steps=10", "resume=true")
    assert "3 jobs asked for, 3 skipped, 0 run" in resumed.out
    client = MlflowClient(server.uri)
    (parent,) = runs_of(server, "tags.`runner.kind` = 'sweep'")
    extended = runner("-m", *to(server), "lr=0.1,0.2,0.3,0.4", "steps=10", "seed=0", f"resume={parent.info.run_id}")
    assert "4 jobs asked for, 3 skipped, 1 run" in extended.out, extended.err
    parent = client.get_run(parent.info.run_id)
    assert {"lr": "0.1,0.2,0.3", "steps": "10", "seed": "0"}.items() <= parent.data.params.items()
    assert parent.data.tags["resumed.lr"] == "0.1,0.2,0.3,0.4"
    assert parent.info.status == "FINISHED"
    single = [run for run in runs_of(server) if run.data.tags.get("runner.kind") != "sweep"]
    assert len(single) == 5
    for run in single:
        config = read_back(client, run.info.run_id).config()
        assert (f"{config.lr}", f"{config.steps}") == (run.data.params["lr"], run.data.params["steps"])


def test_one_of_several_concurrent_claims_through_a_server_succeeds(server: Server) -> None:
    client = MlflowClient(server.uri)
    experiment = client.create_experiment(server.experiment)
    run_id = client.create_run(experiment, tags={"runner.kind": "sweep"}).info.run_id
    client.set_terminated(run_id, "KILLED")
    assert [OWNED in text for text in refusals(server.uri, run_id)] == [True] * 5


def test_a_sweep_is_deleted_through_a_server_but_not_from_its_disk(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    client = MlflowClient(server.uri)
    experiment = client.create_experiment(server.experiment)
    parent = client.create_run(experiment, tags={"runner.kind": "sweep", "runner.id": "1"}).info.run_id
    client.create_run(experiment, tags={"mlflow.parentRunId": parent, "runner.id": "2"})
    assert delete(["--uri", server.uri, "--gc", "--force", parent]) == 2
    assert "expected 'mlflow gc' where its database is" in capsys.readouterr().err
    assert len(runs_of(server)) == 2
    assert delete(["--uri", server.uri, parent]) == 0
    assert runs_of(server) == []


def test_an_unreachable_server_is_reported_within_seconds_or_spooled(runner: Command, server: Server) -> None:
    server.signal(signal.SIGKILL)
    started = time.monotonic()
    away = runner(*to(server), "steps=5")
    assert (away.code, len(away.errors)) == (2, 1)
    assert time.monotonic() - started < 20
    assert list(runner.folder.iterdir()) == []
    spooled = runner(*to(server), "steps=5", "name=spooled", "tracking.offline=spool")
    assert spooled.code == 0, spooled.err
    assert f"python -m runner.replay --uri '{server.uri}'" in spooled.err
    assert runner("--uri", server.uri, module="runner.replay").code == 1
    server.start()
    unasked = runner(module="runner.replay")  # a journal may come from anyone
    assert (unasked.code, f"--uri '{server.uri}'" in unasked.errors[0]) == (1, True)
    assert statuses(server) == {}
    assert "1 journal, 1 run, 0 corrupt" in runner("--uri", server.uri, module="runner.replay").out
    assert (statuses(server), losses(server, "spooled")) == ({"spooled": "FINISHED"}, [1, 2, 3, 4, 5])


LONG = ["steps=40000", "log_every=100", "lr=0.0001", "name=long"]


# Takes a minute, or ends soon after there is a file `go`.
SLOW = """
import pathlib, time

def bowl(w):
    if not pathlib.Path("go").exists():
        time.sleep(0.02)
    return (w**2).sum(-1)
"""
STEPS = 3000


def under_way(runner: Command, server: Server, uri: str | None = None) -> "subprocess.Popen[str]":
    """Return a run that the server has recorded and that continues until it is signalled to end."""
    (runner.folder / "slow.py").write_text(SLOW)
    chosen = ["objective=callable", "objective.target=slow:bowl", "objective.of_one_point=false", "allow_code=true"]
    process = runner.fork(*to(server, uri), *chosen, "initial_weight=1", f"steps={STEPS}", "log_every=1", "name=long")
    wait_until(lambda: statuses(server).get("long") == "RUNNING")
    return process


def end(runner: Command, server: Server, process: "subprocess.Popen[str]") -> None:
    """Let the run end, and check that all of it is recorded."""
    assert process.poll() is None
    (runner.folder / "go").touch()
    _, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    assert statuses(server) == {"long": "FINISHED"}
    assert losses(server, "long") == list(range(1, STEPS + 1))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_server_that_returns_during_the_run_gets_all_of_it(
    runner: Command, server: Server, number: signal.Signals
) -> None:
    process = under_way(runner, server)
    server.signal(number)
    time.sleep(2)
    assert process.poll() is None
    if number is signal.SIGSTOP:
        server.signal(signal.SIGCONT)
    else:
        server.start()
    end(runner, server, process)


@pytest.mark.parametrize("mood", ["ill", "hanging"])
def test_a_server_that_answers_500_or_hangs_for_a_while_loses_nothing(
    runner: Command, server: Server, mood: str
) -> None:
    gateway = Gateway(server.uri)
    process = under_way(runner, server, gateway.uri)
    gateway.mood = mood
    wait_until(lambda: gateway.refused > 0)
    time.sleep(2)
    gateway.mood = "well"
    end(runner, server, process)
    gateway.shutdown()


def test_a_run_whose_creation_was_answered_by_an_error_is_found_again(runner: Command, server: Server) -> None:
    gateway = Gateway(server.uri)
    gateway.mood = "losing answers"
    done = runner(*to(server, gateway.uri), "steps=300", *LONG[1:])
    gateway.shutdown()
    assert done.code == 0, done.err
    assert gateway.mood == "well"
    assert len(runs_of(server)) == 1
    assert losses(server, "long") == [100, 200, 300]


@pytest.mark.parametrize("mood", ["refusing", "ill but said to be well"])
def test_entries_that_a_server_refuses_are_kept_and_replayed(runner: Command, server: Server, mood: str) -> None:
    gateway = Gateway(server.uri)
    arguments = [*to(server, gateway.uri), "steps=40000", *LONG[1:]]
    gateway.mood = "ill but said to be well"
    refused = runner(*arguments)
    assert (refused.code, len(refused.errors)) == (2, 1)
    assert runner(*arguments, "tracking.offline=spool", "name=spooled").code == 0
    gateway.mood = "well"
    process = runner.fork(*arguments)
    wait_until(lambda: statuses(server).get("long") == "RUNNING")
    gateway.mood = mood
    _, err = process.communicate(timeout=280)
    assert process.returncode == 1
    assert "the journal is kept" in err
    gateway.mood = "well"
    assert runner("--uri", gateway.uri, module="runner.replay").code == 0
    gateway.shutdown()
    assert statuses(server) == {"long": "FINISHED", "spooled": "FINISHED"}
    assert losses(server, "long") == losses(server, "spooled") == list(range(100, 40_001, 100))


def test_a_stopped_run_waits_only_seconds_for_a_hanging_server(runner: Command, server: Server) -> None:
    gateway = Gateway(server.uri)
    process = runner.fork(*to(server, gateway.uri), "steps=3000000", *LONG[1:])
    wait_until(lambda: statuses(server).get("long") == "RUNNING")
    gateway.mood = "hanging"
    wait_until(lambda: gateway.refused > 0)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=12)
    assert process.returncode == 143
    assert "Traceback" not in err
    gateway.mood = "well"
    assert runner("--uri", gateway.uri, module="runner.replay").code == 0
    gateway.shutdown()
    assert statuses(server) == {"long": "KILLED"}


def test_a_missing_server_database_is_reported_in_a_line(runner: Command, postgresql: Callable[[str], str]) -> None:
    uri = postgresql("there").replace("/there", "/nowhere")
    done = runner(f"tracking.uri={uri}", "steps=3")
    assert done.code == 2
    assert ["does not exist" in line for line in done.err.splitlines()] == [True]


def test_entries_that_a_dead_server_missed_are_replayed(runner: Command, server: Server) -> None:
    process = runner.fork(*to(server), *LONG)
    wait_until(lambda: statuses(server).get("long") == "RUNNING")
    server.signal(signal.SIGKILL)
    _, err = process.communicate(timeout=280)
    assert process.returncode == 1
    assert "the journal is kept" in err
    assert "Traceback" not in err
    server.start()
    for _ in range(2):
        assert runner("--uri", server.uri, module="runner.replay").code == 0
    assert statuses(server) == {"long": "FINISHED"}
    assert losses(server, "long") == list(range(100, 40_001, 100))
