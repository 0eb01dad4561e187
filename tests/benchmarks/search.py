"""What a search finds, by each way to search: `python -m tests.benchmarks.search [CASE...]`.

Prints a table in Markdown: the median of the best value over ten seeds, the interval from 10 to 90 %, and how many
steps of descent all trials made.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

import runner

SEEDS = 10
COMMON = ["hydra/sweeper=search", "tracking=off", "quiet=true"]
MOMENTUM = ["optimizer=momentum", "optimizer.momentum=tag(log,interval(0.01,0.99))"]
WAYS = {
    "random, 100 trials": ["hydra/sweeper/sampler=random", "hydra.sweeper.n_trials=100"],
    "TPE, 100": ["hydra.sweeper.n_trials=100"],
    "TPE, 200": ["hydra.sweeper.n_trials=200"],
    "TPE and Hyperband, 200": ["hydra/sweeper/pruner=hyperband", "hydra.sweeper.n_trials=200"],
}


@dataclass(frozen=True)
class Case:
    """What is searched: overrides, and the metric to minimise."""

    overrides: Sequence[str]
    metric: str = "best/loss"


CASES = {
    "Rosenbrock": Case(["objective=rosenbrock", "lr=tag(log,interval(1e-6,1e-1))", "steps=200"]),
    "Rastrigin": Case(["objective=rastrigin", "lr=tag(log,interval(1e-6,1e-1))", "steps=200"]),
    "Ackley": Case(["objective=ackley", "lr=tag(log,interval(1e-4,10))", "steps=200"]),
    "digits MLP": Case(
        ["objective=mlp", "objective.batch_size=64", "lr=tag(log,interval(1e-4,10))", "steps=100"],
        "final/held_out_loss",
    ),
}


@dataclass(frozen=True)
class Found:
    """The best value of a search, and the steps of descent that its trials made."""

    best: float
    steps: float


def searched(case: Case, way: Sequence[str], seed: int) -> Found:
    """Search once; the runs and the search have the same seed."""
    chosen = [f"hydra.sweeper.metric={case.metric}", f"hydra.sweeper.seed={seed}", f"seed={seed}"]
    frame = runner.sweep([*COMMON, *MOMENTUM, *case.overrides, *chosen, *way])
    values = frame[case.metric].where(~frame["status"].isin(["DIVERGED", "PRUNED"]))
    return Found(float(values.min()), float(frame["steps_done"].sum()))


def cells(found: Sequence[Found]) -> Iterator[str]:
    """Yield the median with its interval, and the steps in the mean."""
    low, middle, high = np.quantile([one.best for one in found], [0.1, 0.5, 0.9])
    yield f"{middle:.3g} ({low:.2g} to {high:.2g})"
    yield f"{np.mean([one.steps for one in found]):,.0f}"


def main(names: Sequence[str]) -> None:
    """Print the table."""
    print("| | " + " | ".join(f"{way} | steps" for way in WAYS) + " |")
    print("|" + " --- |" * (1 + 2 * len(WAYS)))
    for name, case in CASES.items():
        if names and name not in names:
            continue
        row: list[str] = []
        for way in WAYS.values():
            with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
                row += cells([searched(case, way, seed) for seed in range(SEEDS)])
        print(f"| {name} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("RUNNER_REPORT", "false")
    main(sys.argv[1:])
