"""Running a sweep: ask the plan for jobs, execute them in shards under one parent run, report the results to it."""

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from runner.config.initial import is_saved
from runner.config.schema import Config
from runner.console.sweep import SweepConsole
from runner.console.view import notes_on_signal
from runner.execution.job import no_garbage_collection
from runner.launchers.shard import NOT_RUN, RunReport, ShardRun
from runner.launchers.work import ShardLauncher, Work
from runner.messages.errors import UserError
from runner.report import drawing
from runner.sweeps.chosen import Chosen, members_of
from runner.sweeps.fingerprint import fingerprint, sweep_fingerprint
from runner.sweeps.job import Job, shared_config
from runner.sweeps.outcome import JobResult, Numbers
from runner.sweeps.parent import ParentRun
from runner.sweeps.plan import JobPruning, Plan
from runner.sweeps.pruning import RunPruning
from runner.sweeps.summary import print_results
from runner.sweeps.unused_seeds import warn_of_unused_seeds
from runner.tracking.inheritance import Inherited
from runner.tracking.journal import Artifact, Settle, first_id
from runner.tracking.ledger import Finished, Ledger, Left, take
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
    if not jobs:
        return []
    config = jobs[0].config
    _check_one_store(jobs)
    warn_of_unused_seeds(jobs)
    console = SweepConsole(config)
    console.add(len(jobs), sum(job.config.steps for job in jobs))
    with (
        contextlib.closing(plan),
        notes_on_signal(console.stopped),
        tracking_to(config.tracking, console.recording, drawing(config)) as tracker,
        launcher.opened(),
    ):
        with no_garbage_collection():
            from runner.launchers import running  # noqa: F401  # imports torch while the recorder starts
        has_study = plan.study is not None
        parent = ParentRun(shared_config(jobs), texts, sweep_fingerprint(texts, plan.study))
        ledger = _ledger(tracker, parent, resume, may_join=has_study)
        if ledger is None and resume and not has_study:
            console.print_new()
        run = uuid.uuid4().hex if ledger is None else ledger.parent
        jobs = plan.start(run, jobs) or _with_steps(plan.ask())
        if not jobs:
            return []
        sweep = _Sweep(tracker, console, launcher, fail_fast, parent, run)
        sweep.left = {} if ledger is None else ledger.left()
        sweep.begin(jobs, plan, ledger, resumes=bool(resume) and not has_study)
        del jobs  # some of a large sweep, of which others follow
        console.find_record = lambda: tracker.recorded(run)
        try:
            sweep.run(plan)
        except BaseException:
            console.stop()
            _end(sweep, plan, "KILLED")
            raise
        console.stop()
        console.has_ended = True
        _end(sweep, plan, "FAILED" if sweep.has_failed else "FINISHED")
    results = sweep.results
    for index, one in enumerate(results):
        results[index] = _with_run_id(one, tracker)
    print_results(results, config, tracker.recorded(run))
    return results


def _with_steps(jobs: Sequence[Job]) -> Sequence[Job]:
    """Return jobs whose epochs are counted in steps.

    Raises:
        UserError: the data of a job cannot be loaded, or its schedule does not fit so many steps.
    """
    if any(is_saved(job.config.initial_weight) for job in jobs):
        from runner.execution.saved_weights import fetch_starts

        fetch_starts(job.config for job in jobs)
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


def _ledger(tracker: Tracker, parent: ParentRun, resume: str | bool, may_join: bool) -> Ledger | None:
    """Return what is recorded of the sweep to continue; None for a new one.

    Raises:
        UserError: the parent run that `resume` names is not recorded.
    """
    ledger = tracker.ledger(parent.fingerprint, resume, may_join) if resume else None
    if ledger is None and isinstance(resume, str):
        raise UserError(f"resume={resume}: no such run is recorded, expected the id of a sweep's parent run")
    return ledger


def _with_run_id(result: JobResult, tracker: Tracker) -> JobResult:
    """Return a result with the id of its run in MLflow."""
    recorded = tracker.recorded(result.run)
    return result if recorded is None else replace(result, run_id=recorded.run_id)


