"""The descent of one run as it goes on: where it stands, and what ends it."""

import time
from collections.abc import Iterator
from dataclasses import replace

import torch

from runner.config import Config
from runner.descent import Block, descend
from runner.metrics import norms
from runner.problem import Run
from runner.result import Outcome, Result
from runner.stop_rules import StopReason
from runner.stopping import Limits, first_stop, last_losses

BLOCKS = 10


class Descent:
    """The descent of one run, with where it stands."""

    def __init__(self, config: Config, run: Run) -> None:
        self._steps = config.steps
        self._stop = config.stop
        self._run = run
        self._limits = Limits.of([config.stop], run.problem.weight.device)
        self._earlier = torch.zeros((0, 1), dtype=run.problem.weight.dtype, device=run.problem.weight.device)
        # A run that nothing ends before its last step is one that was stopped from outside.
        self.result = Result(
            outcome=Outcome.KILLED,
            objective=run.objective,
            steps=0,
            seconds=0.0,
            weight=run.problem.weight[0],
            gradient=torch.full_like(run.problem.weight[0], torch.nan),
            loss=torch.nan,
        )

    def blocks(self) -> Iterator[Block]:
        """Yield the steps, until they are done, one diverges or a rule stops them."""
        started = time.perf_counter()
        for made in descend(self._run.problem, self._steps, longest=-(-self._steps // BLOCKS)):
            seconds = time.perf_counter() - started
            step, outcome, reason = self._end_in(made, seconds)
            block = made.until(step)
            self.result = replace(
                self.result,
                outcome=outcome,
                reason=reason,
                steps=step,
                seconds=seconds,
                weight=block.weight[-1, 0],
                gradient=block.gradient[-1, 0],
                loss=float(block.loss[-1, 0]),
            )
            yield block
            if outcome is not Outcome.KILLED:
                return

    def _end_in(self, block: Block, seconds: float) -> tuple[int, Outcome, str | None]:
        """Return the last step of the block that counts, and how the run ends there; KILLED where it goes on."""
        diverged_at = block.diverged_at()
        stopped_at, reason = self._stop_in(block)
        if stopped_at is not None and reason is not None and (diverged_at is None or stopped_at < diverged_at):
            return stopped_at, Outcome.STOPPED, reason.sentence(self._stop)
        if diverged_at is not None:
            return diverged_at, Outcome.DIVERGED, None
        if block.last == self._steps:
            return block.last, Outcome.COMPLETED, None
        if self._stop["seconds"] is not None and seconds >= self._stop["seconds"]:
            return block.last, Outcome.STOPPED, StopReason.SECONDS.sentence(self._stop)
        return block.last, Outcome.KILLED, None

    def _stop_in(self, block: Block) -> tuple[int | None, StopReason | None]:
        if not self._limits.has_rules:
            return None, None
        stops = first_stop(block.loss, norms(block.gradient)[..., 0], self._earlier, self._limits)
        self._earlier = last_losses(self._earlier, block.loss, self._limits)
        index = int(stops.index[0])
        return (None, None) if index < 0 else (block.first + index, stops.reasons[0])
