"""Running the jobs of a sweep: those of one kind as one tensor program, under one parent run."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from runner.config.schema import Config
from runner.console.run import telling_stops
from runner.execution.job import no_garbage_collection
from runner.messages.errors import FunctionError, RunnerError, UserError
from runner.process.tracebacks import show_traceback, told
from runner.sweeps.console import SweepConsole
from runner.sweeps.fingerprint import fingerprint, sweep_fingerprint
from runner.sweeps.job import Job, shared_config
from runner.sweeps.outcome import JobDone, best_of
from runner.sweeps.parent import ParentRun
from runner.sweeps.planning import Mistakes, raise_all
from runner.sweeps.seeds import tell_idle_seeds
from runner.tracking.journal import Artifact, End, now_ms
from runner.tracking.ledger import Finished
from runner.tracking.tracker import Tracker, tracking_to

if TYPE_CHECKING:
    from runner.engine.batches import Member
    from runner.engine.result import Result
    from runner.execution import batch

NOT_RUN = "fail_fast=true: another job had failed"


@dataclass
class _Sweep:
    """A sweep while it runs.

    Attributes:
        runs: our id of each job's run.
        results: of the jobs that have ended here, by index.
        failures: the reasons of those that failed, by index.
        fail_fast: whether the first failure ends the sweep.
    """

    jobs: Sequence[Job]
    tracker: Tracker
    console: SweepConsole
    memory_mib: int
    parent: str
    runs: list[str]
    results: "dict[int, Result]" = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    fail_fast: bool = False

    @property
    def is_over(self) -> bool:
        """Whether a failure has ended the sweep."""
        return self.fail_fast and bool(self.failures)


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
            from runner.execution import batch  # noqa: F401  # torch comes while the recorder starts
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
        parent.begin(tracker, run, is_new=ledger is None, resumes=bool(resume))
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
        _end(sweep, parent, "FAILED" if sweep.failures else "FINISHED", done)
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
    from runner.engine.batches import grouped, portions
    from runner.execution.batch import Job as RunJob

    index_of = {member: index for index, member in members.items()}
    groups = grouped(members.values())
    sweep.console.kinds(groups)
    for group in groups:
        for portion in portions(group, sweep.memory_mib):
            if sweep.is_over:
                return
            indices = [index_of[member] for member in portion]
            runs = [
                RunJob(
                    members[index],
                    sweep.runs[index],
                    {"runner.fingerprint": prints[index]},
                    keeps_weights=sweep.jobs[index].config.keep_weights == "all",
                )
                for index in indices
            ]
            _run_portion(sweep, indices, runs)
            sweep.console.portion_done(len(indices), sum(member.config.steps for member in portion))


def _run_portion(sweep: _Sweep, indices: Sequence[int], runs: "Sequence[batch.Job]") -> None:
    """Run jobs of one kind; where one of them fails, run those that had not ended by themselves."""
    from runner.execution.batch import BatchError, execute

    try:
        results = execute(runs, sweep.tracker, sweep.console)
    except BatchError as failed:
        sweep.results |= {indices[place]: result for place, result in failed.ended.items()}
        for place, recorded in failed.recorded.items():
            if sweep.is_over:
                sweep.tracker.append(End(runs[place].run, "KILLED", now_ms(), tags={"runner.reason": NOT_RUN}))
                continue
            _run_portion(sweep, [indices[place]], [replace(runs[place], recorded=recorded)])
    except RunnerError as error:
        if len(runs) > 1 or not isinstance(error, UserError):
            raise
        sweep.failures[indices[0]] = "; ".join(error.lines)
    except Exception as error:  # whatever a stranger's function raises is that job's failure
        if len(runs) > 1:
            raise
        show_traceback(error)
        sweep.failures[indices[0]] = told(error)
    else:
        sweep.results |= dict(zip(indices, results, strict=True))


def _end(sweep: _Sweep, parent: ParentRun, status: str, done: Sequence[JobDone]) -> None:
    """Record the weights of the best run, where it ran here, and how the sweep ended."""
    from runner.execution.weights import WEIGHTS, weights_file

    best = best_of(done)
    is_ours = best is not None and best.run in sweep.runs
    if best is not None and is_ours and best.job.config.keep_weights == "best" and parent.experiment is not None:
        result = sweep.results[sweep.runs.index(best.run)]
        sweep.tracker.append(Artifact(best.run, WEIGHTS, weights_file(result)))
    parent.end(sweep.tracker, sweep.parent, status, done)


def _done(sweep: _Sweep, skipped: Mapping[int, Finished]) -> list[JobDone]:
    """Return how the jobs that have ended went, in order."""
    from runner.execution.metrics import final_metrics

    done = []
    for index, job in enumerate(sweep.jobs):
        if index in skipped:
            earlier = skipped[index]
            place = earlier.run_id, earlier.run_id
            said = replace(JobDone(job, *place, "SKIPPED", earlier.metrics), has_diverged=earlier.has_diverged)
            done.append(replace(said, still_since=earlier.still_since, remark=earlier.remark))
            continue
        run = sweep.runs[index]
        if index in sweep.results:
            result = sweep.results[index]
            status = result.outcome.name
            ended = final_metrics(result), result.reason, status == "DIVERGED", result.still_since, result.remark
            done.append(JobDone(job, run, None, status, *ended))
        elif index in sweep.failures:
            done.append(JobDone(job, run, None, "FAILED", {}, sweep.failures[index]))
        elif sweep.is_over:
            done.append(JobDone(job, run, None, "NOT_RUN", {}, NOT_RUN))
    return done