@dataclass
class _Sweep:
    """A sweep in progress.

    Attributes:
        run_id: the runner's id of the parent run.
        results: how the jobs ended, in the order of the plan.
        reports: of the runs of the last jobs, by the runner's ids of them, and of the best before.
        announced: how many of the next jobs the console has counted already.
        left: the finished jobs of an earlier start that are not found among the jobs so far.
        has_failed: whether a job has failed.
        inherited: what the record of the parent run leaves to the jobs.
    """

    tracker: Tracker
    console: SweepConsole
    launcher: ShardLauncher
    fail_fast: bool
    parent: ParentRun
    run_id: str
    results: list[JobResult] = field(default_factory=list)
    reports: dict[str, RunReport] = field(default_factory=dict)
    announced: int = 0
    left: Left = field(default_factory=dict)
    has_failed: bool = False
    inherited: Inherited | None = None
    _running: list[Chosen] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether a failure has ended the sweep."""
        return self.fail_fast and self.has_failed

    def prepare(self, jobs: Sequence[Job]) -> Chosen:
        """Check that jobs can run, and find out which an earlier sweep has done.

        Raises:
            UserError: with the mistakes of all jobs.
        """
        chosen = Chosen.of(jobs, self.left, self.run_id)
        self.launcher.check(chosen.groups)
        return chosen

    def begin(self, jobs: Sequence[Job], plan: Plan, ledger: Ledger | None, resumes: bool) -> None:
        """Check the first jobs of a plan and those that it returns later, and begin the record.

        Raises:
            UserError: with the mistakes of jobs.
        """
        chosen = self.prepare(jobs)
        self._running = [chosen]
        shared = self._look_at_later(chosen, plan)
        self.inherited = self.parent.begin(self.tracker, self.run_id, chosen.to_record, ledger, resumes, shared)

    def _look_at_later(self, chosen: Chosen, plan: Plan) -> dict[str, str]:
        """Check and count the jobs that the plan returns later; return the params that all jobs share.

        Raises:
            UserError: with the mistakes of jobs.
        """
        shared = self.parent.shared_by(member.config for member in chosen.members.values())
        left = {key: [*runs] for key, runs in self.left.items()}
        for later in map(_with_steps, plan.later()):
            _check_one_store([*chosen.jobs[:1], *later])
            skipped = take(left, [fingerprint(job.config) for job in later]) if left else {}
            members, groups = members_of(later, [i for i in range(len(later)) if i not in skipped], self.run_id)
            self.launcher.check(groups)
            params = self.parent.shared_by(member.config for member in members.values())
            shared = {key: text for key, text in shared.items() if params.get(key) == text}
            self.announced += len(later)
            self.console.add(len(later), sum(job.config.steps for job in later))
        if self.announced:
            self.launcher.check(chosen.groups)  # which are the next to run
        return shared

    def run(self, plan: Plan) -> None:
        """Run the first jobs of a plan, and those that it returns when it knows their results."""
        self._print(self._running[0])
        while True:
            try:
                for report in self.launcher.reports(self._work(self._running[0], plan.pruning)):
                    self.reports[first_id(report.run)] = report
                    self.has_failed |= report.status == "FAILED"
            finally:
                results = [one for chosen in self._running for one in self._results_of(chosen)]
                self.results += results
                self._drop_reports(results, plan)
            plan.tell(results)
            self.parent.add_points(self.tracker, self.run_id, plan.points())
            if self.is_over:
                self.results += (one for jobs in plan.later() for one in self._not_run(_with_steps(jobs)))
                return
            if not (jobs := _with_steps(plan.ask())):
                return
            self._running = [self._next(jobs)]

    def _next(self, jobs: Sequence[Job]) -> Chosen:
        """Check and record the next jobs of the plan.

        Raises:
            UserError: with the mistakes of jobs.
        """
        if self.announced == 0:
            _check_one_store([*self._running[0].jobs[:1], *jobs])
            self.console.add(len(jobs), sum(job.config.steps for job in jobs))
        is_announced = self.announced > 0
        self.announced = max(0, self.announced - len(jobs))
        chosen = self.prepare(jobs)
        self._print(chosen, is_announced)
        self.parent.add(self.tracker, self.run_id, chosen.to_record)
        self.inherited = self.parent.left_by(self.inherited, chosen.to_record)
        return chosen

    def more(self, jobs: Sequence[Job], pruning: JobPruning) -> Work:
        """Return jobs that are to run beside those that run already."""
        chosen = self._next(_with_steps(jobs))
        self._running.append(chosen)
        return self._work(chosen, pruning)

    @property
    def running(self) -> dict[str, Job]:
        """The jobs that were asked for last, by the runner's ids of their runs."""
        return {run: job for chosen in self._running for run, job in zip(chosen.runs, chosen.jobs, strict=True)}

    @property
    def ended(self) -> list[JobResult]:
        """How those of them have ended that have."""
        return [one for chosen in self._running for one in self._results_of(chosen)]

    def _work(self, chosen: Chosen, pruning: JobPruning | None) -> Work:
        index_of = {member: index for index, member in chosen.members.items()}
        self.console.skip(len(chosen.skipped), chosen.skipped_steps)

        def run_of(member: "Member") -> ShardRun:
            return chosen.shard_run(index_of[member], member.config)

        of_runs = None if pruning is None else RunPruning(pruning, self)
        return Work(chosen.groups, run_of, self.tracker, self.console, self.fail_fast, self.inherited, of_runs)

    def _print(self, chosen: Chosen, is_announced: bool = False) -> None:
        """Print how many jobs there are, unless that was printed with the jobs before."""
        if not is_announced:
            at_a_time = len(chosen.jobs) if self.announced else None
            self.console.print_batches(chosen.groups, len(chosen.skipped), at_a_time)

    def _drop_reports(self, results: Sequence[JobResult], plan: Plan) -> None:
        """Keep the report of the best run, whose weights may be recorded at the end."""
        best = plan.best(results)
        kept = None if best is None else self.reports.pop(first_id(best.run), None)
        for run in [one.run for one in results]:
            self.reports.pop(first_id(run), None)
        if kept is not None:
            self.reports[first_id(kept.run)] = kept

    def _not_run(self, jobs: Sequence[Job]) -> Iterator[JobResult]:
        """Yield the results of jobs that a failure has left, and of those of them that an earlier sweep has done."""
        skipped = take(self.left, [fingerprint(job.config) for job in jobs])
        for index, job in enumerate(jobs):
            found = skipped.get(index)
            yield _skipped(job, found) if found else JobResult(job, uuid.uuid4().hex, None, "NOT_RUN", {}, NOT_RUN)

    def _results_of(self, chosen: Chosen) -> Iterator[JobResult]:
        """Yield how the jobs ended, in order, without those that a signal stopped."""
        for index, (job, run) in enumerate(zip(chosen.jobs, chosen.runs, strict=True)):
            report = self.reports.get(run)
            if index in chosen.skipped:
                yield _skipped(job, chosen.skipped[index])
            elif report is not None:
                yield _reported(job, report)
            elif self.is_over:
                yield JobResult(job, run, None, "NOT_RUN", {}, NOT_RUN)


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
        is_pruned=earlier.is_pruned,
    )


