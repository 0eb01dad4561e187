"""Marking runs whose process is gone as KILLED, so that nothing is said to be running that is not."""

import argparse
import os
import socket
import sys
import time
from collections.abc import Iterator

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from runner.tracking.journal import now_ms
from runner.tracking.opening import open_store
from runner.tracking.processes import HEARTBEAT, HOST, lives
from runner.tracking.store import Store, StoreError

DEFAULT_URI = "sqlite:///outputs/mlflow.db"
# Another host's run is taken for dead when nothing was heard of it for so long; it beats far more often.
SILENT_SECONDS = 600
PAGE = 1000


def reap(client: MlflowClient, experiments: list[str]) -> list[str]:
    """Mark the runs of ours that claim to run and do not as KILLED, and return their ids."""
    dead = [run for run in _running(client, experiments) if not _is_alive(client, run)]
    for run in dead:
        client.set_tag(
            run.info.run_id, "runner.reaped", f"marked as killed by {socket.gethostname()}: its process is gone"
        )
        client.set_terminated(run.info.run_id, "KILLED", now_ms())
    return [run.info.run_id for run in dead]


def _running(client: MlflowClient, experiments: list[str]) -> Iterator[Run]:
    token = None
    while experiments:
        condition = f"attributes.status = 'RUNNING' and tags.`{HOST}` != ''"
        page = client.search_runs(experiments, condition, max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _is_alive(client: MlflowClient, run: Run) -> bool:
    tags = run.data.tags
    if tags[HOST] == socket.gethostname():
        return lives(tags)
    if HEARTBEAT not in tags and "mlflow.parentRunId" in tags:  # a job of a sweep, for which its parent's heart beats
        tags = client.get_run(tags["mlflow.parentRunId"]).data.tags
    return time.time() - int(tags.get(HEARTBEAT, "0")) / 1000 < SILENT_SECONDS


def reap_all(store: Store) -> list[str]:
    """Reap in every experiment of a store."""
    experiments = [experiment.experiment_id for experiment in store.client.search_experiments()]
    return reap(store.client, experiments)


def main() -> int:
    """Reap and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m runner.reap", description="Mark runs whose process is gone as KILLED."
    )
    uri = os.environ.get("MLFLOW_TRACKING_URI", DEFAULT_URI)
    parser.add_argument("--uri", default=uri, help="the store; MLFLOW_TRACKING_URI or outputs/mlflow.db")
    try:
        store = open_store({"uri": parser.parse_args().uri, "artifacts": "outputs/artifacts", "again": False})
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    reaped = reap_all(store)
    print(f"reaped     {len(reaped)} run{'s' if len(reaped) != 1 else ''}")
    return 0
