"""Runs of jobs that nodes record, and that no report ended: their worker has died, or could not tell the sweep."""

from collections.abc import Collection, Sequence

from mlflow.tracking import MlflowClient

from runner.recorder.reading import children
from runner.tracking.journal import now_ms


def settle(client: MlflowClient, sweep: str, is_complete: bool, killed: Collection[str]) -> None:
    """End the runs that a sweep has left, as `Settle` says; `killed` are jobs that it ended as KILLED itself."""
    parent = client.get_run(sweep)
    for status in ("RUNNING", "KILLED") if is_complete else ("RUNNING",):
        for child in list(children(client, parent, f" and attributes.status = '{status}'")):
            if child.info.run_id not in killed:
                _end(client, child.info.run_id, is_complete)


def leave_to(client: MlflowClient, sweep: str, jobs: Sequence[str]) -> None:
    """End runs if their sweep has ended without them, since it settles only what it finds then."""
    status = client.get_run(sweep).info.status
    if status != "RUNNING":
        for job in jobs:
            _end(client, job, is_superseded=status != "KILLED")


def _end(client: MlflowClient, run_id: str, is_superseded: bool) -> None:
    """Move a run to the trash that a later attempt has replaced; mark another one as KILLED."""
    if is_superseded:
        client.delete_run(run_id)
    else:
        client.set_terminated(run_id, "KILLED", now_ms())
