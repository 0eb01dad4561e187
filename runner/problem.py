"""From a config to tensors: what a run minimises, from where, by which rule."""

from dataclasses import dataclass

import torch
from torch import Tensor

from runner.config import Config, shown
from runner.descent import ROWS, Problem, loss_and_gradient
from runner.device import choose_device
from runner.errors import UserError
from runner.objectives import Objective
from runner.objectives.objective import start_point
from runner.optimizers import State, hyper_parameters, learning_rate, rule_of

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Run:
    """A run ready to descend: its objective, and the problem in tensors."""

    objective: Objective
    problem: Problem


def prepare(config: Config, device: torch.device) -> Run:
    """Build the run that a config describes.

    Raises:
        UserError: the config does not fit its objective or optimizer.
    """
    dtype = DTYPES[config.dtype]
    objective = Objective.from_settings(config.objective)
    rule = rule_of(config.optimizer)
    start = start_point(objective, config.initial_weight, dtype).to(device)
    weight = start.expand(ROWS, -1).contiguous()
    parameters = objective.parameters_for(weight)
    hyper = hyper_parameters(config.optimizer, len(weight), device)
    lr = learning_rate(config.lr, len(weight), device)

    def loss(point: Tensor) -> Tensor:
        return objective.function(point, **parameters)

    def update(weight: Tensor, gradient: Tensor, state: State) -> tuple[Tensor, State]:
        return rule.update(weight, gradient, state, lr=lr, **hyper)

    problem = Problem(loss, update, weight, rule.init(weight, **hyper), runs=1)
    return Run(objective, problem)


def check_fit(config: Config) -> None:
    """Check that the config fits this machine and its objective, without keeping what that takes.

    Raises:
        UserError: it does not.
    """
    prepare(config, choose_device(config.device))


def check_start(run: Run) -> None:
    """Look at the loss and gradient where the run starts.

    Raises:
        UserError: one of them is NaN.
    """
    loss, gradient = loss_and_gradient(run.problem.loss, run.problem.weight)
    for what, value in (("loss", loss), ("gradient", gradient)):
        if bool(value[0].isnan().any()):
            raise UserError(
                f"initial_weight={shown(run.problem.weight[0].tolist())}: expected a start where objective "
                f"{run.objective.name} is a number, the {what} there is NaN"
            )
