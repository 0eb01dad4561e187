"""The runs of the page, descended by the runner's own loop, with the steps that the page shows."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from runner.config.schema import Config
from runner.engine.batches import Member, grouped, member_of, portions
from runner.engine.descent import Block
from runner.engine.problem import check_batch, nan_start, prepare, starts_with_nan
from runner.engine.progress import ActiveBlock, Descent
from runner.engine.result import Result
from runner.process import signals
from runner.tensors.device import set_threads

# A gradient counts as turned only while its norm is this share of the first one: below it, rounding turns it.
ACTIVE = 1e-3
ROUND = (1, 2, 5)
PARTS = ("weight", "loss", "gradient", "lr")

Watch: TypeAlias = Callable[[int, int], None]


def kept_steps(steps: int, most: int) -> list[int]:
    """Return the steps to keep of 0 to `steps`: at most about `most`, each later one with the one before it.

    The first steps are all kept, then every n-th, n being 1, 2 or 5 times a power of ten, and the last.
    """
    if steps <= most:
        return list(range(steps + 1))
    first = most * 3 // 5
    every = _round_up((steps - first) / max(1, (most - first) // 2 - 1))
    later = {*range(first - first % every + every, steps, every), steps}
    return sorted({*range(first + 1), *later, *(step - 1 for step in later)})


def _round_up(number: float) -> int:
    scale = 1
    while True:
        for factor in ROUND:
            if factor * scale >= number:
                return factor * scale
        scale *= 10


@dataclass(frozen=True, eq=False)
class Paths:
    """Runs as the page shows them; the shapes are `(runs, kept, ...)`, one entry for each kept step.

    A run that ended at a step that is not kept has its last two steps in the next two entries. The entries after its
    end repeat the last.

    Attributes:
        weight: `(runs, kept, dim)`, after the step.
        loss: `(runs, kept)`, of the step's forward pass; NaN for step 0.
        gradient: `(runs, kept, dim)`, of the same pass.
        lr: `(runs, kept)`, of the update, in float64.
        ends: for each run, the index of its last step.
        results: how each run ended.
        turns: for each run, at how many steps the gradient pointed against the one before.
    """

    weight: Tensor
    loss: Tensor
    gradient: Tensor
    lr: Tensor
    ends: list[int]
    results: list[Result]
    turns: list[int]


@dataclass(frozen=True, eq=False)
class _State:
    """The runs after one step: weight and gradient `(runs, dim)`, loss and lr `(runs,)`."""

    weight: Tensor
    loss: Tensor
    gradient: Tensor
    lr: Tensor

    def of(self, run: int) -> "_State":
        return _State(self.weight[run], self.loss[run], self.gradient[run], self.lr[run])


@dataclass
class _Keeper:
    """Keeps the steps to show of one batch."""

    steps: Sequence[int]
    start: Tensor
    at: list[_State] = field(default_factory=list)
    ends: dict[int, tuple[_State, _State]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        nothing = torch.full_like(self.start, torch.nan)
        self._before = _State(self.start, nothing[:, 0], nothing, nothing[:, 0].to(torch.float64))
        self.at.append(self._before)
        self._first_norm: Tensor | None = None
        self.turns = torch.zeros(len(self.start), dtype=torch.int64)

    def take(self, passed: ActiveBlock) -> None:
        block = passed.block
        for run in passed.endings:
            last = passed.last(run)
            self.ends[run] = self._state(block, last - 1).of(run), self._state(block, last).of(run)
        self._count_turns(passed)
        while len(self.at) < len(self.steps) and self.steps[len(self.at)] <= block.last:
            self.at.append(self._state(block, self.steps[len(self.at)]))
        self._before = self._state(block, block.last)

    def _state(self, block: Block, step: int) -> _State:
        index = step - block.first
        if index < 0:
            return self._before
        parts = (block.weight[index], block.loss[index], block.gradient[index], block.lr[index])
        return _State(*(part.cpu().clone() for part in parts))

    def _count_turns(self, passed: ActiveBlock) -> None:
        block = passed.block
        gradient = torch.cat([self._before.gradient[None], block.gradient.cpu()]).to(torch.float64)
        norm = gradient.norm(dim=-1)
        if self._first_norm is None:
            self._first_norm = norm[1]
        numbers = torch.arange(block.first, block.last + 1)[:, None]
        lasts = torch.zeros(len(self.start), dtype=torch.int64)
        lasts[list(passed.active)] = torch.tensor([passed.last(run) for run in passed.active])
        is_active = (norm[1:] > ACTIVE * self._first_norm) & (numbers <= lasts)
        self.turns += (((gradient[1:] * gradient[:-1]).sum(-1) < 0) & is_active).sum(0)

    def paths(self, results: Sequence[Result]) -> Paths:
        """Return the kept steps of all runs, which have ended."""
        self.at += self.at[-1:] * (len(self.steps) - len(self.at))
        parts = ([getattr(state, name) for state in self.at] for name in PARTS)
        stacked = {name: torch.stack(part, 1) for name, part in zip(PARTS, parts, strict=True)}
        ends = []
        for run, result in enumerate(results):
            end = self._end_of(result.steps)
            ends.append(end)
            if run in self.ends:
                before, last = self.ends[run]
                for name, part in stacked.items():
                    part[run, end:] = getattr(last, name)
                    if end > 1:
                        part[run, end - 1] = getattr(before, name)
        weight, loss, gradient, lr = (stacked[name] for name in PARTS)
        return Paths(weight, loss, gradient, lr, ends, list(results), self.turns.tolist())

    def _end_of(self, last: int) -> int:
        """Return the index for a run's last step."""
        end = next(index for index, step in enumerate(self.steps) if step >= last)
        return end if end == 0 or self.steps[end - 1] >= last - 1 else end + 1


