"""Running the jobs of a sweep: those of one kind as one tensor program, under one parent run."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from runner.config.schema import Config
from runner.console.run import telling_stops
from runner.execution.job import no_garbage_collection
from runner.launchers.shard import NOT_RUN, RunReport, Shard, ShardRun
from runner.messages.errors import FunctionError, UserError
from runner.sweeps.console import SweepConsole
from runner.sweeps.fingerprint import fingerprint, sweep_fingerprint
from runner.sweeps.job import Job, shared_config
from runner.sweeps.outcome import JobDone, best_of
from runner.sweeps.parent import ParentRun
from runner.sweeps.planning import Mistakes, raise_all
from runner.sweeps.seeds import tell_idle_seeds
from runner.tracking.journal import Artifact
from runner.tracking.ledger import Finished
from runner.tracking.run_files import SweepJob
from runner.tracking.tracker import Tracker, tracking_to

if TYPE_CHECKING:
    from runner.engine.batches import Member


@dataclass
class _Sweep:
    """A sweep while it runs.

    Attributes:
        runs: our id of each job's run.
        reports: how the runs ended that have ended here, by our ids of them.
        fail_fast: whether the first failure ends the sweep.
    """

    jobs: Sequence[Job]
    tracker: Tracker
    console: SweepConsole
    memory_mib: int
    parent: str
    runs: list[str]
    reports: dict[str, RunReport] = field(default_factory=dict)
    fail_fast: bool = False

    @property
    def is_over(self) -> bool:
        """Whether a failure has ended the sweep."""
        return self.fail_fast and self.has_failures

    @property
    def has_failures(self) -> bool:
        """Whether a job has failed."""
        return any(report.status == "FAILED" for report in self.reports.values())


def run_sweep(
    jobs: Sequence[Job],
    texts: Sequence[str],
    memory_mib: int,
    resume: str | bool = False,
    fail_fast: bool = False,
) -> list[JobDone]:
    """Run planned jobs under one parent run, and return how each went.

    Args:
        jobs: what to run.
        texts: the sweep as it was written.
        memory_mib: how much memory the steps of one batch may take.
        resume: continue the last such sweep, or that of this parent run.
        fail_fast: run no more jobs once one has failed.

    Raises:
        UserError: a job does not fit this machine or its objective; none was started.
        RecordingError: not everything could be recorded.
    """
    config = jobs[0].config
    _check_one_store(jobs)
    tell_idle_seeds(jobs)
    console = SweepConsole(config, jobs)
    with telling_stops(console.stopped), tracking_to(config.tracking, console.recording) as tracker:
        with no_garbage_collection():
            from runner.launchers import in_process  # noqa: F401  # torch is imported while the recorder starts
        parent = ParentRun(shared_config(jobs), texts, sweep_fingerprint(texts))
        ledger = tracker.ledger(parent.fingerprint, resume) if resume else None
        if ledger is None and isinstance(resume, str):
            raise UserError(f"resume={resume}: no such run is recorded, expected the id of a sweep's parent run")
        if ledger is None and resume:
            console.starts_anew()
        prints = [fingerprint(job.config) for job in jobs]
        skipped = {} if ledger is None else ledger.matching(prints)
        run = uuid.uuid4().hex if ledger is None else ledger.parent
        sweep = _Sweep(jobs, tracker, console, memory_mib, run, [uuid.uuid4().hex for _ in jobs], fail_fast=fail_fast)
        todo = [index for index in range(len(jobs)) if index not in skipped]
        members = _members(sweep, todo)
        own = [SweepJob(sweep.runs[index], jobs[index].overrides, members[index].config) for index in todo]
        parent.begin(tracker, run, own, is_new=ledger is None, resumes=bool(resume))
        console.records(lambda: tracker.recorded(run))
        try:
            _run_all(sweep, members, prints)
        except BaseException:
            console.stop()
            _end(sweep, parent, "KILLED", _done(sweep, skipped))
            raise
        console.stop()
        console.has_ended = True
        done = _done(sweep, skipped)
        _end(sweep, parent, "FAILED" if sweep.has_failures else "FINISHED", done)
    done = [_located(one, tracker) for one in done]
    console.finish(done, tracker.recorded(run))
    return done


def _check_one_store(jobs: Sequence[Job]) -> None:
    """Check that the jobs are all recorded in one place.

    Raises:
        UserError: they are not.
    """
    stores = dict.fromkeys((job.config.tracking.name, job.config.tracking.uri) for job in jobs)
    if len(stores) > 1:
        given = ",".join(f"{name}" if uri is None else f"{name} {uri}" for name, uri in stores)
        raise UserError(f"tracking={given}: expected one store for all jobs of a sweep")


def _located(done: JobDone, tracker: Tracker) -> JobDone:
    """Return a job with the run that MLflow knows it by."""
    recorded = tracker.recorded(done.run)
    return done if recorded is None else replace(done, run_id=recorded.run_id)


def _members(sweep: _Sweep, todo: Sequence[int]) -> "dict[int, Member]":
    """Return the jobs as runs that fit this machine, each kind looked at once more closely.

    Raises:
        UserError: with the mistakes of all jobs.
    """
    from runner.engine.batches import grouped, member_of
    from runner.engine.problem import check_batch, prepare

    members: dict[int, Member] = {}
    mistakes: Mistakes = []
    for index in todo:
        job = sweep.jobs[index]
        try:
            members[index] = member_of(_child(job, sweep.parent))
        except UserError as error:
            mistakes.append((job.name, "; ".join(error.lines)))
    index_of = {member: index for index, member in members.items()}
    for group in grouped(members.values()):
        try:
            check_batch(prepare(group[:1]))
        except FunctionError:  # that job's failure, and perhaps no other's
            continue
        except UserError as error:
            mistakes += ((sweep.jobs[index_of[member]].name, "; ".join(error.lines)) for member in group)
    raise_all(mistakes, len(sweep.jobs))
    return members


def _child(job: Job, parent: str) -> Config:
    name = job.config.name if job.is_named or not job.varying else job.name
    return replace(job.config, name=name, parent_run=parent)


def _run_all(sweep: _Sweep, members: "Mapping[int, Member]", prints: Sequence[str]) -> None:
    """Run jobs, those of one kind in shards that fit the memory, until all have ended or a failure ends the sweep."""
    from runner.engine.batches import grouped, portions
    from runner.launchers.in_process import run_in_process

    index_of = {member: index for index, member in members.items()}
    groups = grouped(members.values())
    sweep.console.kinds(groups)
    for group in groups:
        for portion in portions(group, sweep.memory_mib):
            if sweep.is_over:
                return
            shard = _shard(sweep, portion, [index_of[member] for member in portion], prints)
            for report in run_in_process(shard, sweep.tracker, sweep.console, portion):
                sweep.reports[report.run] = report
            sweep.console.portion_done(len(portion), sum(member.config.steps for member in portion))


def _shard(sweep: _Sweep, members: "Sequence[Member]", indices: Sequence[int], prints: Sequence[str]) -> Shard:
    runs = (
        ShardRun(
            member.config,
            sweep.runs[index],
            {"runner.fingerprint": prints[index]},
            keeps_weights=member.config.keep_weights == "all",
        )
        for member, index in zip(members, indices, strict=True)
    )
    return Shard(tuple(runs), sweep.fail_fast)


def _end(sweep: _Sweep, parent: ParentRun, status: str, done: Sequence[JobDone]) -> None:
    """Record the weights of the best run, where it ran here, and how the sweep ended."""
    from runner.execution.weights import WEIGHTS, weights_file

    best = best_of(done)
    report = None if best is None else sweep.reports.get(best.run)
    if report is not None and report.weights is not None and parent.experiment is not None:
        sweep.tracker.append(Artifact(report.run, WEIGHTS, weights_file(report.weights)))
    parent.end(sweep.tracker, sweep.parent, status, done)


def _done(sweep: _Sweep, skipped: Mapping[int, Finished]) -> list[JobDone]:
    """Return how the jobs that have ended went, in order."""
    done = []
    for index, job in enumerate(sweep.jobs):
        report = sweep.reports.get(sweep.runs[index])
        if index in skipped:
            done.append(_skipped(job, skipped[index]))
        elif report is not None:
            done.append(_reported(job, report))
        elif sweep.is_over:
            done.append(JobDone(job, sweep.runs[index], None, "NOT_RUN", {}, NOT_RUN))
    return done


def _skipped(job: Job, earlier: Finished) -> JobDone:
    return JobDone(
        job,
        earlier.run_id,
        earlier.run_id,
        "SKIPPED",
        earlier.metrics,
        has_diverged=earlier.has_diverged,
        still_since=earlier.still_since,
        remark=earlier.remark,
    )


def _reported(job: Job, report: RunReport) -> JobDone:
    has_diverged = report.status == "DIVERGED"
    how = report.status, report.metrics, report.reason, has_diverged, report.still_since, report.remark
    return JobDone(job, report.run, None, *how)
