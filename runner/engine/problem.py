"""From configs to tensors: objective, start, optimizer, schedule and inputs of a batch."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from runner.config.schema import Config
from runner.engine.batches import Member
from runner.engine.descent import AnyStep, BatchLoss, Carry, Problem, Step
from runner.engine.evaluating_step import EvaluatingStep
from runner.engine.inputs import InputSource
from runner.engine.torch_step import TorchStep
from runner.messages.errors import UserError
from runner.messages.ranges import shown
from runner.objectives import Objective, parameters_of
from runner.objectives.imported import check_curvature, check_loss
from runner.objectives.residuals import RESIDUALS
from runner.optimizers import FIXED, OPTIONAL, RULES, State, rule_of
from runner.optimizers.clipping import clip_by_norm, clip_by_value
from runner.optimizers.function import Function
from runner.optimizers.torch_optim import TorchOptimizer
from runner.schedules import LossDrivenRates, Rates, rates_of, schedule_of, schedule_parameters
from runner.tensors.device import choose_device
from runner.tensors.draws import MiniBatches, Noise
from runner.tensors.hyper_parameters import hyper_parameters
from runner.tensors.layout import InPieces
from runner.tensors.rows import ROWS, column, padded, padded_length, rows_kept


@dataclass(frozen=True)
class Batch:
    """Runs of one batch, ready to descend.

    Attributes:
        members: the runs; their rows come first in the problem.
        problem: the runs in tensors.
        lr_varies: whether the learning rate changes from step to step.
    """

    members: Sequence[Member]
    problem: Problem
    lr_varies: bool

    @property
    def configs(self) -> list[Config]:
        """The config of each run."""
        return [member.config for member in self.members]

    @property
    def objective(self) -> Objective:
        """The objective of the first run; those of the others differ in their parameters at most."""
        return self.members[0].objective


def _multiple(member: Member) -> int:
    return ROWS if member.is_padded else 1


def rows_of(members: Sequence[Member]) -> int:
    """Return how many rows a batch of some runs has."""
    return padded_length(len(members), _multiple(members[0]))


def prepare(members: Sequence[Member]) -> Batch:
    """Build the batch of some runs that can share one.

    Raises:
        UserError: the optimizer or schedule does not exist or does not take its arguments.
    """
    config, objective = members[0].config, members[0].objective
    device = choose_device(config.device)
    starts = torch.stack([member.start for member in members]).to(device)
    weight = padded(starts, _multiple(members[0])).contiguous()
    parameters = parameters_of([member.objective for member in members], weight)
    configs = [member.config for member in members]
    rates = _rates(configs, weight)

    function: Callable[..., Tensor] = objective.function
    if not objective.takes_rows_together:
        function = InPieces(function, _multiple(members[0]))

    def loss(point: Tensor, samples: Tensor | None) -> Tensor:
        return function(point, samples, **parameters)

    step, state = _step(members, weight, loss, rates)
    start = Carry(weight, state, () if step.rates is None else step.rates.init())
    inputs = _inputs(members, weight, rates, step.lr_dtype)
    return Batch(members, Problem(step, start, inputs, len(members)), rates.vary)


def narrowed(batch: Batch, kept: Sequence[int], carry: Carry, done: int) -> Batch:
    """Return the rest of a batch after `done` steps with some of its runs, to be continued from what a step took over.

    No bit of a run changes, as none depends on the other rows.
    """
    members = [batch.members[run] for run in kept]
    rest = prepare(members)
    start = rows_kept(carry, like=rest.problem.start, kept=kept)
    rest.problem.inputs.skip(done)
    return replace(rest, problem=replace(rest.problem, start=start, done=done), lr_varies=batch.lr_varies)


def _rates(configs: Sequence[Config], weight: Tensor) -> Rates:
    lr, steps = [config.lr for config in configs], [config.steps for config in configs]
    schedules = [config.schedule for config in configs]
    # Padded even where the weights are not: how a power rounds depends on its place among others.
    rows = padded_length(len(weight))
    arguments = schedule_parameters(schedules, lr, steps, rows, weight.device, configs[0].direction)
    return rates_of(schedule_of(schedules[0]), column(lr, rows, weight.device), arguments, len(weight))


def _step(members: Sequence[Member], weight: Tensor, loss: BatchLoss, rates: Rates) -> tuple[AnyStep, State]:
    """Return the step of the runs, and the first state of their optimizer."""
    configs, shapes = [member.config for member in members], members[0].objective.shapes
    config, clip = configs[0], _clipping(configs, weight)
    ones, driven = torch.ones_like(weight[:, 0]), rates if isinstance(rates, LossDrivenRates) else None
    if config.optimizer.is_torch_optim:
        optimizer = TorchOptimizer(config.optimizer, weight, shapes, config.lr, config.seed)
        return TorchStep(loss, ones, driven, torch.float64, optimizer, clip), ()
    rule = rule_of(config.optimizer, shapes)
    if rule.needs_residuals and members[0].objective.residuals is None:
        raise UserError(
            f"optimizer={config.optimizer.name}: is for least squares, objective {members[0].objective.name} gives no "
            f"residuals, expected a regression or one of {', '.join(RESIDUALS)}"
        )
    settings = [config.optimizer.settings for config in configs]
    hyper = hyper_parameters(settings, len(weight), weight.device, OPTIONAL, FIXED)
    lr_dtype = weight.dtype if rule.casts_lr else torch.float64
    state = rule.init(weight, **hyper)
    if rule.evaluates:
        minima = [member.objective.known.minimum or 0.0 for member in members]

        def search(
            weight: Tensor, gradient: Tensor, state: State, function: Function, lr: Tensor
        ) -> tuple[Tensor, State, Tensor]:
            made: tuple[Tensor, State, Tensor] = rule.update(weight, gradient, state, function, lr=lr, **hyper)
            return made

        minimum = column(minima, len(weight), weight.device)
        return EvaluatingStep(loss, ones, driven, lr_dtype, search, clip, minimum, _residuals(members, weight)), state

    def update(weight: Tensor, gradient: Tensor, state: State, lr: Tensor) -> tuple[Tensor, State]:
        made: tuple[Tensor, State] = rule.update(weight, gradient, state, lr=lr, **hyper)
        return made

    def update_clipped(weight: Tensor, gradient: Tensor, state: State, lr: Tensor) -> tuple[Tensor, State]:
        return update(weight, clip(gradient), state, lr)

    is_clipped = config.clip_value is not None or config.clip_norm is not None
    recorded = None if rule.recorded is None else functools.partial(rule.recorded, **hyper)
    return Step(loss, ones, driven, lr_dtype, update_clipped if is_clipped else update, recorded), state


def _residuals(members: Sequence[Member], weight: Tensor) -> BatchLoss | None:
    """Return the function of weights `(rows, dim)` and samples to the residuals `(rows, n)`; None without any."""
    objective = members[0].objective
    if objective.residuals is None:
        return None
    parameters = parameters_of([member.objective for member in members], weight)
    return functools.partial(InPieces(objective.residuals, _multiple(members[0])), **parameters)


def _clipping(configs: Sequence[Config], weight: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function that clips gradients `(rows, dim)` by the limits of the runs."""
    values, norms = [config.clip_value for config in configs], [config.clip_norm for config in configs]
    clips = [
        functools.partial(clip, limit=column([limit for limit in limits if limit], len(weight), weight.device))
        for clip, limits in ((clip_by_value, values), (clip_by_norm, norms))
        if limits[0] is not None
    ]

    def clipped(gradient: Tensor) -> Tensor:
        for clip in clips:
            gradient = clip(gradient)
        return gradient

    return clipped


