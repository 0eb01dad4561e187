"""Reading the finished jobs of a sweep, so that it can be resumed."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from runner.recorder.errors import StoreError
from runner.recorder.ownership import OwnedError, take
from runner.tracking.journal import first_id
from runner.tracking.processes import NUMBER

ID_TAG = "runner.id"
# MLflow's own, by which its UI nests the jobs of a sweep.
PARENT_TAG = "mlflow.parentRunId"
FINGERPRINT = "runner.fingerprint"
DIVERGED = "diverged_at_step"
PRUNED = "pruned_at_step"
STILL = "still_since_step"
REMARK = "runner.remark"
# Of the sweeps with one fingerprint, of which others may be running, so many are looked at.
MOST_SWEEPS = 100
LARGEST = 1.7976931348623157e308
RESULTS = ("steps_done", "gradient_evaluations", "seconds", "steps_per_second")


def ledger_of(
    client: MlflowClient, sweep: str, resume: str | bool, experiment: str, claim: dict[str, Any], may_join: bool
) -> dict[str, Any] | None:
    """Return the parent and the finished jobs of a sweep, as `Store.ledger` says."""
    most = MOST_SWEEPS if may_join else 1
    parents = _last_sweeps(client, experiment, sweep, most) if resume is True else [_parent(client, str(resume))]
    parent = _taken(client, parents, claim, may_join and resume is True)
    if parent is None:
        return None
    finished = [
        (run.data.tags[FINGERPRINT], run.info.run_id, _results(run.data.metrics), *_remarks(run.data.tags))
        for run in children(client, parent)
        if run.info.status == "FINISHED" and FINGERPRINT in run.data.tags
    ]
    known = {"params": parent.data.params, "tags": parent.data.tags}
    return {"parent": parent.data.tags[ID_TAG], "finished": finished, **known}


def _taken(client: MlflowClient, parents: Sequence[Run], claim: dict[str, Any], may_join: bool) -> Run | None:
    """Claim the first of some sweeps, or with `may_join` the first that no other process owns, and return it.

    Raises:
        StoreError: another process owns it.
    """
    for parent in parents:
        try:
            take(client, parent.info.run_id, claim)
        except OwnedError as error:
            if not may_join:
                raise StoreError(f"resume: {error}") from None
        else:
            return parent
    return None


def _last_sweeps(client: MlflowClient, experiment: str, sweep: str, most: int) -> list[Run]:
    """Return the latest sweeps with a fingerprint, the latest first."""
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return []
    condition = f"tags.`{FINGERPRINT}` = '{sweep}' and tags.`runner.kind` = 'sweep'"
    order = ["attributes.start_time DESC"]
    return list(client.search_runs([found.experiment_id], condition, max_results=most, order_by=order))


def _parent(client: MlflowClient, run_id: str) -> Run:
    try:
        run: Run = client.get_run(run_id)
    except MlflowException:
        raise StoreError(f"resume={run_id}: no such run, expected the id of a sweep's parent run") from None
    if run.info.lifecycle_stage != "active":
        raise StoreError(f"resume={run_id}: is in MLflow's trash, expected a sweep that is not")
    if run.data.tags.get("runner.kind") != "sweep" or ID_TAG not in run.data.tags:
        raise StoreError(f"resume={run_id}: not a sweep, expected the id of a sweep's parent run")
    return run


def job_of(tags: Mapping[str, str]) -> str:
    """Return, from a run's tags, the id under which its sweep lists the job."""
    return first_id(tags.get(ID_TAG, ""))


def children(client: MlflowClient, parent: Run, condition: str = "") -> Iterator[Run]:
    """Yield the runs of a sweep; a further condition begins with `and`."""
    return pages(client, [parent.info.experiment_id], f"tags.`{PARENT_TAG}` = '{parent.info.run_id}'{condition}")


def pages(
    client: MlflowClient, experiments: list[str], condition: str, view: int = ViewType.ACTIVE_ONLY
) -> Iterator[Run]:
    """Yield the runs of experiments that match a condition."""
    token = None
    while True:
        page = client.search_runs(experiments, condition, view, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _results(metrics: dict[str, float]) -> dict[str, float]:
    """Return the final results among a run's metrics; MLflow stores infinity as the largest float."""
    results = {key: value for key, value in metrics.items() if key.startswith(("final/", "best/")) or key in RESULTS}
    return {key: math.copysign(math.inf, value) if abs(value) >= LARGEST else value for key, value in results.items()}


def _remarks(tags: Mapping[str, str]) -> tuple[bool, int | None, str | None, bool]:
    """Return from tags: whether a run diverged, when its weight last changed, its remark, whether it was pruned."""
    still = tags.get(STILL, "")
    return DIVERGED in tags, int(still) if NUMBER.fullmatch(still) else None, tags.get(REMARK), PRUNED in tags
