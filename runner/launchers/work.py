"""What a sweep gives to a launcher of shards, and what it expects of one."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from runner.console.view import Progress
from runner.launchers.shard import RunReport, Shard, ShardRun
from runner.tracking.inheritance import Inherited
from runner.tracking.tracker import Tracker

if TYPE_CHECKING:
    from runner.engine.batches import Member
    from runner.execution.batch import View


class SweepView(Protocol):
    """Shows the progress of a sweep."""

    @property
    def of_batch(self) -> "View":
        """Shows the progress of a batch in this process."""

    def start_elsewhere(self, places: str) -> None:
        """Show where the shards will run."""

    def progress_elsewhere(self, progress: Progress) -> None:
        """Show how far the shards are that run elsewhere."""

    def shard_done(self, jobs: int, steps: int) -> None:
        """Count the jobs of a shard as done, with all their steps."""


class Pruning(Protocol):
    """Decides which runs of a sweep end early."""

    def rungs(self, steps: int) -> Sequence[int]:
        """Return the steps, in order, at which runs of so many steps may be pruned."""

    def pruned(self, step: int, metrics: Mapping[str, Mapping[str, float]]) -> Collection[str]:
        """Return which runs end at a rung.

        Args:
            step: of the rung.
            metrics: the results so far of the runs that wait there, by the runner's id of each.
        """

    def more(self) -> "Work | None":
        """Return further runs, for which the ended ones have left room; None if there are none now."""


@dataclass(frozen=True)
class Work:
    """Runs of a sweep, and what a launcher needs to execute them.

    Attributes:
        groups: the runs, grouped into those that can share a batch.
        run_of: returns what a shard holds of a run.
        tracker: takes the journal entries.
        view: shows the progress.
        fail_fast: whether the first failure ends the sweep.
        inherited: what the record of the parent run leaves to the runs; None if they record everything themselves.
        pruning: decides which runs end early; None where all make all their steps.
    """

    groups: "Sequence[Sequence[Member]]"
    run_of: "Callable[[Member], ShardRun]"
    tracker: Tracker
    view: SweepView
    fail_fast: bool = False
    inherited: Inherited | None = None
    pruning: Pruning | None = None

    def shard_of(self, members: "Sequence[Member]") -> Shard:
        """Return the shard of some runs."""
        return Shard(tuple(map(self.run_of, members)), self.fail_fast, self.inherited)


class ShardLauncher(Protocol):
    """Cuts the runs of a sweep into shards, and has them executed."""

    @property
    def records_on_nodes(self) -> bool:
        """Whether the processes that execute shards record them, too."""

    @property
    def prunes(self) -> bool:
        """Whether runs can be ended at rungs."""

    def opened(self) -> AbstractContextManager[None]:
        """Connect to where the shards will run, until the context ends.

        Raises:
            UserError: that cannot be reached, or lacks what the runs need.
        """

    def check(self, groups: "Sequence[Sequence[Member]]") -> None:
        """Check that the runs can be executed there, before anything is recorded.

        Raises:
            UserError: they cannot.
        """

    def reports(self, work: Work) -> Iterator[RunReport]:
        """Execute the runs, and yield how each ended; after a failure with `fail_fast`, start no further shard.

        Raises:
            RunnerError: the runs cannot continue, for a reason that is not a failure of one of them.
        """
