"""Learning-rate schedules: the rate as a function of the step, for all the runs of a batch at once.

Each equals its twin in `torch.optim.lr_scheduler`, whose names and defaults its arguments bear. Numbers are
float64 tensors `(rows, 1)`; a step is counted from 1, and the rate at step i is the one that torch's scheduler
has set at epoch i - 1.

To add one, write its form here and give it a file in conf/schedule/; ranges that no other schedule has go into
runner/config/schedule_ranges.py.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from runner.config.direction import Direction
from runner.config.groups import ScheduleConfig
from runner.config.registry import check_arguments, look_up
from runner.config.schedule_ranges import resolved
from runner.tensors.hyper_parameters import hyper_parameters
from runner.tensors.rows import GRAIN, padded

State: TypeAlias = tuple[Tensor, ...]


def _base(lr: Tensor, **_hyper: Any) -> Tensor:
    return lr


@dataclass(frozen=True)
class ClosedForm:
    """A schedule that needs to know the step and nothing else.

    Attributes:
        form: `form(epoch, lr, **hyper) -> rate`, all of shape `(..., rows, 1)`; epoch 0 is the first after warm-up.
        summit: `summit(lr, **hyper) -> rate`, what warm-up rises to; the base rate, unless the schedule sets it.
    """

    form: Callable[..., Tensor]
    summit: Callable[..., Tensor] = _base

    def rates(
        self, step: int | Tensor, lr: Tensor, *, warmup_steps: Tensor, warmup_start_factor: Tensor, **hyper: Any
    ) -> Tensor:
        """Return the rate of one step as `(rows, 1)`, or of steps `(steps, 1, 1)` as `(steps, rows, 1)`."""
        epoch = _epoch(step, lr)
        rate = self.form((epoch - warmup_steps).clamp(min=0), lr, **hyper)
        rising = self.summit(lr, **hyper) * warmup_factor(epoch, warmup_steps, warmup_start_factor)
        return torch.where(epoch < warmup_steps, rising, rate)

    def block(self, first: int, count: int, lr: Tensor, **hyper: Any) -> Tensor:
        """Return the rates of `count` steps from step `first` on, `(count, rows, 1)`."""
        steps = torch.arange(first, first + count, dtype=torch.float64, device=lr.device)
        return self.rates(steps[:, None, None], lr, **hyper)

    def init(self, lr: Tensor, **hyper: Any) -> State:
        """Return the state before step 1: none."""
        return ()

    def rate(
        self, step: int | Tensor, loss: Tensor | None, state: State, *, lr: Tensor, **hyper: Any
    ) -> tuple[Tensor, State]:
        """Return the rate `(rows, 1)` of a step, and the state as it was."""
        return self.rates(step, lr, **hyper), state


@dataclass(frozen=True)
class LossDriven:
    """A schedule that follows the losses; warm-up is before it, and the losses of warm-up do not count.

    Attributes:
        begin: `begin(lr, **hyper) -> state`, whose first tensor is the rate, all `(rows, 1)`.
        form: `form(loss, state, **hyper) -> state`, told the losses `(rows, 1)` one step after the other.
    """

    begin: Callable[..., State]
    form: Callable[..., State]

    def init(self, lr: Tensor, *, warmup_steps: Tensor, warmup_start_factor: Tensor, **hyper: Any) -> State:
        """Return the state before step 1."""
        return self.begin(lr, **hyper)

    def rate(
        self,
        step: int | Tensor,
        loss: Tensor | None,
        state: State,
        *,
        lr: Tensor,
        warmup_steps: Tensor,
        warmup_start_factor: Tensor,
        **hyper: Any,
    ) -> tuple[Tensor, State]:
        """Return the rate `(rows, 1)` of a step, and the state.

        Args:
            step: from 1, a number or a tensor that holds one.
            loss: `(rows, 1)`, of the forward pass of the step before; None at step 1.
            state: as the last call returned it, or `init`.
            lr: the base rate, `(rows, 1)`.
            warmup_steps: as in `warmup_factor`.
            warmup_start_factor: as in `warmup_factor`.
            hyper: the arguments of the form.
        """
        epoch = _epoch(step, lr)
        if loss is not None:
            told = self.form(loss.to(torch.float64), state, **hyper)
            counts = epoch > warmup_steps
            state = tuple(torch.where(counts, new, old) for new, old in zip(told, state, strict=True))
        return state[0] * warmup_factor(epoch, warmup_steps, warmup_start_factor), state


Schedule: TypeAlias = ClosedForm | LossDriven
Form = TypeVar("Form", bound=Callable[..., Any])
SCHEDULES: dict[str, Schedule] = {}


def closed_form(summit: Callable[..., Tensor] = _base) -> Callable[[Form], Form]:
    """Enter a form that needs to know the step and nothing else under its name; `summit` as in `ClosedForm`."""

    def enter(form: Form) -> Form:
        SCHEDULES[form.__name__] = ClosedForm(form, summit)
        return form

    return enter


def loss_driven(begin: Callable[..., State]) -> Callable[[Form], Form]:
    """Enter a form that follows the losses under its name; `begin` as in `LossDriven`."""

    def enter(form: Form) -> Form:
        SCHEDULES[form.__name__] = LossDriven(begin, form)
        return form

    return enter


def _epoch(step: int | Tensor, lr: Tensor) -> Tensor:
    return torch.as_tensor(step, dtype=torch.float64, device=lr.device) - 1


def warmup_factor(epoch: Tensor, warmup_steps: Tensor, warmup_start_factor: Tensor) -> Tensor:
    """Return what warm-up multiplies the rate by: from the start factor in a line to 1, and then 1.

    `f + (1 - f) * epoch / warmup_steps`: torch's LinearLR, followed by the schedule under a SequentialLR.
    """
    risen = warmup_start_factor + (1 - warmup_start_factor) * epoch / warmup_steps
    return torch.where(epoch < warmup_steps, risen, 1.0)


@closed_form()
def constant(epoch: Tensor, lr: Tensor) -> Tensor:
    """Return `lr`."""
    return lr.expand(epoch.shape)


@closed_form()
def step(epoch: Tensor, lr: Tensor, *, step_size: Tensor, gamma: Tensor) -> Tensor:
    """Return `lr * gamma**floor(epoch / step_size)`: torch's StepLR."""
    return lr * gamma ** (epoch / step_size).floor()


