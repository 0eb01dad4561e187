"""The progress of a batch: the current state of each run, and when and why it ends."""

import copy
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from runner.config.direction import Direction
from runner.config.stop_rules import StopReason
from runner.engine.best import BestSoFar
from runner.engine.descent import Block, Engine, descend, eager
from runner.engine.engines import described
from runner.engine.problem import Batch, narrowed, rows_of
from runner.engine.result import Outcome, Result
from runner.engine.stagnation import Movement, stagnation_remark
from runner.engine.stopping import Limits, first_stop, last_losses
from runner.tensors.norms import exact_norm

BLOCKS = 10


@dataclass(frozen=True)
class Ending:
    """How and after which step a run ended."""

    step: int
    outcome: Outcome
    reason: str | None = None


@dataclass(frozen=True)
class ActiveBlock:
    """A block of steps, with the runs that were active when it began.

    Attributes:
        block: the steps.
        active: the runs that had not ended before the block.
        endings: how those that ended in the block did so, by run.
    """

    block: Block
    active: Sequence[int]
    endings: dict[int, Ending]

    def last(self, run: int) -> int:
        """Return the last step that a run made in the block."""
        return self.endings[run].step if run in self.endings else self.block.last


@dataclass(frozen=True)
class _State:
    """All runs after `steps`, those that have ended at their ends.

    Attributes:
        weight: `(runs, dim)`.
        gradient: `(runs, dim)`.
        loss: `(runs,)`.
        evaluations: `(runs,)`, of all steps together; None for one each.
    """

    steps: int
    seconds: float
    weight: Tensor
    gradient: Tensor
    loss: Tensor
    evaluations: Tensor | None = None

    def after(self, block: Block, seconds: float, lasts: Tensor | None) -> "_State":
        """Return the state after a block of which each run makes the steps up to `lasts`; None for all steps."""
        evaluations = None
        if block.evaluations is not None:
            before = torch.zeros_like(block.evaluations[0]) if self.evaluations is None else self.evaluations
            evaluations = _last(block.evaluations.cumsum(0) + before, before, block.first, lasts)
        return _State(
            block.last,
            seconds,
            _last(block.weight, self.weight, block.first, lasts),
            _last(block.gradient, self.gradient, block.first, lasts),
            _last(block.loss, self.loss, block.first, lasts),
            evaluations,
        )

    def of_runs(self, runs: Tensor) -> Self:
        """Return the state of some runs."""
        evaluations = None if self.evaluations is None else self.evaluations[runs]
        return replace(
            self,
            weight=self.weight[runs],
            gradient=self.gradient[runs],
            loss=self.loss[runs],
            evaluations=evaluations,
        )


