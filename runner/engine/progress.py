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
    """All runs after `steps`, or one run at its end.

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
        self._final_states: dict[int, _State] = {}

    def end_at_start(self, runs: Iterable[int]) -> None:
        """End runs whose loss or gradient is NaN at the start, before their first step."""
        for run in runs:
            self.endings[run] = Ending(0, Outcome.DIVERGED)
            self._final_states[run] = _at(self._now, run)

    @property
    def direction(self) -> Direction:
        """Whether the runs minimize or maximize."""
        return self._direction

    @property
    def active(self) -> list[int]:
        """The runs that have not ended."""
        return [run for run in range(len(self._configs)) if run not in self.endings]

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
            self._carry, active = carry, self.active
            seconds = time.perf_counter() - started - self._waited
            ends = self._endings_in(block, seconds)
            passed = ActiveBlock(block, active, {run: ends[run] for run in active if run in ends})
            self._advance(passed, seconds)
            yield passed
            if len(self.endings) == len(self._configs):
                return

    def wait(self, seconds: float) -> None:
        """Leave so many seconds out of the time of the runs."""
        self._waited += seconds

    def prune(self, runs: Iterable[int]) -> None:
        """End runs after the last step: they cannot win."""
        for run in runs:
            self.endings[run] = Ending(self._now.steps, Outcome.PRUNED)
            self._final_states[run] = _at(self._now, run)

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
        rest._best_steps = self._best_steps.of_runs(rows)
        return rest

    def result(self, run: int) -> Result:
        """Return the result of a run; one that has not ended yet counts as stopped by a signal."""
        ending = self.endings.get(run) or Ending(self._now.steps, Outcome.KILLED)
        state = self._final_states.get(run) or _at(self._now, run)
        result = Result(
            outcome=ending.outcome,
            objective=self._batch.members[run].objective,
            direction=self._direction,
            steps=ending.step,
            gradient_evaluations=ending.step if state.evaluations is None else int(state.evaluations),
            seconds=state.seconds,
            weight=state.weight,
            gradient=state.gradient,
            loss=float(state.loss),
            reason=ending.reason,
            best=self._best_steps.of(run),
            engine=described(self._engine),
        )
        last = self._movement.last(run)
        sentence = stagnation_remark(self._configs[run], result, last)
        return result if sentence is None else replace(result, remarks=(sentence,), still_since=last)

    def _advance(self, passed: ActiveBlock, seconds: float) -> None:
        block, active, endings = passed.block, passed.active, passed.endings
        self._movement.update(self._now.weight, block, {run: ending.step for run, ending in endings.items()})
        lasts, last = [0] * len(self._configs), block.last
        for run in active:
            lasts[run] = endings[run].step if run in endings else last
        self._best_steps.update(block, lasts)
        self.endings |= endings
        evaluations = _total(self._now.evaluations, block.evaluations)
        self._now = _State(
            block.last,
            seconds,
            block.weight[-1],
            block.gradient[-1],
            block.loss[-1],
            None if evaluations is None else evaluations[-1],
        )
        for run, ending in endings.items():
            index = ending.step - block.first
            weight, gradient = block.weight[index, run].clone(), block.gradient[index, run].clone()
            taken = None if evaluations is None else evaluations[index, run].clone()
            loss = block.loss[index, run].clone()
            self._final_states[run] = _State(ending.step, seconds, weight, gradient, loss, taken)
        losses = [float(self._final_states[run].loss) for run in endings]
        if len(self._configs) == 1:  # for a single run, the best of all steps
            losses = self._best_steps.loss.tolist()
        elif len(endings) < len(active):
            losses += block.loss[-1].tolist() if not self.endings else block.loss[-1][self.active].tolist()
        self.best = self._direction.best([self.best, *losses])

    def _endings_in(self, block: Block, seconds: float) -> dict[int, Ending]:
        """Return how runs end in the block; if several reasons apply to a run, the earliest step decides."""
        late = [run for run, limit in self._seconds.items() if seconds >= limit]
        endings = {
            run: Ending(block.last, Outcome.STOPPED, StopReason.SECONDS.sentence(self._configs[run].stop))
            for run in late
        }
        last = block.last
        for run, config in enumerate(self._configs if self._fewest <= last else ()):
            if config.steps <= last:
                endings[run] = Ending(config.steps, Outcome.COMPLETED)
        for run, step in block.diverged_at().items():
            if run not in endings or step <= endings[run].step:
                endings[run] = Ending(step, Outcome.DIVERGED)
        for run, ending in self._stops_in(block):
            earlier = endings.get(run)
            # At the same step, a rule takes precedence over the last step and the time limit, divergence over a rule.
            if earlier is None or ending.step < earlier.step + (earlier.outcome is not Outcome.DIVERGED):
                endings[run] = ending
        return endings

    def _stops_in(self, block: Block) -> Iterator[tuple[int, Ending]]:
        if not self._limits.has_rules:
            return
        stops = first_stop(block.loss, exact_norm(block.gradient)[..., 0], self._earlier, self._limits)
        self._earlier = last_losses(self._earlier, block.loss, self._limits)
        for run, (index, reason) in enumerate(zip(stops.index.tolist(), stops.reasons, strict=True)):
            if reason is not None:
                sentence = reason.sentence(self._configs[run].stop)
                yield run, Ending(block.first + index, Outcome.STOPPED, sentence)


def _at(state: _State, run: int) -> _State:
    evaluations = None if state.evaluations is None else state.evaluations[run]
    return _State(state.steps, state.seconds, state.weight[run], state.gradient[run], state.loss[run], evaluations)


def _total(before: Tensor | None, evaluations: Tensor | None) -> Tensor | None:
    """Return the evaluations `(steps, runs)` up to each step of a block, `before` being those before it."""
    if evaluations is None:
        return None
    total = evaluations.cumsum(0)
    return total if before is None else total + before
