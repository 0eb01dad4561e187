"""Reading runs by MLflow's client: from a server, or a database whose tables are not known here."""

import contextlib
import gc
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
from mlflow.entities import Metric, ViewType
from mlflow.tracking import MlflowClient

from runner.reading.rows import History, Row
from runner.reading.values import all_restored
from runner.recorder.mlflow_private import get_default_host_creds, http_request
from runner.recorder.reading import PARENT_TAG, job_of, pages
from runner.recorder.reading_back import RecordedRun, read_back, read_jobs
from runner.recorder.store import Store

IN_FLIGHT = 4
RUNS_A_REQUEST = 50
PATIENCE = 120  # seconds
# The route by which MLflow's UI reads many runs at once, and the most values in its answer.
MANY = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
MOST_VALUES = 25_000
# step, timestamp, value
Value: TypeAlias = tuple[int, int, float]


class Reader:
    """Reads runs and histories with MLflow's client."""

    def __init__(self, store: Store, uri: str) -> None:
        self.client: MlflowClient = store.client
        self.uri = uri
        self._jobs: dict[str, dict[str, RecordedRun]] = {}

    def experiments(self) -> dict[str, str]:
        """Return the names of the experiments that are not deleted, by id."""
        found: dict[str, str] = {}
        token = None
        while True:
            page = self.client.search_experiments(ViewType.ACTIVE_ONLY, page_token=token)
            found |= {one.experiment_id: one.name for one in page}
            token = page.token
            if not token:
                return found

    def matching(self, experiments: Sequence[str], condition: str) -> list[Row]:
        """Return the runs of experiments that match a filter of MLflow's, in the order in which they began."""
        if not experiments:
            return []
        with no_garbage_collection():
            rows = [Row.of(run) for run in pages(self.client, list(experiments), condition)]
        return sorted(rows, key=lambda row: (row.start_ms or 0, row.id))

    def of_experiments(self, experiments: Sequence[str]) -> list[Row]:
        """Return the runs of experiments, in the order in which they began; `children` likewise."""
        return self.matching(experiments, "")

    def children(self, experiment: str, parent: str) -> list[Row]:
        """Return the runs of a sweep, or nested in another run."""
        return self.matching([experiment], f"tags.`{PARENT_TAG}` = '{parent}'")

    def of_ids(self, ids: Sequence[str]) -> list[Row]:
        """Return the runs with these ids that exist."""
        return [Row.of(self.client.get_run(run_id)) for run_id in ids]

    def recorded(self, row: Row) -> RecordedRun:
        """Return what a run was composed of; the jobs of a sweep are read once.

        Raises:
            StoreError: that is not recorded.
        """
        parent = row.tags.get(PARENT_TAG)
        if parent is not None:
            if parent not in self._jobs:
                self._jobs[parent] = read_jobs(self.client, parent)
            if (found := self._jobs[parent].get(job_of(row.tags))) is not None:
                return found
        return read_back(self.client, row.id)

    def histories(self, rows: Sequence[Row], keys: Sequence[str]) -> list[History]:
        """Return the recorded values of metrics, run by run in their order, and key by key."""
        with_key = {key: [row.id for row in rows if key in row.metrics] for key in keys}
        jobs = [
            (key, ids[start : start + RUNS_A_REQUEST])
            for key, ids in with_key.items()
            for start in range(0, len(ids), RUNS_A_REQUEST)
        ]
        with no_garbage_collection(), ThreadPoolExecutor(IN_FLIGHT) as pool:
            read = pool.map(lambda job: self._of_key(*job), jobs)
            found = {(one.run_id, one.key): one for part in read for one in part}
        return [found[row.id, key] for row in rows for key in keys if (row.id, key) in found]

    def _of_key(self, key: str, ids: list[str]) -> list[History]:
        """Return the histories of one key of some runs, by few requests where the store is a server."""
        values = self._many(key, ids) if self.uri.startswith("http") else {}
        return [_history(run_id, key, values.get(run_id) or self._one(key, run_id)) for run_id in ids]

    def _one(self, key: str, run_id: str) -> list[Value]:
        found: list[Metric] = self.client.get_metric_history(run_id, key)
        return [(one.step, one.timestamp, one.value) for one in found]

    def _many(self, key: str, ids: list[str]) -> dict[str, list[Value]]:
        """Return the values of those runs whose values fit into an answer; runs come in the order of their ids."""
        found: dict[str, list[Value]] = {}
        left = sorted(ids)
        while left:
            params = {"run_id": left, "metric_key": key, "max_results": MOST_VALUES}
            credentials = get_default_host_creds(self.uri)
            answer: Any = http_request(credentials, MANY, "GET", params=params, raise_on_status=False, timeout=PATIENCE)
            if answer.status_code != 200:  # another version of MLflow
                return found
            values: dict[str, list[Value]] = {}
            for one in answer.json().get("metrics", ()):
                value = int(one["step"]), int(one["timestamp"]), float(one["value"])
                values.setdefault(one["run_id"], []).append(value)
            if sum(map(len, values.values())) < MOST_VALUES:
                return found | values
            last = max(values)  # it may be cut off, and those after it are missing
            found |= {run_id: values[run_id] for run_id in values if run_id != last}
            left = [run_id for run_id in left if run_id > last or (run_id == last and len(values) > 1)]
        return found


def _history(run_id: str, key: str, found: list[Value]) -> History:
    rows = sorted(found, key=lambda row: row[:2])
    steps = np.array([step for step, _, _ in rows], dtype=np.int64)
    return History(run_id, key, steps, all_restored(np.array([value for _, _, value in rows], dtype=np.float64)))


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Turn the garbage collector off while many objects are made that all stay."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
