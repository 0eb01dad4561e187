"""Executing shards in this process, one after the other."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.launchers.rungs import Part, PartView, reports_in_rungs
from runner.launchers.shard import RunReport
from runner.launchers.work import Pruning, Work

if TYPE_CHECKING:
    from runner.engine.batches import Member


@dataclass(frozen=True)
class InProcess:
    """Executes shards in this process; the steps of one batch take at most `memory_mib`."""

    memory_mib: int

    @property
    def records_on_nodes(self) -> bool:
        """False: there are no other processes."""
        return False

    @property
    def prunes(self) -> bool:
        """True: runs wait at a rung in memory."""
        return True

    def opened(self) -> contextlib.AbstractContextManager[None]:
        """Do nothing."""
        return contextlib.nullcontext()

    def check(self, groups: "Sequence[Sequence[Member]]") -> None:
        """Do nothing: the sweep has tried out each kind of run here."""

    def reports(self, work: Work) -> Iterator[RunReport]:
        """Execute the runs, and yield how each ended.

        Raises:
            RunnerError: the runs cannot continue, for a reason that is not a failure of one of them.
        """
        if work.pruning is not None:
            yield from self._in_rungs(work, work.pruning)
            return
        from runner.engine.batches import portions
        from runner.launchers.running import run_shard

        tracker = work.tracker
        for group in work.groups:
            for members in portions(group, self.memory_mib):
                has_failed = False
                for report in run_shard(
                    work.shard_of(members), tracker.append, work.view.of_batch, tracker.check, members
                ):
                    has_failed |= report.status == "FAILED"
                    yield report
                work.view.shard_done(len(members), sum(member.config.steps for member in members))
                if work.fail_fast and has_failed:
                    return

    def _in_rungs(self, work: Work, pruning: Pruning) -> Iterator[RunReport]:
        """Execute the runs side by side from rung to rung, and yield how each ended."""
        from runner.engine.batches import portions
        from runner.launchers.running import run_shard_in_rungs

        def parts_of(work: Work, new_view: Callable[[], PartView]) -> list[Part]:
            rungs = pruning.rungs(max((member.config.steps for group in work.groups for member in group), default=1))
            append, check = work.tracker.append, work.tracker.check
            parts = []
            for group in work.groups:
                for members in portions(group, self.memory_mib):
                    view, steps = new_view(), sum(member.config.steps for member in members)
                    shard = run_shard_in_rungs(work.shard_of(members), rungs, append, view, check, members)
                    parts.append(Part(shard, view, len(members), steps))
            return parts

        yield from reports_in_rungs(work, pruning, parts_of)
