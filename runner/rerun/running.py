"""Running composed configs again without recording them: what would be recorded is kept in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from runner.config.initial import is_saved
from runner.config.schema import Config, Tracking
from runner.console.bar import Bar, has_bars
from runner.engine.batches import Member, grouped, member_of, portions
from runner.engine.problem import Batch
from runner.engine.progress import Descent
from runner.execution.saved_weights import fetch_starts
from runner.execution.weights import WEIGHTS
from runner.launchers.running import run_shard
from runner.launchers.shard import Shard, ShardRun
from runner.messages.errors import UserError
from runner.rerun.numbers import Array, weight_numbers
from runner.sweeps.mistakes import Mistakes, raise_mistakes
from runner.tensors.device import Hardware
from runner.tracking.journal import Artifact, Begin, End, Entry, Metrics

# Journal entries are made, but go to no store.
KEPT_IN_MEMORY = Tracking(name="off", uri=None, experiment="rerun", artifacts=None, offline=None)
# So many runs are compared at a time; a batch may be smaller without a bit of difference.
MOST_RUNS = 1024


@dataclass
class Rerun:
    """A run that was run again.

    Attributes:
        numbers: what it would record.
        tags: what it would record of its origin.
        failure: why it failed, if it did.
    """

    numbers: dict[str, tuple[Array, Array]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    failure: str | None = None


@dataclass
class Kept:
    """Takes the journal entries of runs.

    Attributes:
        runs: by the runner's ids of them.
    """

    runs: dict[str, Rerun] = field(default_factory=dict)
    _parts: dict[tuple[str, str], list[tuple[list[int], Array]]] = field(default_factory=dict)

    def __call__(self, entry: Entry) -> None:
        """Take an entry."""
        match entry:
            case Begin():
                self.runs.setdefault(entry.run, Rerun()).tags |= entry.tags
            case Metrics():
                values = np.frombuffer(entry.values, "<f8").reshape(len(entry.steps), len(entry.keys), -1)
                for column, run in enumerate(entry.runs):
                    for row, key in enumerate(entry.keys):
                        self._parts.setdefault((run, key), []).append((entry.steps, values[:, row, column]))
            case Artifact() if entry.path == WEIGHTS:
                self.runs[entry.run].numbers |= weight_numbers(entry.content)
            case End():
                for key, value in entry.results.items():
                    self._parts.setdefault((entry.run, key), []).append(([entry.step], np.array([value])))

    def join(self) -> None:
        """Give each run its numbers, once all entries are here."""
        for (run, key), parts in self._parts.items():
            steps = np.concatenate([np.array(steps, dtype=np.int64) for steps, _ in parts])
            self.runs[run].numbers[key] = steps, np.concatenate([values for _, values in parts])


class _Progress:
    """Shows how many steps of all runs are done, on a terminal."""

    def __init__(self, runs: Sequence[Config]) -> None:
        self._runs, self._steps = len(runs), sum(config.steps for config in runs)
        self._done_runs = self._done_steps = 0
        self._bar = Bar(self._steps) if has_bars() else None

    def start(self, _hardware: Hardware, _batch: Batch) -> None:
        """Do nothing."""

    def progress(self, descent: Descent) -> None:
        """Show how many steps are done."""
        if self._bar is not None:
            runs = self._done_runs + descent.ended
            self._bar.show(self._done_steps + descent.steps_made, f"{runs:,} of {self._runs:,} runs")

    def done(self, shard: Shard) -> None:
        """Count the runs of a shard as done, with all their steps."""
        self._done_runs += len(shard.runs)
        self._done_steps += sum(run.config.steps for run in shard.runs)

    def stop(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def members_of(configs: Sequence[tuple[str, Config]]) -> list[Member]:
    """Return named configs with their objectives.

    Raises:
        UserError: some do not fit this machine or their objectives.
    """
    members, mistakes = [], Mistakes()
    for name, config in configs:
        try:
            if is_saved(config.initial_weight):
                fetch_starts([config])
            members.append(member_of(_in_memory(config)))
        except UserError as error:
            mistakes.append((name if len(configs) > 1 else "", "; ".join(error.lines)))
    raise_mistakes(mistakes, len(configs))
    return members


def run_again(members: Sequence[Member]) -> Iterator[dict[int, Rerun]]:
    """Run again, in batches of runs of one kind, and yield some runs at a time by index.

    Raises:
        RunnerError: the runs cannot be run, for a reason that is not a failure of one of them.
    """
    index_of = {member: index for index, member in enumerate(members)}
    view = _Progress([member.config for member in members])
    try:
        for group in grouped(members):
            for portion in portions(group):
                for first in range(0, len(portion), MOST_RUNS):
                    some = portion[first : first + MOST_RUNS]
                    yield _run_shard([index_of[member] for member in some], some, view)
    finally:
        view.stop()


def _run_shard(indices: Sequence[int], members: Sequence[Member], view: _Progress) -> dict[int, Rerun]:
    kept = Kept({str(index): Rerun() for index in indices})
    runs = [
        ShardRun(member.config, str(index), keeps_weights=member.config.keep_weights == "all")
        for index, member in zip(indices, members, strict=True)
    ]
    shard = Shard(tuple(runs))
    for report in run_shard(shard, kept, view, members=members):
        if report.status == "FAILED":
            kept.runs[report.run].failure = report.reason
    view.done(shard)
    kept.join()
    return {index: kept.runs[str(index)] for index in indices}


def _in_memory(config: Config) -> Config:
    """Return a config that is recorded nowhere, and that the clock does not stop."""
    return replace(config, tracking=KEPT_IN_MEMORY, stop=replace(config.stop, seconds=None))
