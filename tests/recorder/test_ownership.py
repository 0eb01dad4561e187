"""A sweep has one owner at a time, and a live run is not marked as killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.recorder.errors import ConcurrentStartError, TakenOverError
from runner.recorder.opening import open_store
from runner.recorder.ownership import Claim, OwnedError, take
from runner.recorder.reap import reap
from runner.recorder.store import Store
from runner.tracking.journal import Begin, End
from runner.tracking.processes import is_alive, process_tags
from tests.conftest import ROOT, Command
from tests.support.claims import OWNED, claim, refusals
from tests.support.processes import LONG, wait_until
from tests.support.record import rows
from tests.support.stores import opened

SWEEP = {"runner.kind": "sweep", "runner.fingerprint": "f"}
GONE = {"runner.host": "elsewhere", "runner.pid": "7", "runner.pid_started": "1"}


def silent_sweep(store: Store) -> str:
    """Return the parent run of a sweep whose last heartbeat was in 1970."""
    store.apply(Begin("parent", "sweep", "some experiment", 1, tags=SWEEP | GONE))
    created = store.apply(Begin("job", "job", "some experiment", 1, parent="parent"))
    store.flush()
    assert created is not None
    return store._runs["parent"]


def test_one_of_several_concurrent_claims_succeeds(folder: Path) -> None:
    run_id = silent_sweep(opened(folder, bulk=True))
    assert [OWNED in text for text in refusals(f"sqlite:///{folder}/mlflow.db", run_id)] == [True] * 5


def test_one_of_several_concurrent_claims_succeeds_in_postgresql(
    tmp_path: Path, postgresql: Callable[[str], str]
) -> None:
    uri = postgresql("claims")
    run_id = silent_sweep(open_store({"uri": uri, "artifacts": str(tmp_path), "again": False}))
    assert [OWNED in text for text in refusals(uri, run_id)] == [True] * 5


def test_an_owner_on_another_host_keeps_its_sweep_until_its_heartbeat_is_old(folder: Path) -> None:
    store = opened(folder, bulk=True)
    run_id = silent_sweep(store)
    take(store.client, run_id, claim("first", host="elsewhere"))
    with pytest.raises(OwnedError, match=r"process \d+ on host elsewhere owns it since .*, last heartbeat \d+ s ago"):
        take(store.client, run_id, claim("second"))
    take(store.client, run_id, claim("first", host="elsewhere"))  # whose answer was lost
    old = claim("third", host="elsewhere") | {"since_ms": "1"}
    store.client.log_param(run_id, "runner.owner.2", json.dumps(old))
    store.client.set_tag(run_id, "runner.heartbeat", str(int((time.time() - 130) * 1000)))
    take(store.client, run_id, claim("second"))
    assert store.client.get_run(run_id).data.params.keys() == {f"runner.owner.{number}" for number in (1, 2, 3)}


def test_a_sweep_that_has_ended_can_be_claimed_again(folder: Path) -> None:
    store = opened(folder, bulk=True)
    run_id = silent_sweep(store)
    for owner in ("first", "second"):
        take(store.client, run_id, claim(owner))
        assert store.client.get_run(run_id).info.status == "RUNNING"
        store.client.set_terminated(run_id, "KILLED", int(time.time() * 1000) + 1)


@pytest.mark.parametrize("bulk", [True, False])
def test_a_former_owner_gets_an_error_and_does_not_change_the_sweep(folder: Path, bulk: bool) -> None:
    store = opened(folder, bulk)
    run_id = silent_sweep(store)
    take(store.client, run_id, claim("second"))
    with pytest.raises(TakenOverError, match=f"{run_id} was taken over"):
        store.heartbeat()
    store.apply(End("parent", "KILLED", 2))
    late = opened(folder, bulk, again=True)
    late.apply(Begin("parent", "sweep", "some experiment", 1, tags=SWEEP | {"runner.owner": "first"}, is_new=False))
    late.apply(End("parent", "FINISHED", 3))
    for each in (store, late):
        each.end_unfinished()
    assert store.client.get_run(run_id).info.status == "RUNNING"
    children = store.client.search_runs(["1"], f"tags.`mlflow.parentRunId` = '{run_id}'")
    assert [child.info.lifecycle_stage for child in children] == ["active"]


def test_one_of_two_concurrent_resumes_runs(runner: Command) -> None:
    assert runner("-m", "lr=0.0001,0.0002", "steps=3").code == 0
    ((parent,),) = rows(runner, "select run_uuid from tags where key = 'runner.kind'")
    both = [runner.fork("-m", "lr=0.0001,0.0002", *LONG[:2], f"resume={parent}") for _ in range(2)]
    wait_until(lambda: None not in (both[0].poll(), both[1].poll()) or len(running(runner)) == 3)
    wait_until(lambda: any(process.poll() is not None for process in both))
    loser, winner = sorted(both, key=lambda process: process.poll() is None)
    _, err = loser.communicate(timeout=60)
    assert loser.returncode == 2
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert [f"sweep {parent} is still running: process {winner.pid} on host" in line for line in lines] == [True]
    assert winner.poll() is None
    assert len(running(runner)) == 3
    winner.send_signal(signal.SIGTERM)
    assert winner.wait(timeout=60) == 143
    assert running(runner) == []


def test_one_of_two_concurrent_resumes_of_a_missing_sweep_starts_it(runner: Command) -> None:
    command = ["-m", "lr=0.0001,0.0002", *LONG[:2], "resume=true"]
    both = [runner.fork(*command) for _ in range(2)]
    wait_until(lambda: any(process.poll() is not None for process in both))
    loser, winner = sorted(both, key=lambda process: process.poll() is None)
    _, err = loser.communicate(timeout=60)
    assert (loser.returncode, f"is still running: process {winner.pid} on host" in err) == (2, True), err
    wait_until(lambda: len(running(runner)) == 3)
    winner.send_signal(signal.SIGTERM)
    _, err = winner.communicate(timeout=60)
    assert winner.returncode == 143, err
    assert rows(runner, "select count(*) from runs where lifecycle_stage = 'active'") == [(3,)]


@pytest.mark.parametrize("bulk", [True, False])
def test_a_concurrent_start_of_the_same_sweep_leaves_nothing(folder: Path, bulk: bool) -> None:
    first, second = opened(folder, bulk), opened(folder, bulk)
    tags = SWEEP | {"runner.resume": "true"} | process_tags()
    first.apply(Begin("first", "sweep", "some experiment", 1, tags=tags | {"runner.owner": "first"}))
    first.heartbeat()
    first.flush()
    with pytest.raises(ConcurrentStartError, match=f"sweep {first._runs['first']} is still running: {OWNED}"):
        second.apply(Begin("second", "sweep", "some experiment", 1, tags=tags | {"runner.owner": "second"}))
    assert [run.info.run_id for run in first.client.search_runs(["1"])] == [first._runs["first"]]


def running(runner: Command) -> list[tuple[object, ...]]:
    return rows(runner, "select name from runs where status = 'RUNNING' and lifecycle_stage = 'active'")


NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def test_a_run_in_another_pid_namespace_is_not_marked_as_dead(runner: Command) -> None:
    if subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no namespace of processes can be made here")
    command = [*NAMESPACE, sys.executable, "-m", "runner", *LONG]
    inside = subprocess.Popen(command, cwd=runner.folder, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        wait_until(lambda: len(running(runner)) == 1)
        assert runner(module="runner.reap").out == "reaped     0 runs\n"
        assert len(running(runner)) == 1
    finally:
        inside.kill()
        inside.wait()


def test_a_forked_child_is_a_separate_process() -> None:
    assert process_tags()["runner.pid"] == str(os.getpid())
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, json.dumps(process_tags()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    tags = json.loads(os.read(reading, 10_000))
    assert tags["runner.pid"] == str(child)
    assert is_alive(process_tags())
    assert not is_alive(tags)


@pytest.mark.parametrize("bulk", [True, False])
def test_a_live_run_marked_as_killed_loses_the_mark(folder: Path, bulk: bool) -> None:
    store = opened(folder, bulk)
    for run in ("ends", "continues"):
        store.apply(Begin(run, run, "some experiment", 1, tags=GONE))
    store.flush()
    assert sorted(reap(store.client, ["1"])) == sorted(store._runs.values())
    store.apply(End("ends", "FINISHED", 2))
    store.heartbeat()
    store.flush()
    runs = {run.info.run_name: run for run in store.client.search_runs(["1"])}
    assert {name: run.info.status for name, run in runs.items()} == {"ends": "FINISHED", "continues": "RUNNING"}
    assert not any("runner.reaped" in run.data.tags for run in runs.values())


@pytest.mark.parametrize("beat", ["9" * 400, "9" * 5000, "\u00b2", "-1", ""])
def test_an_invalid_heartbeat_is_ignored(beat: str) -> None:
    assert not is_alive({"runner.host": "elsewhere", "runner.heartbeat": beat})


@pytest.mark.parametrize("text", ["[" * 3000, '{"owner": "a", "since_ms": 1' + "0" * 30 + "}", '{"owner": "a"}', "5"])
def test_an_invalid_claim_has_no_owner(text: str) -> None:
    assert Claim.read(1, text) == Claim(1, "", 0, {})
