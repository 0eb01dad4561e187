"""Executing shards in this process, one after the other."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.launchers.shard import RunReport
from runner.launchers.work import Work

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