def check_start(config: Config) -> Member:
    """Return the run of a config, after a forward and a backward pass at its start.

    Raises:
        UserError: the config does not fit this machine or its objective, or the loss or its gradient is NaN there.
    """
    set_threads(config.threads, config.interop_threads)
    member = member_of(config)
    batch = prepare([member])
    check_batch(batch)
    for what in starts_with_nan(batch).values():
        raise nan_start(member, what)
    return member


def descend_all(members: Sequence[Member], steps: Sequence[int], watch: Watch) -> Paths:
    """Return the runs with these steps of theirs; those that can share a batch are descended as one.

    Args:
        members: the runs.
        steps: which steps to keep.
        watch: called now and then with how many steps of all runs together are done, and how many there are.
    """
    total, done = sum(member.config.steps for member in members), 0
    order: list[Member] = []
    found: list[Paths] = []
    for batch in _batches(members):
        order += batch
        found.append(_descend(batch, steps, functools.partial(_told, watch, done, total)))
        done += sum(member.config.steps for member in batch)
    place = {member: index for index, member in enumerate(order)}
    rows = [place[member] for member in members]
    weight, loss, gradient, lr = (torch.cat([getattr(paths, name) for paths in found])[rows] for name in PARTS)
    ends = [end for paths in found for end in paths.ends]
    results = [result for paths in found for result in paths.results]
    turns = [count for paths in found for count in paths.turns]
    return Paths(
        weight, loss, gradient, lr, [ends[row] for row in rows], [results[row] for row in rows],
        [turns[row] for row in rows],
    )  # fmt: skip


def _told(watch: Watch, before: int, total: int, made: int) -> None:
    watch(before + made, total)


def final_results(members: Sequence[Member]) -> list[Result]:
    """Return how each run ends; runs that can share a batch are descended as one."""
    found: dict[Member, Result] = {}
    for batch in _batches(members):
        descent = _descent(batch)
        for _ in descent.blocks():
            signals.check()
        found |= {member: descent.result(run) for run, member in enumerate(batch)}
    return [found[member] for member in members]


def _batches(members: Sequence[Member]) -> Iterator[Sequence[Member]]:
    for group in grouped(members):
        yield from portions(group)


def _descent(members: Sequence[Member]) -> Descent:
    batch = prepare(members)
    descent = Descent(batch)
    descent.end_at_start(starts_with_nan(batch))
    return descent


def _descend(members: Sequence[Member], steps: Sequence[int], watch: Callable[[int], None]) -> Paths:
    keeper = _Keeper(steps, torch.stack([member.start for member in members]))
    descent = _descent(members)
    for passed in descent.blocks():
        keeper.take(passed)
        watch(descent.steps_made)
        signals.check()
    return keeper.paths([descent.result(run) for run in range(len(members))])
