"""From a config to tensors: what a run minimises, from where, by which rule."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from runner.config import Config, is_finite, shown
from runner.descent import ROWS, Problem, loss_and_gradient
from runner.errors import UserError
from runner.objectives import Objective
from runner.objectives.objective import start_point
from runner.optimizers import State, hyper_parameters_in, rule_of

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Run:
    """A run ready to descend: its objective, and the problem in tensors."""

    objective: Objective
    problem: Problem


def prepare(config: Config, device: torch.device) -> Run:
    """Build the run that a config describes, and look at its start.

    Raises:
        UserError: the config does not fit its objective or optimizer, or the loss at the start is NaN.
    """
    dtype = DTYPES[config.dtype]
    objective = Objective.from_settings(config.objective)
    rule = rule_of(config.optimizer)
    start = start_point(objective, config.initial_weight, dtype).to(device)
    weight = start.expand(ROWS, -1).contiguous()
    parameters = {key: value[:, 0] for key, value in _per_row(objective.parameters, weight).items()}
    hyper = _per_row({"lr": config.lr} | hyper_parameters_in(config.optimizer), weight)

    def loss(point: Tensor) -> Tensor:
        return objective.function(point, **parameters)

    def update(weight: Tensor, gradient: Tensor, state: State) -> tuple[Tensor, State]:
        return rule.update(weight, gradient, state, **hyper)

    problem = Problem(loss, update, weight, rule.init(weight), runs=1)
    _check_start(problem, objective, start)
    return Run(objective, problem)


def _per_row(values: Mapping[str, Any], weight: Tensor) -> dict[str, Tensor]:
    """Return each number as a tensor `(rows, 1)`, so that the runs of a batch may differ in it."""
    return {
        key: torch.full((len(weight), 1), value, dtype=weight.dtype, device=weight.device)
        for key, value in values.items()
        if is_finite(value)
    }


def _check_start(problem: Problem, objective: Objective, start: Tensor) -> None:
    loss, gradient = loss_and_gradient(problem.loss, problem.weight)
    if bool(loss[0].isnan()) or bool(gradient[0].isnan().any()):
        what = "loss" if bool(loss[0].isnan()) else "gradient"
        raise UserError(
            f"initial_weight={shown(start.tolist())}: the {what} of objective {objective.name} is NaN there, "
            "expected a start where it is a number"
        )
