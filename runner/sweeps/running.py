"""Running a sweep: ask the plan for jobs, execute them in shards under one parent run, report the results to it."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from runner.config.schema import Config
from runner.console.sweep import SweepConsole
from runner.console.view import notes_on_signal
from runner.execution.job import no_garbage_collection
from runner.launchers.shard import NOT_RUN, RunReport, ShardRun
from runner.launchers.work import ShardLauncher, Work
from runner.messages.errors import FunctionError, UserError
from runner.report import drawing
from runner.sweeps.fingerprint import fingerprint, sweep_fingerprint
from runner.sweeps.job import Job, shared_config
from runner.sweeps.mistakes import Mistakes, raise_mistakes
from runner.sweeps.outcome import JobResult, best_of
from runner.sweeps.parent import ParentRun
from runner.sweeps.plan import Plan
from runner.sweeps.summary import print_results
from runner.sweeps.unused_seeds import warn_of_unused_seeds
from runner.tracking.inheritance import Inherited
from runner.tracking.journal import Artifact, Settle, first_id
from runner.tracking.ledger import Finished, Ledger
from runner.tracking.run_files import SweepJob
from runner.tracking.tracker import Tracker, tracking_to

if TYPE_CHECKING:
    from runner.engine.batches import Member


def run_sweep(
    plan: Plan,
    texts: Sequence[str],
    launcher: ShardLauncher,
    resume: str | bool = False,
    fail_fast: bool = False,
) -> list[JobResult]:
    """Run the jobs of a plan under one parent run, and return how each ended.

    Args:
        plan: asked for jobs until it has no more.
        texts: the overrides of the sweep as they were written.
        launcher: executes the jobs.
        resume: true to continue the last sweep with the same overrides, or the id of the parent run to continue.
        fail_fast: whether to stop at the first job that fails.

    Raises:
        UserError: a job does not fit this machine or its objective; if it is one of the first that the plan returns,
            nothing was recorded.
        RecordingError: not everything could be recorded.
    """
    jobs = _with_steps(plan.ask())
    config = jobs[0].config
    _check_one_store(jobs)
    warn_of_unused_seeds(jobs)
    console = SweepConsole(config)
    console.add(len(jobs), sum(job.config.steps for job in jobs))
    with (
        notes_on_signal(console.stopped),
        tracking_to(config.tracking, console.recording, drawing(config)) as tracker,
        launcher.opened(),
    ):
        with no_garbage_collection():
            from runner.launchers import running  # noqa: F401  # imports torch while the recorder starts
        parent = ParentRun(shared_config(jobs), texts, sweep_fingerprint(texts))
        ledger = _ledger(tracker, parent, resume)
        if ledger is None and resume:
            console.print_new()
        run = uuid.uuid4().hex if ledger is None else ledger.parent
        sweep = _Sweep(tracker, console, launcher, fail_fast, parent, run, ledger)
        chosen = sweep.prepare(jobs)
        sweep.inherited = parent.begin(tracker, run, chosen.to_record, ledger, resumes=bool(resume))
        console.find_record = lambda: tracker.recorded(run)
        try:
            sweep.run(plan, chosen)
        except BaseException:
            console.stop()
            _end(sweep, "KILLED")
            raise
        console.stop()
        console.has_ended = True
        _end(sweep, "FAILED" if sweep.has_failed else "FINISHED")
    results = [_with_run_id(one, tracker) for one in sweep.results]
    print_results(results, config, tracker.recorded(run))
    return results


def _with_steps(jobs: Sequence[Job]) -> Sequence[Job]:
    """Return jobs whose epochs are counted in steps.

    Raises:
        UserError: the data of a job cannot be loaded, or its schedule does not fit so many steps.
    """
    if all(job.config.objective.epochs is None for job in jobs):
        return jobs
    with no_garbage_collection():
        from runner.engine.batches import with_steps
    return [replace(job, config=with_steps(job.config)) for job in jobs]


def _check_one_store(jobs: Sequence[Job]) -> None:
    """Check that all jobs are recorded in the same store, and in the same way.

    Raises:
        UserError: they are not.
    """
    stores = dict.fromkeys((job.config.tracking.name, job.config.tracking.uri) for job in jobs)
    if len(stores) > 1:
        given = ",".join(f"{name}" if uri is None else f"{name} {uri}" for name, uri in stores)
        raise UserError(f"tracking={given}: expected one store for all jobs of a sweep")
    ways = dict.fromkeys(job.config.tracking.children for job in jobs)
    if len(ways) > 1:
        raise UserError(f"tracking.children={','.join(map(str, ways))}: expected one value for all jobs of a sweep")


def _ledger(tracker: Tracker, parent: ParentRun, resume: str | bool) -> Ledger | None:
    """Return what is recorded of the sweep to continue; None for a new one.

    Raises:
        UserError: the parent run that `resume` names is not recorded.
    """
    ledger = tracker.ledger(parent.fingerprint, resume) if resume else None
    if ledger is None and isinstance(resume, str):
        raise UserError(f"resume={resume}: no such run is recorded, expected the id of a sweep's parent run")
    return ledger


def _with_run_id(result: JobResult, tracker: Tracker) -> JobResult:
    """Return a result with the id of its run in MLflow."""
    recorded = tracker.recorded(result.run)
    return result if recorded is None else replace(result, run_id=recorded.run_id)


@dataclass
class _Chosen:
    """The jobs that the plan returned at one time.

    Attributes:
        runs: the runner's ids of their runs.
        prints: their fingerprints.
        skipped: those that an earlier sweep has done, by index.
        members: the others with their objectives, by index.
        groups: these, grouped into those that can share a batch.
    """

    jobs: Sequence[Job]
    runs: list[str]
    prints: list[str]
    skipped: Mapping[int, Finished]
    members: "Mapping[int, Member]"
    groups: "Sequence[Sequence[Member]]"

    @property
    def to_record(self) -> list[SweepJob]:
        """The jobs to run, for the record of the parent run."""
        return [
            SweepJob(self.runs[index], self.jobs[index].overrides, member.config)
            for index, member in self.members.items()
        ]


@dataclass
class _Sweep:
    """A sweep in progress.

    Attributes:
        run_id: the runner's id of the parent run.
        ledger: what is recorded of it already.
        results: how the jobs ended, in the order of the plan.
        reports: of the runs that ended here, by the runner's ids of them.
        prints: the fingerprints of all jobs so far.
        has_failed: whether a job has failed.
        inherited: what the record of the parent run leaves to the jobs.
    """

    tracker: Tracker
    console: SweepConsole
    launcher: ShardLauncher
    fail_fast: bool
    parent: ParentRun
    run_id: str
    ledger: Ledger | None
    results: list[JobResult] = field(default_factory=list)
    reports: dict[str, RunReport] = field(default_factory=dict)
    prints: list[str] = field(default_factory=list)
    has_failed: bool = False
    inherited: Inherited | None = None

    @property
    def is_over(self) -> bool:
        """Whether a failure has ended the sweep."""
        return self.fail_fast and self.has_failed

    def prepare(self, jobs: Sequence[Job]) -> _Chosen:
        """Check that jobs can run, and find out which an earlier sweep has done.

        Raises:
            UserError: with the mistakes of all jobs.
        """
        first = len(self.prints)
        self.prints += [fingerprint(job.config) for job in jobs]
        matching = {} if self.ledger is None else self.ledger.matching(self.prints)
        skipped = {index - first: finished for index, finished in matching.items() if index >= first}
        members, groups = _members(jobs, [index for index in range(len(jobs)) if index not in skipped], self.run_id)
        self.launcher.check(groups)
        return _Chosen(jobs, [uuid.uuid4().hex for _ in jobs], self.prints[first:], skipped, members, groups)

    def run(self, plan: Plan, chosen: _Chosen) -> None:
        """Run the first jobs of a plan, and those that it returns when it knows their results."""
        while True:
            try:
                for report in self.launcher.reports(self._work(chosen)):
                    self.reports[first_id(report.run)] = report
                    self.has_failed |= report.status == "FAILED"
            finally:
                results = list(self._results_of(chosen))
                self.results += results
            plan.tell(results)
            jobs = () if self.is_over else _with_steps(plan.ask())
            if not jobs:
                return
            _check_one_store([*chosen.jobs[:1], *jobs])
            self.console.add(len(jobs), sum(job.config.steps for job in jobs))
            chosen = self.prepare(jobs)
            self.parent.add(self.tracker, self.run_id, chosen.to_record)
            self.inherited = self.parent.left_by(self.inherited, chosen.to_record)

    def _work(self, chosen: _Chosen) -> Work:
        index_of = {member: index for index, member in chosen.members.items()}
        self.console.print_batches(chosen.groups)

        def run_of(member: "Member") -> ShardRun:
            return _shard_run(chosen, index_of[member], member.config)

        return Work(chosen.groups, run_of, self.tracker, self.console, self.fail_fast, self.inherited)

    def _results_of(self, chosen: _Chosen) -> Iterator[JobResult]:
        """Yield how the jobs ended, in order, without those that a signal stopped."""
        for index, (job, run) in enumerate(zip(chosen.jobs, chosen.runs, strict=True)):
            report = self.reports.get(run)
            if index in chosen.skipped:
                yield _skipped(job, chosen.skipped[index])
            elif report is not None:
                yield _reported(job, report)
            elif self.is_over:
                yield JobResult(job, run, None, "NOT_RUN", {}, NOT_RUN)


def _members(
    jobs: Sequence[Job], indices: Sequence[int], parent: str
) -> "tuple[dict[int, Member], list[list[Member]]]":
    """Return jobs with their objectives, by index and in groups; each kind of job is tried out with its first.

    Raises:
        UserError: with the mistakes of all jobs.
    """
    from runner.engine.batches import grouped, member_of
    from runner.engine.problem import check_batch, prepare

    members: dict[int, Member] = {}
    mistakes: Mistakes = []
    for index in indices:
        try:
            members[index] = member_of(_child_config(jobs[index], parent))
        except UserError as error:
            mistakes.append((jobs[index].name, "; ".join(error.lines)))
    index_of = {member: index for index, member in members.items()}
    groups = grouped(members.values())
    for group in groups:
        try:
            check_batch(prepare(group[:1]))
        except FunctionError:  # perhaps a failure of this job alone, which its run will report
            continue
        except UserError as error:
            mistakes += ((jobs[index_of[member]].name, "; ".join(error.lines)) for member in group)
    raise_mistakes(mistakes, len(jobs))
    return members, groups


def _child_config(job: Job, parent: str) -> Config:
    name = job.config.name if job.is_named or not job.varying else job.name
    return replace(job.config, name=name, parent_run=parent)


def _shard_run(chosen: _Chosen, index: int, config: Config) -> ShardRun:
    tags = {"runner.fingerprint": chosen.prints[index]}
    return ShardRun(config, chosen.runs[index], tags, keeps_weights=config.keep_weights == "all")


def _skipped(job: Job, earlier: Finished) -> JobResult:
    return JobResult(
        job,
        earlier.run_id,
        earlier.run_id,
        "SKIPPED",
        earlier.metrics,
        has_diverged=earlier.has_diverged,
        still_since=earlier.still_since,
        remark=earlier.remark,
    )


def _reported(job: Job, report: RunReport) -> JobResult:
    has_diverged = report.status == "DIVERGED"
    how = report.status, report.metrics, report.reason, has_diverged, report.still_since, report.remark
    return JobResult(job, report.run, None, *how)


def _end(sweep: _Sweep, status: str) -> None:
    """Record the weights of the best run and the objective around it, if it ran here, and how the sweep ended."""
    from runner.execution.landscape import LANDSCAPE
    from runner.execution.weights import WEIGHTS, weights_file

    best = best_of(sweep.results)
    report = None if best is None else sweep.reports.get(first_id(best.run))
    if best is not None and report is not None and report.weights and sweep.parent.experiment is not None:
        sweep.tracker.append(Artifact(report.run, WEIGHTS, weights_file(report.weights)))
        if status != "KILLED" and (content := _landscape(best.job.config, report)) is not None:
            sweep.tracker.append(Artifact(report.run, LANDSCAPE, content))
    sweep.parent.end(sweep.tracker, sweep.run_id, status, sweep.results)
    if sweep.launcher.records_on_nodes and sweep.parent.experiment is not None:
        sweep.tracker.append(Settle(sweep.run_id, is_complete=status != "KILLED" and not sweep.is_over))


def _landscape(config: Config, report: RunReport) -> bytes | None:
    from runner.engine.batches import member_of
    from runner.execution.landscape import landscape_file

    seconds = report.metrics.get("seconds", 0.0) / max(report.metrics.get("gradient_evaluations", 1), 1)
    try:
        member = member_of(config)
    except Exception:  # the user's module may raise anything when it is read again
        return None
    return landscape_file(member, (report.weights or {}).values(), (), seconds)
