"""Bulk rows compared with log_batch and bare SQLite, on fresh files: `python -m tests.benchmarks.tracking`."""

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from runner.recorder.bulk import BulkStore
from runner.recorder.database import COLUMNS_OF
from runner.recorder.opening import open_store
from runner.recorder.store import Store
from runner.tracking.journal import Begin, End, Entry, Metrics

RUNS, STEPS, KEYS = 1000, 100, ["loss", "weight", "gradient"]
PARAMS = {f"param{index}": str(index) for index in range(30)}
SHARE = 10  # log_batch writes one run in so many


def entries(runs: int) -> list[Entry]:
    """Return a sweep's journal: all begin, descend in blocks together, and end."""
    names = [f"{index:032x}" for index in range(runs)]
    values = np.random.default_rng(0).standard_normal((STEPS, len(KEYS), runs)).astype("<f8").tobytes()
    begins: list[Entry] = [Begin(name, name, "benchmark", 1_000, params=PARAMS) for name in names]
    ends: list[Entry] = [End(name, "FINISHED", 3_000, STEPS, {"final/loss": 1.0}) for name in names]
    return [*begins, Metrics(names, KEYS, list(range(1, STEPS + 1)), 2_000, values, since_ms=1_000), *ends]


def fresh(template: Path, folder: Path) -> Store:
    """Return a store on a new copy of an empty database."""
    shutil.copytree(template, folder)
    return open_store({"uri": f"sqlite:///{folder}/mlflow.db", "artifacts": None, "again": False})


def seconds(work: Callable[[], None]) -> float:
    """Return how long some work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def written(store: Store, runs: int) -> float:
    """Return how long a store takes to write the sweep."""
    made = entries(runs)

    def write() -> None:
        for entry in made:
            store.apply(entry)
        store.flush()

    return seconds(write)


def bare(source: Path, target: Path) -> float:
    """Return how long bare SQLite takes for the same rows, in the same tables and order."""
    with sqlite3.connect(source / "mlflow.db") as made:
        rows = {
            table: list(made.execute(f"select {', '.join(names)} from {table}")) for table, names in COLUMNS_OF.items()
        }

    def write() -> None:
        with sqlite3.connect(target / "mlflow.db") as database:
            for table, names in COLUMNS_OF.items():
                marks = ", ".join("?" * len(names))
                database.executemany(f"insert into {table} ({', '.join(names)}) values ({marks})", rows[table])

    return seconds(write)


def main() -> None:
    """Print the seconds, and the ratios per row."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "template").mkdir()
        open_store({"uri": f"sqlite:///{folder}/template/mlflow.db", "artifacts": None, "again": False})
        store = fresh(folder / "template", folder / "bulk")
        assert isinstance(store, BulkStore)
        bulk = written(store, RUNS)
        other = fresh(folder / "template", folder / "client")
        one_by_one = written(Store(other.client, None, False), RUNS // SHARE) * SHARE
        fresh(folder / "template", folder / "bare")
        with sqlite3.connect(folder / "bare" / "mlflow.db") as database:
            database.execute("insert into experiments (experiment_id, name, lifecycle_stage) values (1, 'b', 'active')")
        plain = bare(folder / "bulk", folder / "bare")
    print(f"bulk {bulk:.2f} s, log_batch {one_by_one:.1f} s, bare executemany {plain:.2f} s")
    print(f"bulk is {one_by_one / bulk:.1f} times as fast as log_batch, and takes {bulk / plain:.2f} times bare SQLite")


if __name__ == "__main__":
    main()
