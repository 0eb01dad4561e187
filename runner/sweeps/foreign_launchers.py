"""Running the jobs of a sweep by one of Hydra's own launchers, which composes and runs each job by itself."""

import uuid
from collections.abc import Callable, Iterator, Sequence

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.utils import JobReturn, JobStatus

from runner.config.hydra_private import failure_of
from runner.console.recorded import interrupted_record, print_recorded
from runner.console.view import notes_on_signal
from runner.messages.errors import DivergedError, SweepError
from runner.messages.printing import print_lines, warn
from runner.process.tracebacks import traceback_hint
from runner.report import drawing
from runner.sweeps.fingerprint import sweep_fingerprint
from runner.sweeps.job import Job, shared_config
from runner.sweeps.outcome import divergence_sentence
from runner.sweeps.parent import ParentRun, job_tags
from runner.sweeps.unused_seeds import warn_of_unused_seeds
from runner.tracking.journal import End, now_ms
from runner.tracking.tracker import Tracker, tracking_to


def launch(
    jobs: Sequence[Job], texts: Sequence[str], launcher: Callable[[list[list[str]]], Sequence[JobReturn]]
) -> Sequence[JobReturn]:
    """Run jobs by a launcher, under one parent run.

    Args:
        jobs: what to run.
        texts: the overrides of the sweep as they were written.
        launcher: runs a job for each list of overrides.

    Raises:
        SweepError: some jobs failed; the others are recorded.
        DivergedError: some diverged, and `fail_on_divergence` is true.
    """
    warn_of_unused_seeds(jobs)
    parent = ParentRun(shared_config(jobs), texts, sweep_fingerprint(texts))
    run = uuid.uuid4().hex
    trackers: list[Tracker] = []

    def stopped() -> Iterator[str]:
        yield f"stopped    in a sweep of {len(jobs):,} runs"
        for tracker in trackers:
            yield from interrupted_record(tracker.recorded(run), parent.config)

    with notes_on_signal(stopped), tracking_to(parent.config.tracking, afterwards=drawing(parent.config)) as tracker:
        trackers.append(tracker)
        parent.begin(tracker, run, jobs=[])  # each job records its own config
        end = End(run, "KILLED", 0)
        try:
            returns = launcher([_child_overrides(job, run) for job in jobs])
            failures, diverged = _failures(jobs, returns), _diverged(jobs, returns)
            end = _end(run, len(jobs), len(failures), len(diverged))
        finally:
            if parent.experiment is not None:
                tracker.append(End(run, end.status, now_ms(), results=end.results, tags=end.tags))
    _print_totals(jobs, failures, diverged)
    print_recorded(tracker.recorded(run), parent.config)
    if failures:
        raise SweepError(*failures, f"{len(failures):,} of {len(jobs):,} jobs failed{traceback_hint()}")
    if unwanted := [job.name for job in diverged if job.config.fail_on_divergence]:
        raise DivergedError(f"{divergence_sentence(unwanted, len(jobs))}; fail_on_divergence=true")
    return returns


def _end(run: str, jobs: int, failed: int, diverged: int) -> End:
    tags = job_tags({"jobs": jobs, "jobs_failed": failed, "jobs_diverged": diverged, "diverged_jobs": diverged})
    return End(run, "FAILED" if failed else "FINISHED", now_ms(), tags=tags)


def _print_totals(jobs: Sequence[Job], failures: Sequence[str], diverged: Sequence[Job]) -> None:
    config = jobs[0].config
    if not config.quiet:
        how = f" ({len(diverged):,} diverged)" if diverged else ""
        finished = len(jobs) - len(failures)
        print_lines(f"ended      {len(jobs):,} jobs run: {finished:,} finished{how}, {len(failures):,} failed")
    elif diverged and not config.fail_on_divergence:
        warn(divergence_sentence([job.name for job in diverged], len(jobs)))


def _child_overrides(job: Job, parent: str) -> list[str]:
    name = [] if job.is_named or not job.varying else [f"name={_quoted(job.name)}"]
    return [*job.overrides, *name, f"parent_run={parent}"]


def _quoted(text: str) -> str:
    """Return text in the quotes of Hydra's grammar."""
    return QuotedString(text, Quote.single).with_quotes()


def _diverged(jobs: Sequence[Job], returns: Sequence[JobReturn]) -> list[Job]:
    """Return the jobs that diverged; their return value is the worst loss."""
    ended = [(job, done) for job, done in zip(jobs, returns, strict=True) if done.status is JobStatus.COMPLETED]
    return [job for job, done in ended if done.return_value == job.config.direction.worst]


def _failures(jobs: Sequence[Job], returns: Sequence[JobReturn]) -> list[str]:
    """Return a line for each job that failed."""
    failures = []
    for job, done in zip(jobs, returns, strict=True):
        if done.status is not JobStatus.COMPLETED:
            reason = " ".join(f"{failure_of(done)}".split())
            failures.append(f"job {job.name} failed: {reason}")
    return failures
