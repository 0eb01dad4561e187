"""Sweeps on Ray, on one and two simulated nodes of one CPU each, compared with the launcher `batched`.

The nodes share this machine with the driver, the recorder and Ray's own processes.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.clusters import Nodes, started

# Bound by the CPU: 64 floats a run, hardly anything to record.
HEAVY = ["-m", "lr=logspace(-4,-2,2048)", "objective=rosenbrock", "objective.dimension=64", "optimizer=adam"]
HEAVY += ["steps=4000", "log_every=4000", "report=false"]
MANY = ["-m", "lr=logspace(-4,-2,1000)", "steps=1000", "log_every=10", "report=false"]
# Hardly anything to compute.
RECORDS = ["-m", "lr=logspace(-4,-2,1000)", "steps=1000", "log_every=1", "report=false"]


def seconds(*arguments: str, until: str = "") -> float:
    """Return how long a command takes, or until it prints a line with these words."""
    with tempfile.TemporaryDirectory() as folder:
        since = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "runner", *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        found = 0.0
        for line in process.stdout:
            if until and until in line and not found:
                found = time.perf_counter() - since
        if process.wait() != 0:
            raise RuntimeError(f"{arguments}: exit code {process.returncode}")
        return found or time.perf_counter() - since


@contextlib.contextmanager
def cluster(nodes: int) -> Iterator[list[str]]:
    """Give the arguments that run a sweep on a cluster of so many nodes."""
    with started(nodes) as running:
        yield on(running)


def on(nodes: Nodes) -> list[str]:
    """Return the arguments that run a sweep on a cluster."""
    return ["hydra/launcher=ray", f"hydra.launcher.address='{nodes.address}'", "hydra.launcher.shard_seconds=5"]


def main() -> None:
    """Print the table."""
    rows = {"batched": ["threads=1"], "batched, 2 threads": []}
    times = {
        name: [seconds(*HEAVY, *more), seconds(*MANY, *more), seconds(*RECORDS, *more)] for name, more in rows.items()
    }
    for nodes in (1, 2):
        with cluster(nodes) as more:
            first = seconds(*MANY, *more, until="device ")
            times[f"ray, {nodes} node{'s' * (nodes > 1)}"] = [
                *(seconds(*work, *more) for work in (HEAVY, MANY, RECORDS)),
                first,
            ]
    print(f"{'':<20} {'heavy s':>8} {'many s':>8} {'records s':>10} {'first step s':>13}")
    for name, measured in times.items():
        print(f"{name:<20} " + " ".join(f"{value:>8.1f}" for value in measured))


if __name__ == "__main__":
    main()