@closed_form()
def multistep(epoch: Tensor, lr: Tensor, *, milestones: tuple[Tensor, ...], gamma: Tensor) -> Tensor:
    """Return `lr * gamma**(number of milestones reached)`: torch's MultiStepLR.

    A milestone of infinity is never reached: runs of one batch may have different numbers of them.
    """
    reached = torch.stack([epoch >= milestone for milestone in milestones]).sum(0)
    return lr * gamma**reached


@closed_form()
def exponential(epoch: Tensor, lr: Tensor, *, gamma: Tensor) -> Tensor:
    """Return `lr * gamma**epoch`: torch's ExponentialLR."""
    return lr * gamma**epoch


@closed_form()
def polynomial(epoch: Tensor, lr: Tensor, *, total_iters: Tensor, power: Tensor) -> Tensor:
    """Return `lr * (1 - epoch / total_iters)**power`: torch's PolynomialLR; 0 at epoch `total_iters`."""
    return lr * (1 - epoch / total_iters).clamp(min=0) ** power


@closed_form()
def cosine(epoch: Tensor, lr: Tensor, *, T_max: Tensor, eta_min: Tensor) -> Tensor:  # noqa: N803  # torch's name
    """Return `eta_min + (lr - eta_min) * (1 + cos(pi * epoch / T_max)) / 2`: torch's CosineAnnealingLR.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017, without the restarts.
    """
    return eta_min + (lr - eta_min) * (1 + torch.cos(math.pi * epoch / T_max)) / 2


@closed_form()
def warm_restarts(
    epoch: Tensor,
    lr: Tensor,
    *,
    T_0: Tensor,  # noqa: N803  # torch's name
    T_mult: Tensor,  # noqa: N803  # torch's name
    eta_min: Tensor,
) -> Tensor:
    """Return the cosine of the cycle the epoch lies in, of length `T_0 * T_mult**n`: CosineAnnealingWarmRestarts.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.
    """
    growth = torch.where(T_mult > 1, T_mult - 1, 1.0)

    def start(cycle: Tensor) -> Tensor:
        grown = T_0 * ((T_mult**cycle).round() - 1) / growth
        return torch.where(T_mult > 1, grown, cycle * T_0)

    ratio = epoch / T_0
    cycle = torch.where(T_mult > 1, torch.log1p(ratio * growth) / torch.log(T_mult), ratio).floor()
    # The logarithm of a whole power may fall on either side of it.
    cycle = cycle - (start(cycle) > epoch).double() + (start(cycle + 1) <= epoch).double()
    return cosine(epoch - start(cycle), lr, T_max=T_0 * (T_mult**cycle).round(), eta_min=eta_min)


def one_cycle_start(_lr: Tensor, *, max_lr: Tensor, div_factor: Tensor, **_hyper: Any) -> Tensor:
    """Return where the rise begins, which stands for the base rate, in warm-up too."""
    return max_lr / div_factor


@closed_form(one_cycle_start)
def one_cycle(
    epoch: Tensor,
    _lr: Tensor,
    *,
    max_lr: Tensor,
    total_steps: Tensor,
    pct_start: Tensor,
    anneal_strategy: str,
    div_factor: Tensor,
    final_div_factor: Tensor,
    three_phase: bool,
) -> Tensor:
    """Return the rate of one rise from `max_lr / div_factor` to `max_lr` and the fall far below: OneCycleLR.

    The base rate plays no part but as what a null `max_lr` stands for. Only the rate is cycled; torch's twin,
    unless told `cycle_momentum=False`, cycles the momentum too.

    Smith and Topin, "Super-convergence: very fast training of neural networks using large learning rates", 2019.
    """
    first = one_cycle_start(_lr, max_lr=max_lr, div_factor=div_factor)
    peak_at, end = pct_start * total_steps - 1, total_steps - 1
    turns = [(torch.zeros_like(peak_at), first), (peak_at, max_lr)]
    if three_phase:
        turns.append((2 * pct_start * total_steps - 2, first))
    turns.append((end, first / final_div_factor))
    phases = [
        (until, _between(low, high, (epoch - since) / (until - since), anneal_strategy))
        for (since, low), (until, high) in itertools.pairwise(turns)
    ]
    rate = phases[-1][1]
    for until, phase in reversed(phases[:-1]):
        rate = torch.where(epoch <= until, phase, rate)
    return rate


