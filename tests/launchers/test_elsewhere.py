"""Shards that other processes execute: whatever dies, each step is recorded once and each run ends once."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from runner.composition.composition import compose, install, to_config
from runner.config.schema import Config
from runner.console.sweep import SweepConsole
from runner.engine.batches import Member, grouped, member_of
from runner.launchers.elsewhere import Died, Ended, Event, Execution
from runner.launchers.shard import RunReport, Shard, ShardRun
from runner.launchers.shards import Cutter
from runner.launchers.work import Work
from runner.launchers.worker import updates_of
from runner.tracking.journal import Begin, End, Entry, JournalReader, JournalWriter, Metrics
from runner.tracking.tracker import Untracked

install()
STEPS = 40
SECRET = "postgresql://me:sec%ret@there/runs"


def config_of(lr: float, *overrides: str) -> Config:
    config = to_config(compose(["quiet=true", f"steps={STEPS}", f"lr={lr}", *overrides]))
    return replace(config, parent_run="sweep", tracking=replace(config.tracking, uri=SECRET))


GD, ADAM = config_of(0.1, "optimizer=gd"), config_of(0.1, "optimizer=adam")
CONFIGS = [replace(ADAM if index % 3 else GD, lr=0.001 * (index + 1)) for index in range(9)]
MEMBERS = [member_of(config) for config in CONFIGS]


@dataclass
class Here:
    """Executes shards in this process, and lets them die after so many updates, in the order in which they start.

    Attributes:
        fatal: the runs of which every worker dies at once.
        shards: all shards that were started.
    """

    deaths: deque[int]
    fatal: frozenset[str] = frozenset()
    shards: list[Shard] = field(default_factory=list)
    places: str = "here"
    most: int = 2
    _running: dict[int, tuple[Iterator[Event], int]] = field(default_factory=dict)

    def start(self, shard: Shard) -> int:
        self.shards.append(shard)
        dies_after = 0 if self.fatal & {run.run for run in shard.runs} else self.deaths.popleft() if self.deaths else -1
        self._running[len(self.shards)] = iter(updates_of(shard)), dies_after
        return len(self.shards)

    def events(self, seconds: float) -> Iterable[tuple[int, Event]]:  # nothing to wait for
        for number, (updates, left) in [*self._running.items()]:
            event = Died("killed") if left == 0 else next(updates, Ended())
            self._running[number] = updates, left - 1
            if isinstance(event, Ended | Died):
                del self._running[number]
            yield number, event

    def cancel(self, shard: int) -> None:
        self._running.pop(shard, None)


@dataclass
class Kept(Untracked):
    """Keeps what a tracker would record, in a journal."""

    writer: JournalWriter

    def append(self, entry: Entry) -> None:
        self.writer.append(entry)

    def append_encoded(self, entries: bytes) -> None:
        self.writer.append_encoded(entries)


def executed(
    workers: Here, fail_fast: bool = False, max_retries: int = 3, members: Sequence[Member] = MEMBERS
) -> tuple[list[RunReport], list[Entry]]:
    """Execute the runs; return how each ended, and the journal entries."""
    import tempfile
    from pathlib import Path

    number = {member: index for index, member in enumerate(members)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outputs/journals/kept.journal"
        writer = JournalWriter(path)
        groups = grouped(members)
        console = SweepConsole(members[0].config)
        console.add(len(members), STEPS * len(members))
        work = Work(groups, lambda one: ShardRun(one.config, f"run{number[one]}"), Kept(writer), console, fail_fast)
        cutter = Cutter.of(groups, shard_seconds=1, workers=2, memory_mib=512)
        reports = list(Execution(work, workers, cutter, max_retries).reports())
        writer.close()
        return reports, list(JournalReader(path).entries(is_complete=True))


def recorded_steps(entries: Sequence[Entry]) -> Counter[tuple[str, int]]:
    return Counter(
        (run, step)
        for entry in entries
        if isinstance(entry, Metrics) and "loss" in entry.keys
        for run in entry.runs
        for step in entry.steps
    )


ONCE = Counter((f"run{index}", step) for index in range(9) for step in range(1, STEPS + 1))


@given(deaths=st.lists(st.integers(-1, 4), max_size=8))
@settings(max_examples=25)
def test_each_step_is_recorded_once_whichever_workers_die(deaths: list[int]) -> None:
    reports, entries = executed(Here(deque(deaths)), max_retries=len(deaths))
    assert {(report.run, report.status) for report in reports} == {(f"run{index}", "COMPLETED") for index in range(9)}
    assert len(reports) == 9
    assert recorded_steps(entries) == ONCE
    for kind in (Begin, End):
        assert Counter(entry.run for entry in entries if isinstance(entry, kind)) == Counter(
            f"run{i}" for i in range(9)
        )


def test_runs_that_kill_their_workers_fail_and_the_others_go_on() -> None:
    reports, entries = executed(Here(deque(), frozenset({"run2", "run7"})), max_retries=1)
    statuses = {report.run: report.status for report in reports}
    assert [run for run, status in statuses.items() if status == "FAILED"] == ["run2", "run7"]
    assert Counter(statuses.values()) == {"COMPLETED": 7, "FAILED": 2}
    ends = {entry.run: (entry.status, entry.tags.get("runner.reason")) for entry in entries if isinstance(entry, End)}
    assert (ends["run2"], ends["run7"]) == (("FAILED", "killed"), ("FAILED", "killed"))
    assert Counter(entry.run for entry in entries if isinstance(entry, Begin)) == Counter([*statuses])


def test_with_fail_fast_a_failure_ends_what_has_begun() -> None:
    workers = Here(deque(), frozenset({"run0"}))
    reports, entries = executed(workers, fail_fast=True, max_retries=0)
    statuses = {report.run: report.status for report in reports}
    assert statuses["run0"] == "FAILED"
    assert set(statuses.values()) <= {"FAILED", "COMPLETED", "NOT_RUN"}
    ends = Counter(entry.run for entry in entries if isinstance(entry, End))
    assert ends == Counter(entry.run for entry in entries if isinstance(entry, Begin))


def test_no_worker_gets_the_stores_password() -> None:
    workers = Here(deque())
    executed(workers)
    uris = {run.config.tracking.uri for shard in workers.shards for run in shard.runs}
    assert uris == {"postgresql://***@there/runs"}


def test_shards_grow_with_the_speed_of_those_that_ended() -> None:
    members = [MEMBERS[0]] * 4096
    cutter = Cutter.of([members], shard_seconds=1, workers=2, memory_mib=512)
    sizes = []
    while (found := cutter.next()) is not None:
        group, runs = found
        sizes.append(len(runs))
        cutter.learn(group, len(runs), len(runs) * STEPS, seconds=len(runs) / 512)
    assert sizes[0] == 64
    assert max(sizes) == 512
    assert sizes[-1] == 64
    assert sum(sizes) == 4096