def _inputs(members: Sequence[Member], weight: Tensor, rates: Rates, lr_dtype: torch.dtype) -> InputSource:
    configs, sizes = [member.config for member in members], members[0].objective.batches
    seeds, noise, scale = [config.seed for config in configs], None, None
    if configs[0].gradient_noise != 0:
        noise = Noise(seeds, weight.shape[-1], weight.dtype)
        scale = column([config.gradient_noise for config in configs], len(weight), weight.device).to(weight.dtype)
    batches = None if sizes is None else MiniBatches(seeds, *sizes, members[0].objective.draws)
    rule = RULES.get(configs[0].optimizer.name)
    probes = Noise(seeds, weight.shape[-1], weight.dtype, "probe") if rule is not None and rule.probes else None
    return InputSource(rates, weight, lr_dtype, noise, scale, batches, probes)


def check_batch(batch: Batch) -> None:
    """Run a forward and a backward pass at the start, to find errors before the first step.

    Raises:
        UserError: the loss, its gradient or, where asked for, the curvature cannot be computed.
    """
    problem, name = batch.problem, batch.objective.name

    def loss(weight: Tensor) -> Tensor:
        return problem.step.loss(weight, None)

    check_loss(loss, problem.start.weight, name)
    if batch.members[0].config.diagnostics.curvature:
        check_curvature(loss, problem.start.weight, name)


def starts_with_nan(batch: Batch) -> dict[int, str]:
    """Return the runs whose loss or gradient is NaN at the start, with `loss` or `gradient` for which."""
    loss, gradient = batch.problem.step.loss_and_gradient(batch.problem.start.weight)
    runs = batch.problem.runs
    found = dict.fromkeys(gradient[:runs].isnan().any(-1).nonzero()[:, 0].tolist(), "gradient")
    return found | dict.fromkeys(loss[:runs].isnan().nonzero()[:, 0].tolist(), "loss")


def nan_start(member: Member, what: str) -> UserError:
    """Return the error of a run whose `what`, loss or gradient, is NaN at the start."""
    return UserError(
        f"initial_weight={shown(member.start.tolist())}: expected a start where objective "
        f"{member.objective.name} is a number, the {what} there is NaN"
    )
