"""Cutting runs into shards of a wanted length, by the speed of the shards that have ended."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.engine.batches import Member

# The first shards of a kind, by which its speed is measured: one width of a padded batch.
FIRST = 64
# A speed is of use for shards at most so many times as large as the one that it was measured with.
GROWTH = 16
# The last shards are made smaller, so that all workers end at about the same time.
SHARES = 2


@dataclass
class _Kind:
    """Runs of one kind that wait, those with the fewest steps first, and the seconds that a step of a run takes."""

    waiting: "deque[Member]"
    steps: int
    most: int
    seconds_a_step: float | None = None
    largest: int = 0


@dataclass
class Cutter:
    """Hands out runs in shards.

    Attributes:
        shard_seconds: how long a shard should take.
        workers: how many shards run at once.
    """

    shard_seconds: float
    workers: int
    kinds: "list[_Kind]" = field(default_factory=list)

    @classmethod
    def of(cls, groups: "Sequence[Sequence[Member]]", shard_seconds: float, workers: int, memory_mib: int) -> "Cutter":
        """Prepare groups of runs; the steps of a shard take at most `memory_mib`."""
        from runner.engine.batches import most_rows

        kinds = []
        for group in groups:
            ordered = deque(sorted(group, key=lambda member: member.config.steps))
            kinds.append(_Kind(ordered, sum(member.config.steps for member in group), most_rows(group, memory_mib)))
        return cls(shard_seconds, workers, kinds)

    @property
    def waiting(self) -> int:
        """The number of runs that are in no shard yet."""
        return sum(len(kind.waiting) for kind in self.kinds)

    def next(self) -> "tuple[int, Sequence[Member]] | None":
        """Return the next shard, and the number of its group; None if all runs have been handed out."""
        for number, kind in enumerate(self.kinds):
            if kind.waiting:
                return number, self._taken(kind)
        return None

    def _taken(self, kind: _Kind) -> "Sequence[Member]":
        grain = FIRST if kind.waiting[0].is_padded else 1
        share = kind.steps / (SHARES * self.workers)
        wanted = share if kind.seconds_a_step is None else min(share, self.shard_seconds / kind.seconds_a_step)
        limit = min(kind.most, grain if kind.seconds_a_step is None else max(grain, GROWTH * kind.largest))
        taken: list[Member] = []
        steps = 0
        while kind.waiting and len(taken) < limit and (steps < wanted or len(taken) % grain):
            member = kind.waiting.popleft()
            taken.append(member)
            steps += member.config.steps
        kind.steps -= steps
        return taken

    def learn(self, number: int, runs: int, steps: int, seconds: float) -> None:
        """Take the seconds that a shard of a group took, and the steps that all its runs made."""
        kind = self.kinds[number]
        if steps > 0 and runs >= kind.largest:
            kind.seconds_a_step, kind.largest = seconds / steps, runs
