"""Executing shards in other processes, on this or other machines: what is recorded comes back, each step once.

A shard whose worker dies is executed again without the runs that had ended; of the others the steps that are recorded
already are not recorded again. Where the nodes record by themselves, these runs are executed again as others.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, TypeAlias

from runner.config.direction import Direction
from runner.console.view import Progress
from runner.launchers.nodes import without_secrets
from runner.launchers.shard import NOT_RUN, PAUSED, Place, RungReport, RunReport, Shard, ShardRun, Until
from runner.launchers.shards import Cutter
from runner.launchers.work import Work
from runner.launchers.worker import Update
from runner.process import signals
from runner.tracking.journal import End, next_id, now_ms
from runner.tracking.processes import process_tags
from runner.tracking.provenance import git_tags

if TYPE_CHECKING:
    from runner.engine.batches import Member
    from runner.launchers.running import InRungs

Groups: TypeAlias = "Sequence[Sequence[Member]]"


@dataclass(frozen=True)
class Ended:
    """A shard has sent all its updates."""


@dataclass(frozen=True)
class Died:
    """The worker of a shard has died, or the shard cannot be executed there.

    Attributes:
        reason: why, in words.
        is_final: whether it would fail in the same way anywhere.
    """

    reason: str
    is_final: bool = False


Event: TypeAlias = Update | Ended | Died


class Workers(Protocol):
    """Processes that execute shards."""

    @property
    def most(self) -> int:
        """How many shards they execute at once; it may change."""

    @property
    def places(self) -> str:
        """Where they are, in words."""

    def start(self, shard: Shard) -> int:
        """Hand a shard to a worker, at the latest when one is free; return its number."""

    def events(self, seconds: float) -> Iterable[tuple[int, Event]]:
        """Wait for events of shards, by their numbers; the last of each shard is `Ended` or `Died`."""

    def cancel(self, shard: int) -> None:
        """Kill the worker of a shard, from which no event follows any more."""


@dataclass
class _Active:
    """A shard that a worker has.

    Attributes:
        runs: those that have not ended.
        group: the number of its group; None for a part of a shard that died.
        size: how many runs it had.
        steps: that its runs are to make together.
        attempt: how many workers have died of it.
    """

    runs: dict[str, ShardRun]
    group: int | None
    size: int
    steps: int
    attempt: int
    last: Update | None = None


@dataclass
class Execution:
    """The execution of the runs of a sweep by other processes."""

    work: Work
    workers: Workers
    cutter: Cutter
    max_retries: int
    place: Place | None = None
    until: Until | None = None
    _again: deque[_Active] = field(default_factory=deque)
    _active: dict[int, _Active] = field(default_factory=dict)
    _begun: dict[str, int] = field(default_factory=dict)
    _has_failed: bool = False
    _is_in_rungs: bool = False

    def reports(self) -> Iterator[RunReport]:
        """Execute the runs, and yield how each ended.

        Raises:
            RunnerError: the runs cannot continue, for a reason that is not a failure of one of them.
        """
        try:
            yield from self._reports()
        finally:
            self._kill_all("stopped")

    def in_rungs(self, rungs: Sequence[int], cutter_of: "Callable[[Groups], Cutter]") -> "InRungs":
        """Execute the runs, and stop at each rung to be sent the ids of those to prune.

        The workers keep nothing from rung to rung: runs are executed again from their start, and no step is recorded
        twice.

        Args:
            rungs: steps, in order.
            cutter_of: cuts groups of runs into shards.

        Raises:
            RunnerError: the runs cannot continue, for a reason that is not a failure of one of them.
        """
        groups, id_of = (
            self.work.groups,
            {member: self.work.run_of(member).run for member in _members(self.work.groups)},
        )
        try:
            for rung in rungs:
                waiting: dict[str, Mapping[str, float]] = {}
                for report in self._stage(cutter_of(groups), Until(rung, prunes=False)):
                    if report.status == PAUSED:
                        waiting[report.run] = report.metrics
                    else:
                        yield report
                if not waiting:
                    return
                pruned = (yield RungReport(rung, waiting)) or ()
                ending = _among(groups, {member for member in _members(groups) if id_of[member] in pruned})
                yield from self._stage(cutter_of(ending), Until(rung, prunes=True))
                groups = _among(groups, {one for one in _members(groups) if id_of[one] in waiting.keys() - set(pruned)})
            yield from self._stage(cutter_of(groups), None)
        finally:
            self._kill_all("stopped")

    def _stage(self, cutter: Cutter, until: Until | None) -> Iterator[RunReport]:
        self.cutter, self.until = cutter, until
        yield from self._reports()

    def _reports(self) -> Iterator[RunReport]:
        while self._hand_out():
            for number, event in self.workers.events(seconds=0.2):
                yield from self._handled(number, event)
                if self._is_over:
                    yield from self._not_run()
                    return
            self.work.tracker.check()
            signals.check()
            self._show()

    @property
    def _is_over(self) -> bool:
        return self.work.fail_fast and self._has_failed

    def _hand_out(self) -> bool:
        """Give shards to the workers until all have one and the next waits; return whether any has one."""
        while len(self._active) <= self.workers.most and (active := self._next()) is not None:
            shard = Shard(tuple(active.runs.values()), self.work.fail_fast, self.work.inherited, self.place, self.until)
            self._active[self.workers.start(shard)] = active
        return bool(self._active)

    def _next(self) -> _Active | None:
        if self._again:
            return self._again.popleft()
        found = self.cutter.next()
        if found is None:
            return None
        group, members = found
        ours = {**process_tags(), **git_tags()}
        runs = (self.work.run_of(member) for member in members)
        by_id = {
            run.run: replace(
                run,
                config=without_secrets(run.config),
                tags={**ours, **run.tags},
                recorded=self._begun.get(run.run, run.recorded),
            )
            for run in runs
        }
        return _Active(by_id, group, len(by_id), sum(member.config.steps for member in members), attempt=0)

    def _handled(self, number: int, event: Event) -> Iterator[RunReport]:
        active = self._active[number]
        if isinstance(event, Update):
            yield from self._updated(active, event)
            return
        del self._active[number]
        if isinstance(event, Died):
            yield from self._died(active, event)
            return
        self._count(active.size, active.steps)
        if (
            self.until is not None and active.runs
        ):  # of a batch that failed, the runs after the first that waits at the rung
            self._again.append(self._part([*active.runs.values()], active.attempt))
        if active.group is not None and active.last is not None:
            self.cutter.learn(active.group, active.size, active.last.steps, active.last.seconds)

    def _updated(self, active: _Active, update: Update) -> Iterator[RunReport]:
        if update.entries:
            self.work.tracker.append_encoded(update.entries)
        active.last = update
        self._begun |= update.recorded
        active.runs |= {
            run: replace(active.runs[run], recorded=step) for run, step in update.recorded.items() if run in active.runs
        }
        for report in update.reports:
            if report.status != PAUSED:
                self._begun.pop(report.run, None)
            active.runs.pop(report.run, None)
            self._has_failed |= report.status == "FAILED"
            yield report

    def _died(self, active: _Active, event: Died) -> Iterator[RunReport]:
        """Execute the rest of a shard again; where that fails too, in halves, down to the run that is to blame."""
        left = list(map(self._left_of, active.runs.values()))
        steps = sum(run.config.steps for run in left)
        self._count(active.size - len(left), active.steps - steps)
        if not left:  # it died after its last update
            return
        if not event.is_final and active.attempt < self.max_retries:
            runs = {run.run: run for run in left}
            again = replace(active, runs=runs, size=len(left), steps=steps, attempt=active.attempt + 1, last=None)
            self._again.append(again)
        elif len(left) > 1 and not event.is_final:
            middle = len(left) // 2
            self._again += [self._part(left[:middle], active.attempt), self._part(left[middle:], active.attempt)]
        else:
            yield from self._failed(left, event.reason)
            self._count(len(left), steps)

    def _left_of(self, run: ShardRun) -> ShardRun:
        """Return what is left of a run whose worker has died: all of it, as another run, if the worker recorded it."""
        return run if self.place is None else replace(run, run=next_id(run.run), recorded=-1)

    def _part(self, runs: Sequence[ShardRun], attempt: int) -> _Active:
        return _Active({run.run: run for run in runs}, None, len(runs), sum(run.config.steps for run in runs), attempt)

    def _failed(self, runs: Sequence[ShardRun], reason: str) -> Iterator[RunReport]:
        self._has_failed = True
        for run in runs:
            self._begin(run)
            self._end(run.run, "FAILED", reason)
            yield RunReport(run.run, "FAILED", reason=reason)

    def _not_run(self) -> Iterator[RunReport]:
        """End what is active after a failure with `fail_fast`."""
        runs = [run for active in (*self._active.values(), *self._again) for run in active.runs]
        self._kill_all(NOT_RUN)
        yield from (RunReport(run, "NOT_RUN", reason=NOT_RUN) for run in runs)

    def _kill_all(self, reason: str) -> None:
        """Kill the workers, and record the end of the runs that have begun."""
        for number in self._active:
            self.workers.cancel(number)
        self._active.clear()
        for run in [*self._begun]:
            self._end(run, "KILLED", reason)

    def _begin(self, run: ShardRun) -> None:
        """Record a run that has not begun, because each of its workers died at once."""
        from runner.execution.recording import begin_of

        if run.run not in self._begun and run.config.tracking.experiment is not None:
            self.work.tracker.append(begin_of(run.run, run.config, run.tags, now_ms(), self.work.inherited))
            self._begun[run.run] = 0

    def _end(self, run: str, status: str, reason: str) -> None:
        """Record the end of a run that has begun."""
        step = self._begun.pop(run, None)
        if step is not None:
            self.work.tracker.append(End(run, status, now_ms(), step, tags={"runner.reason": reason}))

    def _count(self, jobs: int, steps: int) -> None:
        """Count jobs as done; from rung to rung, the view counts them when all have ended."""
        if not self._is_in_rungs:
            self.work.view.shard_done(jobs, steps)

    def _show(self) -> None:
        updates = [active.last for active in self._active.values() if active.last is not None]
        best: dict[Direction, float] = {}
        for update in updates:
            for direction, loss in update.best.items():
                direction.keep_best(best, loss)
        running = min(len(self._active), self.workers.most)
        places = f"{self.workers.places}, {running:,} shards running"
        if self.cutter.waiting:
            places += f", {self.cutter.waiting:,} runs waiting"
        steps, ended = sum(update.steps for update in updates), sum(update.ended for update in updates)
        self.work.view.progress_elsewhere(Progress(steps, ended, best, places))


def _members(groups: Groups) -> "list[Member]":
    return [member for group in groups for member in group]


def _among(groups: Groups, members: "Collection[Member]") -> Groups:
    """Return groups of runs with these runs only."""
    return [kept for group in groups if (kept := [member for member in group if member in members])]
