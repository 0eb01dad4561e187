"""Runs whose weight has stopped changing: since which step, and why."""

import copy
from typing import Self

import torch
from torch import Tensor

from runner.config.schema import Config
from runner.engine.descent import Block
from runner.engine.result import Outcome, Result

# Reported only for at least this share of the steps: the last rates of a schedule may be 0.
SHARE = 0.1
ROUNDINGS = 16


class Movement:
    """The last step that changed the weight, of each run of a batch."""

    def __init__(self, runs: int, device: torch.device) -> None:
        self._last = torch.zeros(runs, dtype=torch.int64, device=device)

    def update(self, before: Tensor, block: Block, lasts: Tensor | None) -> None:
        """Take a block of steps into account.

        Args:
            before: the weights `(runs, dim)` before the block.
            block: the steps.
            lasts: `(runs,)`, the last step of each run; None if all runs make all steps of the block.
        """
        weight = block.weight
        is_last = (weight[-1] != (weight[-2] if len(weight) > 1 else before)).any(-1)
        if lasts is not None:
            is_last &= lasts == block.last
        self._last.masked_fill_(is_last, block.last)
        is_unclear = is_last.logical_not_() if lasts is None else (lasts >= block.first) & ~is_last
        if not bool(is_unclear.any()):
            return
        least, most = weight.aminmax(dim=0)
        is_unclear &= ((least != before) | (most != before)).any(-1)
        runs = is_unclear.nonzero()[:, 0]
        if len(runs) > 0:
            self._look_at_each_step(runs, before, block, lasts)

    def _look_at_each_step(self, runs: Tensor, before: Tensor, block: Block, lasts: Tensor | None) -> None:
        weight = torch.cat([before[None, runs], block.weight[:, runs]])
        moves = (weight[1:] != weight[:-1]).any(-1)
        numbers = torch.arange(block.first, block.last + 1, device=weight.device)[:, None]
        if lasts is not None:
            moves &= numbers <= lasts[runs]
        self._last[runs] = torch.maximum(self._last[runs], torch.where(moves, numbers, 0).amax(0))

    def of_runs(self, runs: Tensor) -> Self:
        """Return the movement of some runs."""
        found = copy.copy(self)
        found._last = self._last[runs]
        return found

    def last(self, run: int) -> int:
        """Return the last step that changed a run's weight, 0 if none has."""
        return int(self._last[run])


def stagnation_remark(config: Config, result: Result, last: int) -> str | None:
    """Return the remark on a weight that has not changed after step `last`, away from a known minimum; else None."""
    still = result.steps - last
    is_short = still < max(1, SHARE * result.steps)
    if is_short or result.outcome in (Outcome.DIVERGED, Outcome.FAILED) or _is_at_minimum(result):
        return None
    since = "the weight has never moved" if last == 0 else f"the weight has not moved since step {last:,}"
    return f"{since}: {_cause(config, result)}"


def _is_at_minimum(result: Result) -> bool:
    """Return whether a run has reached a known minimum, up to rounding."""
    if result.loss_error is None or result.minimum is None:
        return False
    rounding = ROUNDINGS * torch.finfo(result.weight.dtype).eps
    size = max(1.0, *map(abs, result.nearest_minimum or (0.0,)))
    is_near = (result.distance or 0.0) <= rounding * size or not bool(result.gradient.any())
    return is_near and abs(result.loss_error) <= rounding * max(1.0, abs(result.minimum))


def _cause(config: Config, result: Result) -> str:
    dtype = result.weight.dtype
    for name in ("lr", "clip_norm", "clip_value"):
        value = getattr(config, name)
        if value is not None and float(torch.tensor(value, dtype=dtype)) == 0:
            return f"{name} {value:g} is 0 in {config.dtype}"
    if not bool(result.gradient.any()):
        return f"the gradient is 0 in {config.dtype}"
    wider = "" if dtype == torch.float64 else "; dtype=float64 holds smaller ones"
    return f"each step is 0, or below the last place of the weight, in {config.dtype}{wider}"
