"""Stopping rules on the history of a batch: the first step of each run that meets one.

The rules are evaluated a block of steps at a time, so that the descent never waits for a value. They find the exact
step, whatever the length of the blocks. The limit on wall time is checked by the caller.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from runner.config.direction import Direction
from runner.config.groups import StopConfig
from runner.config.stop_rules import StopReason

# The rule that is reported when a step meets several.
ORDER = (StopReason.GRADIENT_NORM, StopReason.LOSS_CHANGE, StopReason.TARGET_LOSS)


@dataclass(frozen=True)
class Limits:
    """The limits of the runs of a batch; NaN for a run without the rule, None where no run has it.

    Attributes:
        gradient_norm: `(runs,)` in float64; a run stops below it.
        loss_change: `(runs,)` in float64; a run stops when its loss has changed by less in `window` steps.
        target_loss: `(runs,)` in float64; a run stops at or below it, or at or above it if it maximizes.
        window: `(runs,)` whole numbers.
        longest_window: the largest of `window` where loss changes matter, else 0.
        direction: whether the runs minimize or maximize.
    """

    gradient_norm: Tensor | None
    loss_change: Tensor | None
    target_loss: Tensor | None
    window: Tensor
    longest_window: int
    direction: Direction = Direction.DOWN

    @classmethod
    def of(
        cls,
        stops: Sequence[StopConfig],
        device: torch.device,
        direction: Direction = Direction.DOWN,
    ) -> Self:
        """Return the limits that the config groups of the runs, one each, set."""
        windows = [stop.loss_change.window for stop in stops]
        loss_change = _limits([stop.loss_change.below for stop in stops], device)
        return cls(
            gradient_norm=_limits([stop.gradient_norm for stop in stops], device),
            loss_change=loss_change,
            target_loss=_limits([stop.target_loss for stop in stops], device),
            window=torch.tensor(windows, device=device),
            longest_window=0 if loss_change is None else max(windows),
            direction=direction,
        )

    def of_runs(self, runs: Tensor) -> Self:
        """Return the limits of some runs."""
        chosen = (
            None if one is None else one[runs] for one in (self.gradient_norm, self.loss_change, self.target_loss)
        )
        gradient_norm, loss_change, target_loss = chosen
        return replace(
            self,
            gradient_norm=gradient_norm,
            loss_change=loss_change,
            target_loss=target_loss,
            window=self.window[runs],
        )

    @property
    def has_rules(self) -> bool:
        """Whether any run has a rule."""
        return any(limit is not None for limit in (self.gradient_norm, self.loss_change, self.target_loss))


def _limits(values: Sequence[float | None], device: torch.device) -> Tensor | None:
    if all(value is None for value in values):
        return None
    numbers = [math.nan if value is None else value for value in values]
    return torch.tensor(numbers, dtype=torch.float64, device=device)


@dataclass(frozen=True)
class Stops:
    """Where the runs stop in a block.

    Attributes:
        index: `(runs,)`, the index in the block of the first step that meets a rule, or -1.
        reasons: for each run, the rule that it meets there; None for a run that continues.
    """

    index: Tensor
    reasons: tuple[StopReason | None, ...]


def first_stop(
    loss: Tensor, gradient_norm: Tensor | None, earlier_losses: Tensor, limits: Limits, among: Tensor | None = None
) -> Stops:
    """Return where each run first meets a rule; NaN meets none.

    Args:
        loss: `(steps, runs)`, at least one step.
        gradient_norm: `(steps, runs)`, of the same forward passes; None where no run has a limit for it.
        earlier_losses: `(earlier, runs)`, of the steps just before, as `last_losses` returns them.
        limits: of the runs.
        among: `(runs,)`, which runs may stop; None for all.
    """
    may_stop = _may_stop(loss, gradient_norm, limits)
    runs = (may_stop if among is None else may_stop & among).nonzero()[:, 0]
    index = torch.full_like(may_stop, -1, dtype=torch.int64)
    reasons: list[StopReason | None] = [None] * len(index)
    if len(runs) > 0:
        norm = None if gradient_norm is None else gradient_norm[:, runs]
        met = _met(loss[:, runs], norm, earlier_losses[:, runs], limits.of_runs(runs))
        any_met = met.any(0)
        at = any_met.to(torch.uint8).argmax(0)
        rule = met[:, at, torch.arange(len(runs), device=runs.device)].to(torch.uint8).argmax(0)
        stops = any_met.any(0)
        index[runs] = torch.where(stops, at, -1)
        for run, which, is_stop in zip(runs.tolist(), rule.tolist(), stops.tolist(), strict=True):
            reasons[run] = ORDER[which] if is_stop else None
    return Stops(index, tuple(reasons))


def _may_stop(loss: Tensor, gradient_norm: Tensor | None, limits: Limits) -> Tensor:
    """Return `(runs,)` which runs may meet a rule by their lowest or highest numbers, which are NaN where one is."""
    found = torch.zeros_like(loss[0], dtype=torch.bool)
    if gradient_norm is not None and limits.gradient_norm is not None:
        least = gradient_norm.amin(0)
        found |= ((least < limits.gradient_norm) | least.isnan()) & ~limits.gradient_norm.isnan()
    if limits.loss_change is not None:
        found |= ~limits.loss_change.isnan()
    if limits.target_loss is not None:
        best = loss.amin(0) if limits.direction is Direction.DOWN else loss.amax(0)
        is_reached = _reached(best, limits.target_loss, limits.direction)
        found |= (is_reached | best.isnan()) & ~limits.target_loss.isnan()
    return found


def _met(loss: Tensor, gradient_norm: Tensor | None, earlier_losses: Tensor, limits: Limits) -> Tensor:
    """Return `(rules, steps, runs)` which rules each step meets, in their order."""
    return torch.stack(
        [
            _never(loss) if gradient_norm is None else _below(gradient_norm, limits.gradient_norm),
            _changed_less(loss, earlier_losses, limits),
            _reached(loss, limits.target_loss, limits.direction),
        ]
    )


def last_losses(earlier_losses: Tensor, loss: Tensor, limits: Limits) -> Tensor:
    """Return the last losses `(at most longest_window, runs)`, the `earlier_losses` of the next block."""
    if limits.longest_window == 0:
        return earlier_losses[:0]
    seen = torch.cat([earlier_losses, loss])
    return seen[max(0, len(seen) - limits.longest_window) :].clone()


def _below(values: Tensor, limit: Tensor | None) -> Tensor:
    return _never(values) if limit is None else values.to(torch.float64) < limit


def _reached(loss: Tensor, target: Tensor | None, direction: Direction) -> Tensor:
    if target is None:
        return _never(loss)
    exact = loss.to(torch.float64)
    return exact <= target if direction is Direction.DOWN else exact >= target


def _never(values: Tensor) -> Tensor:
    return torch.zeros_like(values, dtype=torch.bool)


def _changed_less(loss: Tensor, earlier_losses: Tensor, limits: Limits) -> Tensor:
    if limits.loss_change is None:
        return _never(loss)
    seen = torch.cat([earlier_losses, loss]).to(torch.float64)
    here = torch.arange(len(earlier_losses), len(seen), device=loss.device)[:, None]
    before = here - limits.window
    change = (seen[len(earlier_losses) :] - seen.gather(0, before.clamp(min=0))).abs()
    return (before >= 0) & (change < limits.loss_change)
