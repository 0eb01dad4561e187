"""Executing shards in this process."""

from collections.abc import Iterator, Sequence

from runner.engine.batches import Member
from runner.execution.batch import View
from runner.launchers.running import run_shard
from runner.launchers.shard import RunReport, Shard
from runner.tracking.tracker import Tracker


def run_in_process(shard: Shard, tracker: Tracker, view: View, members: Sequence[Member]) -> Iterator[RunReport]:
    """Execute a shard in this process, recorded by the tracker, and yield how each run ended.

    Raises:
        RunnerError: the runs cannot continue, for a reason that is not a failure of one of them.
    """
    return run_shard(shard, tracker.append, view, tracker.check, members)