class Descent:
    """The descent of a batch, with the state of each of its runs."""

    def __init__(self, batch: Batch, pauses: Sequence[int] = (), engine: Engine = eager) -> None:
        """Begin at the start of the batch.

        Args:
            batch: the runs.
            pauses: steps at which a block ends, in order.
            engine: makes the steps.
        """
        self._engine = engine
        self._pauses = pauses
        self._longest = -(-max(config.steps for config in batch.configs) // BLOCKS)
        self._waited = 0.0
        self._dropped = self._dropped_steps = 0
        self._take(batch)
        weight = batch.problem.start.weight[: batch.problem.runs]
        self._earlier = torch.zeros((0, len(weight)), dtype=weight.dtype, device=weight.device)
        nothing = torch.full_like(weight, torch.nan)
        self._now = _State(0, 0.0, weight, nothing, nothing[:, 0])
        self._movement = Movement(len(weight), weight.device)
        self._goes_on = torch.ones(len(weight), dtype=torch.bool, device=weight.device)
        self.best = self._direction.worst
        self._best_steps = BestSoFar(weight, self._direction)

    def _take(self, batch: Batch) -> None:
        """Take the runs of a batch, of which none has ended."""
        self._batch = batch
        self._carry = batch.problem.start
        self._configs = batch.configs
        self._fewest = min(config.steps for config in self._configs)
        self._direction = self._configs[0].direction  # the same for all runs of a batch
        stops = [config.stop for config in self._configs]
        self._limits = Limits.of(stops, batch.problem.start.weight.device, self._direction)
        limits = {run: config.stop.seconds for run, config in enumerate(self._configs)}
        self._seconds = {run: limit for run, limit in limits.items() if limit is not None}
        self.endings: dict[int, Ending] = {}
        self._ended_after: dict[int, float] = {}
        self._active = list(range(len(self._configs)))

    def end_at_start(self, runs: Iterable[int]) -> None:
        """End runs whose loss or gradient is NaN at the start, before their first step."""
        self._end({run: Ending(0, Outcome.DIVERGED) for run in runs})

    @property
    def direction(self) -> Direction:
        """Whether the runs minimize or maximize."""
        return self._direction

    @property
    def active(self) -> Sequence[int]:
        """The runs that have not ended."""
        return self._active

    @property
    def steps(self) -> int:
        """The number of the last step."""
        return self._now.steps

    @property
    def steps_made(self) -> int:
        """The number of steps of all runs together."""
        ended = sum(ending.step for ending in self.endings.values())
        return self._dropped_steps + ended + self._now.steps * (len(self._configs) - len(self.endings))

    @property
    def ended(self) -> int:
        """How many runs have ended."""
        return self._dropped + len(self.endings)

    def blocks(self) -> Iterator[ActiveBlock]:
        """Yield the steps, until each run has made all its steps, has diverged, or was stopped by a rule."""
        if len(self.endings) == len(self._configs):
            return
        started = time.perf_counter() - self._now.seconds
        steps, self._waited = max(config.steps for config in self._configs), 0.0
        for block, carry in descend(self._batch.problem, steps, self._longest, self._pauses, self._engine):
            self._carry, active = carry, self._active
            seconds = time.perf_counter() - started - self._waited
            endings = self._endings_in(block, seconds)
            self._advance(block, endings, seconds)
            yield ActiveBlock(block, active, endings)
            if len(self.endings) == len(self._configs):
                return

    def wait(self, seconds: float) -> None:
        """Leave so many seconds out of the time of the runs."""
        self._waited += seconds

    def prune(self, runs: Iterable[int]) -> None:
        """End runs after the last step: they cannot win."""
        self._end({run: Ending(self._now.steps, Outcome.PRUNED) for run in runs})

    def _end(self, endings: dict[int, Ending]) -> None:
        if not endings:
            return
        self.endings |= endings
        self._ended_after |= dict.fromkeys(endings, self._now.seconds)
        self._active = [run for run in self._active if run not in endings]
        self._goes_on[torch.tensor(list(endings), device=self._goes_on.device)] = False

    @property
    def needs_fewer_rows(self) -> bool:
        """Whether the active runs alone take fewer rows than all."""
        return rows_of(self._batch.members[: len(self.active)]) < len(self._carry.weight)

    def of_active(self) -> "Descent":
        """Return the rest of the descent with the rows of the active runs alone, in their order."""
        kept = self.active
        rest = copy.copy(self)
        rest._dropped = self.ended
        rest._dropped_steps += sum(ending.step for ending in self.endings.values())
        rest._take(narrowed(self._batch, kept, self._carry, self._now.steps))
        rows = torch.tensor(kept, device=self._now.weight.device)
        rest._earlier = self._earlier[:, rows]
        rest._now = self._now.of_runs(rows)
        rest._movement = self._movement.of_runs(rows)
        rest._goes_on = self._goes_on[rows]
        rest._best_steps = self._best_steps.of_runs(rows)
        return rest

    def result(self, run: int) -> Result:
        """Return the result of a run; one that has not ended yet counts as stopped by a signal."""
        ending = self.endings.get(run) or Ending(self._now.steps, Outcome.KILLED)
        state = self._now
        result = Result(
            outcome=ending.outcome,
            objective=self._batch.members[run].objective,
            direction=self._direction,
            steps=ending.step,
            gradient_evaluations=ending.step if state.evaluations is None else int(state.evaluations[run]),
            seconds=self._ended_after.get(run, state.seconds),
            weight=state.weight[run].clone(),
            gradient=state.gradient[run].clone(),
            loss=float(state.loss[run]),
            reason=ending.reason,
            best=self._best_steps.of(run),
            engine=described(self._engine),
        )
        last = self._movement.last(run)
        sentence = stagnation_remark(self._configs[run], result, last)
        return result if sentence is None else replace(result, remarks=(sentence,), still_since=last)

    def _advance(self, block: Block, endings: dict[int, Ending], seconds: float) -> None:
        before, lasts = self._now.weight, self._lasts_in(block, endings)
        self._movement.update(before, block, lasts)
        self._best_steps.update(before, block, lasts)
        self._now = self._now.after(block, seconds, lasts)
        self._end(endings)
        # For a single run, the best of all steps.
        losses = self._best_steps.loss if len(self._configs) == 1 else self._now.loss
        self.best = self._direction.best([self.best, _best(losses, self._direction)])

    def _lasts_in(self, block: Block, endings: dict[int, Ending]) -> Tensor | None:
        """Return the last step of each run, 0 for those that ended before; None if all make all steps of the block."""
        last = block.last
        if not self.endings and all(ending.step == last for ending in endings.values()):
            return None
        lasts = torch.where(self._goes_on, last, 0)
        if endings:
            runs, steps = list(endings), [ending.step for ending in endings.values()]
            lasts[torch.tensor(runs, device=lasts.device)] = torch.tensor(steps, device=lasts.device)
        return lasts

    def _endings_in(self, block: Block, seconds: float) -> dict[int, Ending]:
        """Return how active runs end in the block; if several reasons apply to a run, the earliest step decides."""
        endings, last = dict[int, Ending](), block.last
        for run, limit in self._seconds.items():
            if seconds >= limit:
                endings[run] = Ending(last, Outcome.STOPPED, StopReason.SECONDS.sentence(self._configs[run].stop))
        if self._fewest <= last:
            endings |= self._completed_by(last)
        for run, step in block.diverged_at(self._goes_on).items():
            if run not in endings or step <= endings[run].step:
                endings[run] = Ending(step, Outcome.DIVERGED)
        for run, ending in self._stops_in(block):
            earlier = endings.get(run)
            # At the same step, a rule takes precedence over the last step and the time limit, divergence over a rule.
            if earlier is None or ending.step < earlier.step + (earlier.outcome is not Outcome.DIVERGED):
                endings[run] = ending
        return {run: endings[run] for run in sorted(endings) if run not in self.endings}

    def _completed_by(self, last: int) -> dict[int, Ending]:
        """Return the endings of the active runs that have made all their steps by step `last`."""
        ended = [run for run in self._active if self._configs[run].steps <= last]
        steps = {self._configs[run].steps for run in ended}
        endings = {step: Ending(step, Outcome.COMPLETED) for step in steps}
        return {run: endings[self._configs[run].steps] for run in ended}

    def _stops_in(self, block: Block) -> Iterator[tuple[int, Ending]]:
        if not self._limits.has_rules:
            return
        norm = None if self._limits.gradient_norm is None else exact_norm(block.gradient)[..., 0]
        stops = first_stop(block.loss, norm, self._earlier, self._limits, self._goes_on)
        self._earlier = last_losses(self._earlier, block.loss, self._limits)
        runs = (stops.index >= 0).nonzero()[:, 0]
        for run, index in zip(runs.tolist(), stops.index[runs].tolist(), strict=True):
            reason = stops.reasons[run]
            assert reason is not None
            yield run, Ending(block.first + index, Outcome.STOPPED, reason.sentence(self._configs[run].stop))


def _best(losses: Tensor, direction: Direction) -> float:
    """Return the best finite loss, or the worst there is where none is finite."""
    finite = losses.where(losses.isfinite(), direction.worst)
    return float(finite.amin() if direction is Direction.DOWN else finite.amax())


def _last(values: Tensor, before: Tensor, first: int, lasts: Tensor | None) -> Tensor:
    """Return the values `(steps, runs, ...)` of a block at the last step of each run, `before` where it made none."""
    if lasts is None:
        return values[-1].clone()  # does not keep the block's memory in use
    shape = (-1, *[1] * (before.dim() - 1))
    index = (lasts - first).clamp(min=0).view(shape).expand_as(before)
    return torch.where((lasts >= first).view(shape), values.gather(0, index[None])[0], before)