def _between(start: Tensor, end: Tensor, part: Tensor, strategy: str) -> Tensor:
    if strategy == "linear":
        return start + (end - start) * part
    return end + (start - end) / 2 * (torch.cos(math.pi * part) + 1)


def plateau_begin(lr: Tensor, *, mode: str, **_hyper: Any) -> State:
    """Return the rate, the best loss, the number of steps without a better one, and the cool-down left."""
    worst = math.inf if mode == "min" else -math.inf
    return lr, torch.full_like(lr, worst), torch.zeros_like(lr), torch.zeros_like(lr)


@loss_driven(plateau_begin)
def plateau(
    loss: Tensor,
    state: State,
    *,
    mode: str,
    factor: Tensor,
    patience: Tensor,
    threshold: Tensor,
    threshold_mode: str,
    cooldown: Tensor,
    min_lr: Tensor,
    eps: Tensor,
) -> State:
    """Multiply the rate by `factor` after more than `patience` steps without a better loss: ReduceLROnPlateau.

    Better than the best is `loss < best * (1 - threshold)` in mode min with a relative threshold, as in torch,
    oddities included: with a negative best that bound lies above it, so a worse loss may pass for a better one,
    and a flat negative loss never reduces the rate. Use an absolute threshold where the loss may be negative.
    A NaN is never better. A cut of at most `eps` is not made.
    """
    rate, best, bad, cooling = state
    better = _is_better(loss, best, mode, threshold, threshold_mode)
    best = torch.where(better, loss, best)
    is_cooling = cooling > 0
    bad = torch.where(better | is_cooling, 0.0, bad + 1)
    falls = bad > patience
    lower = torch.maximum(rate * factor, min_lr)
    return (
        torch.where(falls & (rate - lower > eps), lower, rate),
        best,
        torch.where(falls, 0.0, bad),
        torch.where(falls, cooldown, cooling - is_cooling.double()),
    )


def _is_better(loss: Tensor, best: Tensor, mode: str, threshold: Tensor, threshold_mode: str) -> Tensor:
    sign = -1 if mode == "min" else 1
    bound = best * (1 + sign * threshold) if threshold_mode == "rel" else best + sign * threshold
    return loss < bound if mode == "min" else loss > bound


BLOCK_STEPS = 128


class Rates:
    """The learning rates of a run's steps, asked for in order; what needs no loss is made a block at a time."""

    def __init__(self, schedule: Schedule, lr: Tensor, hyper: Mapping[str, Any], rows: int | None = None) -> None:
        """Take a schedule, with rates and arguments `(padded rows, 1)`, of which the first `rows` are asked for."""
        self._schedule = schedule
        self._rows = len(lr) if rows is None else rows
        self._steps = max(1, min(BLOCK_STEPS, GRAIN // len(lr)))
        self._lr = lr
        self._hyper = hyper
        self._constant = lr[: self._rows]
        self._state = schedule.init(lr, **hyper)
        self._block: tuple[Tensor, ...] = ()
        self._first = 1
        self.vary = schedule is not SCHEDULES["constant"] or bool((hyper["warmup_steps"] > 0).any())

    def at(self, step: int, loss: Tensor | None) -> Tensor:
        """Return the rates `(rows, 1)` of a step, told the losses `(rows,)` of the step before."""
        if not self.vary:
            return self._constant
        if isinstance(self._schedule, LossDriven):
            told = None if loss is None else padded(loss[:, None])
            rate, self._state = self._schedule.rate(step, told, self._state, lr=self._lr, **self._hyper)
            return rate[: self._rows]
        if step >= self._first + len(self._block):
            self._first = step
            block = self._schedule.block(step, self._steps, self._lr, **self._hyper)
            self._block = block[:, : self._rows].unbind(0)
        return self._block[step - self._first]


def schedule_of(config: ScheduleConfig) -> Schedule:
    """Return the schedule that the config group names.

    Raises:
        UserError: an unknown name or argument. Ranges are told by `schedule_problems`, before.
    """
    schedule = look_up(SCHEDULES, config.name, "schedule.name")
    check_arguments(schedule.form, config.arguments, "schedule")
    return schedule


def schedule_parameters(
    configs: Sequence[ScheduleConfig],
    lr: Sequence[float],
    steps: Sequence[int],
    rows: int,
    device: torch.device,
    direction: Direction = Direction.DOWN,
) -> dict[str, Any]:
    """Return the arguments of the runs' groups as schedules take them, nulls filled in for what the runs are."""
    runs = zip(configs, lr, steps, strict=True)
    groups = [resolved(config.tree, rate, length, direction) for config, rate, length in runs]
    return hyper_parameters(groups, rows, device)
