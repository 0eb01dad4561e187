"""Executing a shard: one batch; if an error is raised, its unfinished runs are executed one by one."""

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from runner.engine.batches import Member, member_of
from runner.engine.result import Result
from runner.execution.batch import BatchError, View, execute_in_rungs
from runner.execution.metrics import final_metrics
from runner.execution.recording import PlannedRun, Sink
from runner.execution.saved_weights import is_saving
from runner.execution.weights import weights_of
from runner.launchers.shard import NOT_RUN, PAUSED, RungReport, RunReport, Shard
from runner.messages.errors import RunnerError, UserError
from runner.process.tracebacks import described, show_traceback
from runner.tracking.journal import End, now_ms

# Yields how runs ended, and at each rung how far the others are; is then sent the ids of the runs to prune.
InRungs: TypeAlias = Generator[RunReport | RungReport, Collection[str] | None, None]


def run_shard(
    shard: Shard,
    sink: Sink,
    view: View,
    check: Callable[[], None] | None = None,
    members: Sequence[Member] | None = None,
) -> Iterator[RunReport]:
    """Execute the runs of a shard, and yield how each ended.

    Args:
        shard: what to run.
        sink: takes the journal entries.
        view: shows the progress.
        check: called after each block of steps; raises an error to end the shard.
        members: the runs with their objectives, where the caller has made these already.

    Raises:
        RunnerError: the runs cannot continue, for a reason that is not a failure of one of them.
    """
    rungs = () if shard.until is None else (shard.until.step,)
    executing = run_shard_in_rungs(shard, rungs, sink, view, check, members)
    pruned: Collection[str] | None = None
    while True:
        try:
            report = next(executing) if pruned is None else executing.send(pruned)
        except StopIteration:
            return
        pruned = None
        if isinstance(report, RunReport):
            yield report
        elif shard.until is not None and shard.until.prunes:
            pruned = report.metrics.keys()
        else:
            executing.close()
            yield from (RunReport(run, PAUSED, metrics) for run, metrics in report.metrics.items())
            return


def run_shard_in_rungs(
    shard: Shard,
    rungs: Sequence[int],
    sink: Sink,
    view: View,
    check: Callable[[], None] | None = None,
    members: Sequence[Member] | None = None,
) -> InRungs:
    """Execute the runs of a shard as `run_shard` does, and stop at each rung to be sent the runs to prune.

    The arguments and errors are those of `run_shard`; `rungs` are steps, in order.
    """
    members = [member_of(run.config) for run in shard.runs] if members is None else members
    runs = [
        PlannedRun(
            member,
            run.run,
            dict(run.tags),
            run.recorded,
            run.keeps_weights,
            run.config.save_weights == "all",
            inherited=shard.inherited,
        )
        for member, run in zip(members, shard.runs, strict=True)
    ]
    return _Execution(sink, view, check, shard.fail_fast, rungs).reports(runs)


@dataclass
class _Execution:
    sink: Sink
    view: View
    check: Callable[[], None] | None
    fail_fast: bool
    rungs: Sequence[int] = ()
    has_failed: bool = False

    def reports(self, runs: Sequence[PlannedRun]) -> InRungs:
        reported: set[int] = set()
        try:
            results = yield from self._in_rungs(runs, reported)
        except BatchError as failed:
            yield from (_report_of(runs[index], one) for index, one in failed.ended.items() if index not in reported)
            for index, recorded in failed.recorded.items():
                yield from self._alone(replace(runs[index], recorded=recorded))
        except RunnerError as error:
            if len(runs) > 1 or not isinstance(error, UserError):
                raise
            yield self._failure(runs[0], "; ".join(error.lines))
        except Exception as error:  # a user's function may raise anything
            if len(runs) > 1:
                raise
            show_traceback(error)
            yield self._failure(runs[0], described(error))
        else:
            yield from (_report_of(runs[index], one) for index, one in enumerate(results) if index not in reported)

    def _in_rungs(
        self, runs: Sequence[PlannedRun], reported: set[int]
    ) -> Generator[RunReport | RungReport, Collection[str] | None, list[Result]]:
        """Execute runs as one batch, and return their results; those that ended before a rung are reported there."""
        executing = execute_in_rungs(runs, self.rungs, self.sink, self.view, check=self.check)
        pruned: Collection[int] | None = None
        while True:
            try:
                rung = next(executing) if pruned is None else executing.send(pruned)
            except StopIteration as ended:
                results: list[Result] = ended.value
                return results
            new = rung.ended.keys() - reported
            reported |= new
            yield from (_report_of(runs[index], rung.ended[index]) for index in sorted(new))
            asked = yield RungReport(rung.step, {runs[index].run: values for index, values in rung.metrics.items()})
            pruned = {index for index, run in enumerate(runs) if run.run in (asked or ())}

    def _alone(self, run: PlannedRun) -> InRungs:
        """Execute the rest of a run whose batch failed, unless another failure has ended the shard."""
        if not (self.fail_fast and self.has_failed):
            yield from self.reports([run])
            return
        self.sink(End(run.run, "KILLED", now_ms(), tags={"runner.reason": NOT_RUN}))
        yield RunReport(run.run, "NOT_RUN", reason=NOT_RUN)

    def _failure(self, run: PlannedRun, reason: str) -> RunReport:
        self.has_failed = True
        return RunReport(run.run, "FAILED", reason=reason)


def _may_keep(member: Member) -> bool:
    """Return whether the run keeps or saves its weights if it is the best of its sweep."""
    config = member.config
    return config.keep_weights == "best" or (config.save_weights != "all" and is_saving(config, member.objective))


def _report_of(run: PlannedRun, result: Result) -> RunReport:
    return RunReport(
        run.run,
        result.outcome.name,
        final_metrics(result),
        result.reason,
        result.still_since,
        result.remark,
        weights_of(result) if _may_keep(run.member) else None,
    )
