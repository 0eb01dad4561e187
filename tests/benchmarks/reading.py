"""Reading a sweep back compared with MLflow's client, in one process: `python -m tests.benchmarks.reading [URI]`."""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from mlflow.tracking import MlflowClient

from runner.reading import runs
from runner.recorder.opening import open_store
from runner.tracking.journal import Begin, End, Entry, Metrics

RUNS, POINTS, KEYS = 1000, 320, ["loss", "gradient_norm", "weight", "gradient"]
PARAMS = {f"param{index}": str(index) for index in range(40)}
TAGS = {f"tag{index}": str(index) for index in range(15)}
RESULTS = {f"final/{index}": float(index) for index in range(12)}
SHARE = 50  # the client reads one run's histories in so many
Result = TypeVar("Result")


def entries() -> list[Entry]:
    """Return the journal of a sweep."""
    names = [f"{index:032x}" for index in range(RUNS)]
    values = np.random.default_rng(0).standard_normal((POINTS, len(KEYS), RUNS)).astype("<f8").tobytes()
    begins = [Begin(name, name, "benchmark", 1_000, parent="sweep", params=PARAMS, tags=TAGS) for name in names]
    ends = [End(name, "FINISHED", 3_000, POINTS, RESULTS) for name in names]
    parent = Begin("sweep", "sweep", "benchmark", 999, tags={"runner.kind": "sweep"})
    block = Metrics(names, KEYS, list(range(1, POINTS + 1)), 2_000, values, since_ms=1_000)
    return [parent, *begins, block, *ends, End("sweep", "FINISHED", 3_000, 0)]


def timed(what: str, work: Callable[[], Result], times: int = 1) -> Result:
    """Print how long some work takes, by the clock and by the processor, multiplied by `times`."""
    clock, cpu = time.perf_counter(), time.process_time()
    done = work()
    seconds, processor = (time.perf_counter() - clock) * times, (time.process_time() - cpu) * times
    print(f"{what:52s} {seconds:7.2f} s, processor {processor:6.2f} s")
    return done


def fill(uri: str, folder: Path) -> None:
    """Record the sweep in a store."""
    store = open_store({"uri": uri, "artifacts": str(folder), "again": False})
    for entry in entries():
        store.apply(entry)
    store.flush()
    store.close()  # analyzes SQLite


def main(uri: str | None = None) -> None:
    """Print the seconds that reading a sweep takes."""
    with tempfile.TemporaryDirectory() as name:
        uri = uri or f"sqlite:///{name}/mlflow.db"
        timed(f"recorded {RUNS:,} runs x {POINTS} points x {len(KEYS)} metrics", lambda: fill(uri, Path(name)))
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("benchmark")
        assert experiment is not None
        found = timed("runs(...)", lambda: runs(experiment="benchmark", uri=uri))
        timed("  .frame()", found.frame)
        table = timed("  .histories() of four metrics", lambda: found.histories(KEYS))
        assert len(table) == RUNS * POINTS * len(KEYS)
        timed("  .curves('loss')", lambda: found.curves("loss"))
        pages = timed(
            "MLflow's client: search_runs", lambda: client.search_runs([experiment.experiment_id], max_results=RUNS)
        )
        ids = [run.info.run_id for run in pages if run.data.metrics][::SHARE]
        read = [(run_id, key) for run_id in ids for key in KEYS]
        timed(
            "MLflow's client: get_metric_history, of one in 50, x 50",
            lambda: [client.get_metric_history(*one) for one in read],
            RUNS // len(ids),
        )


if __name__ == "__main__":
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    main(*sys.argv[1:])
