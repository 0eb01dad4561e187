"""The cost of an update step, for one run and a thousand, compared with its twin."""

import time
from collections.abc import Callable
from typing import Any

import torch

from runner.optimizers import OPTIONAL, RULES
from runner.tensors.hyper_parameters import hyper_parameters
from runner.tensors.rows import column
from tests.optimizers.test_rules import TWINS
from tests.support.descents import defaults

STEPS = 300
REPEATS = 7
CPU = torch.device("cpu")


def microseconds(step: Callable[[], object]) -> float:
    """Return the least time of a step over several repeats, in microseconds."""
    best = float("inf")
    for _ in range(REPEATS):
        begun = time.perf_counter()
        for _ in range(STEPS):
            step()
        best = min(best, (time.perf_counter() - begun) / STEPS)
    return best * 1e6


def runner_step(name: str, rows: int) -> Callable[[], object]:
    """Return a step of the runner's rule on so many rows of one number."""
    weight, gradient = torch.ones(rows, 1), torch.full((rows, 1), 0.1)
    hyper = hyper_parameters([defaults(name)], rows, CPU, OPTIONAL)
    update, lr = RULES[name].update, column([1e-3], rows, CPU)
    lr = lr.to(weight.dtype) if RULES[name].casts_lr else lr
    state = RULES[name].init(weight, **hyper)

    def step() -> None:
        nonlocal weight, state
        weight, state = update(weight, gradient, state, lr=lr, **hyper)

    return step


def twin_step(name: str) -> Callable[[], object]:
    """Return a step of the twin on one number; SGD is the twin of gd here."""
    weight = torch.ones(1, requires_grad=True)
    weight.grad = torch.full((1,), 0.1)
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in defaults(name).items()}
    arguments.pop("name")
    if name == "gd":
        return torch.optim.SGD([weight], lr=1e-3).step
    if not TWINS[name].maximizes:
        arguments.pop("maximize")
    twin: Any = TWINS[name].make([weight], lr=1e-3, **arguments)
    if name.startswith("schedule_free"):
        twin.train()
    step: Callable[[], object] = twin.step
    return step


def main() -> None:
    """Print the table."""
    print(f"{'rule':<20} {'twin us':>8} {'runner us':>8} {'ratio':>6} {'1,000 runs us':>14} {'ratio':>6}")
    for name in sorted(RULES):
        if name not in TWINS and name != "gd":
            continue
        twin, one, many = (
            microseconds(twin_step(name)),
            microseconds(runner_step(name, 64)),
            microseconds(runner_step(name, 1024)),
        )
        print(f"{name:<20} {twin:>8.1f} {one:>8.1f} {one / twin:>6.2f} {many:>14.1f} {many / twin:>6.2f}")


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
