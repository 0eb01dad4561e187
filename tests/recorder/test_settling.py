"""Jobs that nodes record: the sweep's own journal ends them, and what it does not end is trashed, or KILLED."""

from pathlib import Path

import pytest
from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient

from runner.recorder.store import Created, Store
from runner.tracking.journal import GOES_ON, Begin, End, Known, Settle
from tests.support.stores import experiment_of, opened

SWEEP = Begin("sweep", "sweep", "some experiment", 1_000, tags={"runner.kind": "sweep"})


def begun(store: Store) -> Known:
    created = store.apply(SWEEP)
    assert created is not None
    store.flush()
    return Known("sweep", created.run_id, created.experiment_id, has_jobs=True)


def recorded_by_a_node(store: Store, sweep: Known, *jobs: str) -> list[Created]:
    """Record jobs as a node does whose worker reports them."""
    store.apply(sweep)
    found = []
    for job in jobs:
        created = store.apply(Begin(job, job, "some experiment", 1_001, parent="sweep"))
        assert created is not None
        found.append(created)
        store.apply(End(job, GOES_ON, 1_002, 3, {"final/loss": 2.0}, {"runner.outcome": "ran all its steps"}))
    store.end_unfinished()
    store.verify()
    return found


def ended(store: Store, jobs: list[Created], status: str, is_complete: bool) -> None:
    """End jobs and the sweep in the journal of the sweep."""
    for job in jobs:
        store.apply(Known(job.run, job.run_id, job.experiment_id))
        store.apply(End(job.run, "FINISHED", 1_003, 3))
    store.apply(End("sweep", status, 1_004))
    store.apply(Settle("sweep", is_complete))
    store.end_unfinished()
    store.verify()


def runs_in(client: MlflowClient) -> dict[str, tuple[str, str]]:
    """Return the status and the stage of each run, by name."""
    experiment = experiment_of(client, "some experiment").experiment_id
    found = client.search_runs([experiment], run_view_type=ViewType.ALL)
    return {str(run.info.run_name): (run.info.status, run.info.lifecycle_stage) for run in found}


@pytest.mark.parametrize("bulk", [True, False])
def test_each_job_is_finished_once_whichever_attempts_died(folder: Path, bulk: bool) -> None:
    driver, dead, alive, late = (opened(folder, bulk) for _ in range(4))
    sweep = begun(driver)
    recorded_by_a_node(dead, sweep, "a", "b")
    dead.apply(Begin("c", "c", "some experiment", 1_001, parent="sweep"))
    dead.end_unfinished()
    assert runs_in(driver.client)["a"] == ("RUNNING", "active")
    assert runs_in(driver.client)["c"] == ("KILLED", "active")
    ended(driver, recorded_by_a_node(alive, sweep, "a_2", "b_2", "c_2"), "FINISHED", is_complete=True)
    recorded_by_a_node(late, sweep, "d")  # of a node that was cut off
    found = runs_in(driver.client)
    assert {name for name, (_, stage) in found.items() if stage == "deleted"} == {"a", "b", "c", "d"}
    assert {found[name] for name in ("sweep", "a_2", "b_2", "c_2")} == {("FINISHED", "active")}


@pytest.mark.parametrize("bulk", [True, False])
def test_what_an_interrupted_sweep_leaves_is_killed(folder: Path, bulk: bool) -> None:
    driver, node, late = (opened(folder, bulk) for _ in range(3))
    sweep = begun(driver)
    first, _ = recorded_by_a_node(node, sweep, "a", "b")
    ended(driver, [first], "KILLED", is_complete=False)
    recorded_by_a_node(late, sweep, "c")
    assert runs_in(driver.client) == {
        "sweep": ("KILLED", "active"),
        "a": ("FINISHED", "active"),
        "b": ("KILLED", "active"),
        "c": ("KILLED", "active"),
    }
