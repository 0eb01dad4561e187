"""The learning rates of a batch: made before its steps where they depend on the step alone, else within each step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from runner.config.direction import Direction
from runner.config.groups import ScheduleConfig
from runner.config.registry import check_arguments, look_up
from runner.config.schedule_ranges import resolved
from runner.schedules.schedule import SCHEDULES, ClosedForm, LossDriven, Schedule, State
from runner.tensors.hyper_parameters import hyper_parameters
from runner.tensors.rows import padded


@dataclass(frozen=True)
class PlannedRates:
    """Rates that depend on the step alone.

    Attributes:
        schedule: the schedule of all runs.
        lr: the base rates `(padded rows, 1)`.
        hyper: the schedule's arguments, likewise.
        rows: how many of the rows are used.
    """

    schedule: ClosedForm
    lr: Tensor
    hyper: Mapping[str, Any]
    rows: int

    @cached_property
    def vary(self) -> bool:
        """Whether a rate changes from step to step."""
        return self.schedule is not SCHEDULES["constant"] or bool((self.hyper["warmup_steps"] > 0).any())

    def inputs(self, first: int, count: int) -> Tensor:
        """Return the rates of `count` steps from step `first` on, `(count, rows, 1)`."""
        if not self.vary:
            return self.lr[: self.rows].expand(count, -1, -1)
        return self.schedule.block(first, count, self.lr, **self.hyper)[:, : self.rows]


@dataclass(frozen=True)
class LossDrivenRates:
    """Rates that depend on the losses so far; attributes as in `PlannedRates`."""

    schedule: LossDriven
    lr: Tensor
    hyper: Mapping[str, Any]
    rows: int

    @property
    def vary(self) -> bool:
        """Whether a rate changes from step to step."""
        return True

    def inputs(self, first: int, count: int) -> Tensor:
        """Return the numbers of `count` steps from step `first` on, `(count, 1, 1)`."""
        return torch.arange(first, first + count, dtype=torch.float64, device=self.lr.device)[:, None, None]

    def init(self) -> State:
        """Return the schedule's state before step 1."""
        return self.schedule.init(self.lr, **self.hyper)

    def rate(self, step: Tensor, state: State) -> Tensor:
        """Return the rates `(rows, 1)` of a step, given its number `(1, 1)`."""
        rate = self.schedule.rate(step, state, **self.hyper)
        return rate if len(rate) == self.rows else rate[: self.rows]

    def after(self, step: Tensor, loss: Tensor, state: State) -> State:
        """Return the schedule's state after a step, given its number `(1, 1)` and its losses `(rows,)`."""
        return self.schedule.after(step, padded(loss[:, None]), state, **self.hyper)


Rates = PlannedRates | LossDrivenRates


def rates_of(schedule: Schedule, lr: Tensor, hyper: Mapping[str, Any], rows: int) -> Rates:
    """Return the rates of a schedule; arguments as the attributes of `PlannedRates`."""
    if isinstance(schedule, ClosedForm):
        return PlannedRates(schedule, lr, hyper, rows)
    return LossDrivenRates(schedule, lr, hyper, rows)


def schedule_of(config: ScheduleConfig) -> Schedule:
    """Return the schedule that the config group names.

    Raises:
        UserError: an unknown name or argument. Ranges are checked before, by `schedule_problems`.
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
    """Return the arguments of the runs' schedules as tensors, null replaced by each run's default."""
    runs = zip(configs, lr, steps, strict=True)
    groups = [resolved(config.tree, rate, length, direction) for config, rate, length in runs]
    return hyper_parameters(groups, rows, device)
