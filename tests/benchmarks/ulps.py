"""How far a run in an unpadded batch is from the same run alone: `python -m tests.benchmarks.ulps`."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from runner.composition.composition import compose, install, to_config
from runner.config.schema import Config
from runner.console.run import Console
from runner.engine.batches import member_of
from runner.execution.batch import execute
from runner.execution.recording import PlannedRun
from runner.tracking.tracker import Untracked
from tests.benchmarks.exactness import ulps

FUNCTIONS = (
    *("rosenbrock", "ackley", "rastrigin", "styblinski_tang", "levy", "griewank", "zakharov", "dixon_price"),
    "ill_conditioned",
)
FORMULA = "objective.formula='sum(sigmoid(w)*abs(w)**1.5 + tanh(w)**2) + norm(w)'"
SIZES = (3, 17, 40)


def kinds() -> dict[str, list[list[str]]]:
    """Return the overrides of each kind of objective in more than 64 dimensions."""
    found = {
        name: [
            [f"objective={name}", f"objective.dimension={dimension}", "initial_weight=0.3"] for dimension in (65, 130)
        ]
        for name in FUNCTIONS
    }
    return found | {
        "expression": [["objective=expression", FORMULA, "objective.dimension=67", "initial_weight=0.3"]],
        "logistic_regression": [["objective=logistic_regression", "objective.dataset=digits"]],
        "mlp": [["objective=mlp", "objective.dataset=digits", "objective.hidden=8", "objective.batch_size=32"]],
    }


def results(configs: Sequence[Config]) -> list[Tensor]:
    """Return weight, gradient and loss of each run after its last step, in one vector."""
    runs = [
        PlannedRun(member_of(replace(config, parent_run="sweep")), str(index)) for index, config in enumerate(configs)
    ]
    done = execute(runs, Untracked().append, Console(configs[0]))
    return [torch.cat([one.weight, one.gradient, one.weight.new_tensor([one.loss])]) for one in done]


def worst(overrides: list[str], optimizer: str) -> int:
    """Return the largest distance over batches of several sizes."""
    config = to_config(compose(["quiet=true", "log_every=60", "steps=60", f"optimizer={optimizer}", *overrides]))
    found = 0
    for size in SIZES:
        configs = [replace(config, lr=lr) for lr in np.geomspace(1e-4, 3e-3, size).tolist()]
        together = results(configs)
        for run in (0, size // 2, size - 1):
            found = max(found, ulps(together[run], results([configs[run]])[0]))
    return found


def main() -> None:
    """Print the largest distance for each kind and optimizer."""
    install()
    for name, variants in kinds().items():
        worst_counts = {optimizer: max(worst(one, optimizer) for one in variants) for optimizer in ("gd", "adam")}
        print(
            f"{name:<20}" + "  ".join(f"{optimizer} {count} ulps" for optimizer, count in worst_counts.items()),
            flush=True,
        )


if __name__ == "__main__":
    main()
