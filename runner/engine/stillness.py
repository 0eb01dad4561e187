"""Runs whose weight has stopped moving: since when, and what holds it."""

from collections.abc import Mapping

import torch
from torch import Tensor

from runner.config.schema import Config
from runner.engine.descent import Block
from runner.engine.result import Outcome, Result

# A schedule's last rates may be 0; what stood still for so small a share of a run is not worth a word.
SHARE = 0.1
ROUNDINGS = 16


class Movement:
    """After which step each run of a batch last moved."""

    def __init__(self, runs: int, device: torch.device) -> None:
        self._last = torch.zeros(runs, dtype=torch.int64, device=device)
        self._ended: dict[int, int] = {}

    def see(self, before: Tensor, block: Block, ends: Mapping[int, int]) -> None:
        """Take a block of steps.

        Args:
            before: the weights `(runs, dim)` that it begins with.
            block: the steps.
            ends: the last steps of the runs that end in it.
        """
        weight = block.weight
        if not ends and bool((weight[-1] != (weight[-2] if len(weight) > 1 else before)).any(-1).all()):
            self._last.fill_(block.last)
            return
        moves = torch.cat([(weight[:1] != before).any(-1), (weight[1:] != weight[:-1]).any(-1)])
        numbers = torch.arange(block.first, block.last + 1, device=weight.device)[:, None]
        last = torch.full_like(self._last, block.last)
        for run, step in ends.items():
            last[run] = step
        self._last = torch.maximum(self._last, torch.where(moves & (numbers <= last), numbers, 0).amax(0))
        self._ended |= {run: int(self._last[run]) for run in ends}

    def last(self, run: int) -> int:
        """Return the last step that moved a run's weight, 0 where none has."""
        return self._ended[run] if run in self._ended else int(self._last[run])


def stillness(config: Config, result: Result, last: int) -> str | None:
    """Return the sentence about a weight that stood still to the end after step `last`, short of a known minimum."""
    still = result.steps - last
    is_short = still < max(1, SHARE * result.steps)
    if is_short or result.outcome in (Outcome.DIVERGED, Outcome.FAILED) or _is_at_minimum(result):
        return None
    since = "the weight has never moved" if last == 0 else f"the weight has not moved since step {last:,}"
    return f"{since}: {_cause(config, result)}"


def _is_at_minimum(result: Result) -> bool:
    """Tell whether a run is where a known minimum is, as far as its dtype can tell."""
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