def _reported(job: Job, report: RunReport) -> JobResult:
    has_diverged = report.status == "DIVERGED"
    how = report.status, Numbers.of(report.metrics), report.reason, has_diverged, report.still_since, report.remark
    return JobResult(job, report.run, None, *how, is_pruned=report.status == "PRUNED")


def _end(sweep: _Sweep, plan: Plan, status: str) -> None:
    """Record the weights of the best run and the objective around it, if it ran here, and how the sweep ended."""
    from runner.execution.landscape import LANDSCAPE
    from runner.execution.saved_weights import SAVED
    from runner.execution.weights import WEIGHTS, weights_file

    best = plan.best(sweep.results)
    report = None if best is None else sweep.reports.get(first_id(best.run))
    if best is not None and report is not None and report.weights and sweep.parent.experiment is not None:
        config = best.job.config
        if config.keep_weights == "best":
            sweep.tracker.append(Artifact(report.run, WEIGHTS, weights_file(report.weights)))
        if config.save_weights != "all" and (content := _saved(config, report)) is not None:
            sweep.tracker.append(Artifact(report.run, SAVED, content))
        if (
            config.keep_weights == "best"
            and status != "KILLED"
            and (content := _landscape(best.job.config, report)) is not None
        ):
            sweep.tracker.append(Artifact(report.run, LANDSCAPE, content))
    sweep.parent.end(sweep.tracker, sweep.run_id, status, sweep.results, plan.findings(sweep.results))
    if sweep.launcher.records_on_nodes and sweep.parent.experiment is not None:
        sweep.tracker.append(Settle(sweep.run_id, is_complete=status != "KILLED" and not sweep.is_over))


def _saved(config: Config, report: RunReport) -> bytes | None:
    """Return the file of the best run's last weights, if it saves them."""
    from runner.engine.batches import member_of
    from runner.execution.saved_weights import is_saving, saved_file

    try:
        objective = member_of(config).objective
    except Exception:  # the user's module may raise anything when it is read again
        return None
    return saved_file(objective.shapes, (report.weights or {})["final"]) if is_saving(config, objective) else None


def _landscape(config: Config, report: RunReport) -> bytes | None:
    from runner.engine.batches import member_of
    from runner.execution.landscape import landscape_file

    seconds = report.metrics.get("seconds", 0.0) / max(report.metrics.get("gradient_evaluations", 1), 1)
    try:
        member = member_of(config)
    except Exception:  # the user's module may raise anything when it is read again
        return None
    return landscape_file(member, (report.weights or {}).values(), (), seconds)
