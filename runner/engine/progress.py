"""A batch's descent as it goes on: where each run stands, and what ends it."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from runner.config.direction import Direction
from runner.config.stop_rules import StopReason
from runner.engine.best import BestSoFar
from runner.engine.descent import Block, descend
from runner.engine.problem import Batch
from runner.engine.result import Outcome, Result
from runner.engine.stillness import Movement, stillness
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
class Passage:
    """A block of steps, and what it means to the runs that were going when it began.

    Attributes:
        going: those runs.
        endings: of those that ended in it.
    """

    block: Block
    going: Sequence[int]
    endings: dict[int, Ending]

    def last(self, run: int) -> int:
        """Return the last step of the block that a run has made."""
        return self.endings[run].step if run in self.endings else self.block.last


@dataclass(frozen=True)
class _Standing:
    """Where all runs stand: `(runs, dim)`, `(runs, dim)` and `(runs,)` after `steps`, or one run where it ended."""

    steps: int
    seconds: float
    weight: Tensor
    gradient: Tensor
    loss: Tensor


class Descent:
    """The descent of a batch, with where each of its runs stands."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._configs = batch.configs
        self._direction = self._configs[0].direction  # the runs of a batch agree in it
        stops = [config.stop for config in self._configs]
        self._limits = Limits.of(stops, batch.problem.start.weight.device, self._direction)
        limits = {run: config.stop.seconds for run, config in enumerate(self._configs)}
        self._seconds = {run: limit for run, limit in limits.items() if limit is not None}
        weight = batch.problem.start.weight[: batch.problem.runs]
        self._earlier = torch.zeros((0, len(weight)), dtype=weight.dtype, device=weight.device)
        nothing = torch.full_like(weight, torch.nan)
        self._now = _Standing(0, 0.0, weight, nothing, nothing[:, 0])
        self._movement = Movement(len(weight), weight.device)
        self.endings: dict[int, Ending] = {}
        self._standings: dict[int, _Standing] = {}
        self.best = self._direction.worst
        self._best_steps = BestSoFar(weight, self._direction)

    def end_at_start(self, runs: Iterable[int]) -> None:
        """End runs whose loss or gradient is NaN where they start: they make no step."""
        for run in runs:
            self.endings[run] = Ending(0, Outcome.DIVERGED)
            self._standings[run] = _at(self._now, run)

    @property
    def direction(self) -> Direction:
        """Where the runs go."""
        return self._direction

    @property
    def going(self) -> list[int]:
        """The runs that have not ended."""
        return [run for run in range(len(self._configs)) if run not in self.endings]

    @property
    def steps(self) -> int:
        """The last step that any run has made."""
        return self._now.steps

    @property
    def steps_made(self) -> int:
        """How many steps all the runs have made together."""
        ended = sum(ending.step for ending in self.endings.values())
        return ended + self._now.steps * (len(self._configs) - len(self.endings))

    def blocks(self) -> Iterator[Passage]:
        """Yield the steps, until each run has made its own, diverged or been stopped by a rule."""
        if len(self.endings) == len(self._configs):
            return
        started = time.perf_counter()
        steps = max(config.steps for config in self._configs)
        for block in descend(self._batch.problem, steps, longest=-(-steps // BLOCKS)):
            going = self.going
            seconds = time.perf_counter() - started
            ends = self._endings_in(block, seconds)
            passage = Passage(block, going, {run: ends[run] for run in going if run in ends})
            self._stand(passage, seconds)
            yield passage
            if len(self.endings) == len(self._configs):
                return

    def result(self, run: int) -> Result:
        """Return where a run ended or, if it has not, stands; nothing has ended such a run, so it was stopped."""
        ending = self.endings.get(run) or Ending(self._now.steps, Outcome.KILLED)
        standing = self._standings.get(run) or _at(self._now, run)
        result = Result(
            outcome=ending.outcome,
            objective=self._batch.members[run].objective,
            direction=self._direction,
            steps=ending.step,
            gradient_evaluations=self._batch.problem.step.evaluations(ending.step),
            seconds=standing.seconds,
            weight=standing.weight,
            gradient=standing.gradient,
            loss=float(standing.loss),
            reason=ending.reason,
            best=self._best_steps.of(run),
        )
        last = self._movement.last(run)
        sentence = stillness(self._configs[run], result, last)
        return result if sentence is None else replace(result, remarks=(sentence,), still_since=last)

    def _stand(self, passage: Passage, seconds: float) -> None:
        block, going, endings = passage.block, passage.going, passage.endings
        self._movement.see(self._now.weight, block, {run: ending.step for run, ending in endings.items()})
        lasts = [0] * len(self._configs)
        for run in going:
            lasts[run] = passage.last(run)
        self._best_steps.look_at(block, lasts)
        self.endings |= endings
        self._now = _Standing(block.last, seconds, block.weight[-1], block.gradient[-1], block.loss[-1])
        for run, ending in endings.items():
            index = ending.step - block.first
            weight, gradient = block.weight[index, run].clone(), block.gradient[index, run].clone()
            self._standings[run] = _Standing(ending.step, seconds, weight, gradient, block.loss[index, run].clone())
        losses = [float(self._standings[run].loss) for run in endings]
        if len(self._configs) == 1:  # of a run of its own each step counts
            losses = self._best_steps.loss.tolist()
        elif len(endings) < len(going):
            losses += block.loss[-1].tolist() if not self.endings else block.loss[-1][self.going].tolist()
        self.best = self._direction.best([self.best, *losses])

    def _endings_in(self, block: Block, seconds: float) -> dict[int, Ending]:
        """Return how the runs that end in the block do so; the earliest of what ends a run counts."""
        late = [run for run, limit in self._seconds.items() if seconds >= limit]
        endings = {
            run: Ending(block.last, Outcome.STOPPED, StopReason.SECONDS.sentence(self._configs[run].stop))
            for run in late
        }
        for run, config in enumerate(self._configs):
            if config.steps <= block.last:
                endings[run] = Ending(config.steps, Outcome.COMPLETED)
        for run, step in block.diverged_at().items():
            if run not in endings or step <= endings[run].step:
                endings[run] = Ending(step, Outcome.DIVERGED)
        for run, ending in self._stops_in(block):
            earlier = endings.get(run)
            # A step that meets a rule and is the last, or is late, has met the rule; one that diverges has not.
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


def _at(standing: _Standing, run: int) -> _Standing:
    return _Standing(standing.steps, standing.seconds, standing.weight[run], standing.gradient[run], standing.loss[run])
