"""From a config to tensors: what a run minimises, from where, by which rule."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from runner.config import Config
from runner.descent import ROWS, Loss, Problem, Sample, Update, loss_and_gradient, no_draw
from runner.device import choose_device
from runner.draws import MiniBatches, Noise
from runner.errors import UserError
from runner.objectives import Objective, Request, objective_of, start_point
from runner.objectives.imported import check_loss
from runner.optimizers import State, hyper_parameters, learning_rate, rule_of
from runner.optimizers.clipping import clip_by_norm, clip_by_value
from runner.optimizers.torch_optim import TorchOptimizer
from runner.ranges import shown
from runner.schedules import Rates, schedule_of, schedule_parameters

DTYPES = {"float32": torch.float32, "float64": torch.float64}
# Past this many dimensions padding would cost too much, and a run alone is one row.
PADDED_DIMENSION = 64


@dataclass(frozen=True)
class Run:
    """A run ready to descend: its objective, and the problem in tensors."""

    objective: Objective
    problem: Problem
    rates: Rates


def prepare(config: Config, device: torch.device) -> Run:
    """Build the run that a config describes.

    Raises:
        UserError: the config does not fit its objective or optimizer.
    """
    dtype = DTYPES[config.dtype]
    objective = objective_of(Request(config.objective, config.initial_weight, dtype, device))
    start = start_point(objective, config.initial_weight, config.seed, dtype).to(device)
    weight = start.expand(_rows(config, objective), -1).contiguous()
    parameters = objective.parameters_for(weight)
    lr = learning_rate(config.lr, len(weight), device)
    arguments = schedule_parameters(config.schedule, config.lr, config.steps, len(weight), device)
    rates = Rates(schedule_of(config.schedule), lr, arguments)

    def loss(point: Tensor, sample: Sample) -> Tensor:
        return objective.function(point, sample, **parameters)

    update, state = _update(config, weight, loss)
    sample, noise = _samples(config, objective, weight), _noise(config, weight)
    problem = Problem(loss, update, rates.at, weight, state, runs=1, sample=sample, noise=noise)
    return Run(objective, problem, rates)


def _rows(config: Config, objective: Objective) -> int:
    is_padded = objective.takes_rows and objective.dimension <= PADDED_DIMENSION and config.optimizer["name"] != "torch"
    return ROWS if is_padded else 1


def _update(config: Config, weight: Tensor, loss: Loss) -> tuple[Update, State]:
    """Return the update of the config's optimizer, on clipped gradients, and its first state."""
    update, state = _rule(config, weight, loss)
    clips = [
        functools.partial(clip, limit=learning_rate(limit, len(weight), weight.device))
        for clip, limit in ((clip_by_value, config.clip_value), (clip_by_norm, config.clip_norm))
        if limit is not None
    ]
    if not clips:
        return update, state

    def on_clipped(weight: Tensor, gradient: Tensor, state: State, lr: Tensor) -> tuple[Tensor, State]:
        for clip in clips:
            gradient = clip(gradient)
        return update(weight, gradient, state, lr)

    return on_clipped, state


def _rule(config: Config, weight: Tensor, loss: Loss) -> tuple[Update, State]:
    if config.optimizer["name"] == "torch":
        evaluate = functools.partial(loss_and_gradient, loss)
        return TorchOptimizer(config.optimizer, weight, config.lr, evaluate).update, ()
    rule = rule_of(config.optimizer)
    hyper = hyper_parameters(config.optimizer, len(weight), weight.device)

    def update(weight: Tensor, gradient: Tensor, state: State, lr: Tensor) -> tuple[Tensor, State]:
        return rule.update(weight, gradient, state, lr=lr, **hyper)

    return update, rule.init(weight, **hyper)


def _samples(config: Config, objective: Objective, weight: Tensor) -> Callable[[int], Sample]:
    if objective.batches is None:
        return no_draw
    batches = MiniBatches([config.seed], *objective.batches)
    return lambda step: batches.at(step).to(weight.device).expand(len(weight), -1)


def _noise(config: Config, weight: Tensor) -> Callable[[int], Tensor | None]:
    if config.gradient_noise == 0:
        return no_draw
    noise = Noise([config.seed], weight.shape[-1], weight.dtype)
    return lambda step: config.gradient_noise * noise.at(step).to(weight.device)


def check_fit(config: Config) -> None:
    """Check that the config fits this machine and its objective, without keeping what that takes.

    Raises:
        UserError: it does not.
    """
    prepare(config, choose_device(config.device))


def check_start(run: Run) -> None:
    """Look at the loss and gradient where the run starts.

    Raises:
        UserError: they cannot be computed, or one of them is NaN.
    """
    problem = run.problem
    check_loss(lambda weight: problem.loss(weight, None), problem.weight, run.objective.name)
    loss, gradient = loss_and_gradient(problem.loss, problem.weight)
    for what, value in (("loss", loss), ("gradient", gradient)):
        if bool(value[0].isnan().any()):
            raise UserError(
                f"initial_weight={shown(problem.weight[0].tolist())}: expected a start where objective "
                f"{run.objective.name} is a number, the {what} there is NaN"
            )
