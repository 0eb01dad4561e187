"""Marking runs whose process has ended as KILLED."""

import argparse
import contextlib
import os
import socket
from collections.abc import Iterator, Mapping

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from runner.config.folders import check_working_directory
from runner.config.uris import DEFAULT_URI
from runner.messages.errors import UserError
from runner.messages.printing import print_error, print_lines
from runner.recorder.errors import StoreError
from runner.recorder.opening import describe_error, open_store
from runner.recorder.reading import ID_TAG, PARENT_TAG
from runner.recorder.store import Store
from runner.tracking.journal import now_ms
from runner.tracking.processes import HEARTBEAT, IDENTITY, REAPED, is_alive, is_here

# A run on another host counts as dead after this time without a heartbeat.
SILENT_SECONDS = 600
PAGE = 1000


def reap(client: MlflowClient, experiments: list[str]) -> list[str]:
    """Mark the runs in status RUNNING whose process has ended as KILLED, and return their ids."""
    parents: dict[str, Mapping[str, str]] = {}
    dead = [run for run in _running(client, experiments) if not has_live_process(client, run, parents)]
    return [run.info.run_id for run in dead if _mark(client, run.info.run_id)]


def _mark(client: MlflowClient, run_id: str) -> bool:
    """Mark a run as KILLED, unless it has ended or has a new heartbeat since it was found."""
    run = client.get_run(run_id)
    if run.info.status != "RUNNING" or has_live_process(client, run):
        return False
    client.set_tag(run_id, REAPED, f"marked as killed by {socket.gethostname()}: its process is gone")
    client.set_terminated(run_id, "KILLED", now_ms())
    return True


def _running(client: MlflowClient, experiments: list[str]) -> Iterator[Run]:
    token = None
    while experiments:
        condition = f"attributes.status = 'RUNNING' and tags.`{ID_TAG}` != ''"
        page = client.search_runs(experiments, condition, max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def has_live_process(client: MlflowClient, run: Run, parents: dict[str, Mapping[str, str]] | None = None) -> bool:
    """Return whether the process of a run is alive, or has a recent heartbeat; `parents` keeps tags for later calls."""
    tags = dict(run.data.tags)
    if not is_here(tags) and HEARTBEAT not in tags and PARENT_TAG in tags:
        # A job of a sweep shares its parent's heartbeat, and perhaps its process.
        above = _tags_of(client, tags[PARENT_TAG], {} if parents is None else parents)
        tags = {key: above[key] for key in (*IDENTITY, HEARTBEAT) if key in above} | tags
    return is_alive(tags, SILENT_SECONDS)


def _tags_of(client: MlflowClient, run_id: str, known: dict[str, Mapping[str, str]]) -> Mapping[str, str]:
    if run_id not in known:
        known[run_id] = {}
        with contextlib.suppress(MlflowException):  # it was deleted
            known[run_id] = client.get_run(run_id).data.tags
    return known[run_id]


def reap_all(store: Store) -> list[str]:
    """Reap in every experiment of a store."""
    experiments = [experiment.experiment_id for experiment in store.client.search_experiments()]
    return reap(store.client, experiments)


def main() -> int:
    """Reap and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m runner.reap", description="Mark runs whose process has ended as KILLED."
    )
    uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    parser.add_argument("--uri", default=uri, help="the store; MLFLOW_TRACKING_URI or outputs/mlflow.db")
    asked = parser.parse_args().uri
    try:
        check_working_directory()
        store = open_store({"uri": asked, "artifacts": "outputs/artifacts", "again": False})
    except StoreError as error:
        print_error(f"error: {error}")
        return 1
    except UserError as error:
        print_error(f"error: {error}")
        return error.exit_code
    try:
        reaped = reap_all(store)
    except (MlflowException, OSError) as error:
        print_error(f"error: {describe_error(error, asked)}")
        return 1
    print_lines(f"reaped     {len(reaped)} run{'s' if len(reaped) != 1 else ''}")
    return 0
