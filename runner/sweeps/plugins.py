"""Hydra's side of our sweeps: a sweeper that plans a grid, and a launcher that runs it in batches."""

import shlex
import sys
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, cast

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from runner.composition import spaces
from runner.composition.composition import to_config
from runner.config import hydra_values
from runner.config.hydra_private import failure_of
from runner.console.run import say_recorded, stopped_record, telling_stops
from runner.messages.errors import DivergedError, SweepError, UserError
from runner.messages.overrides import without_plus
from runner.messages.printing import say, warn
from runner.messages.redaction import shown_override
from runner.process.tracebacks import on_demand
from runner.sweeps.batched import run_sweep
from runner.sweeps.fingerprint import sweep_fingerprint
from runner.sweeps.job import Job, named, shared_config
from runner.sweeps.labels import labelled
from runner.sweeps.language import SweepRequest, sweep_request
from runner.sweeps.outcome import JobDone, raise_failures, said_diverged
from runner.sweeps.parent import ParentRun
from runner.sweeps.planning import JobLoader, plan
from runner.sweeps.seeds import tell_idle_seeds
from runner.tracking.journal import End, now_ms
from runner.tracking.tracker import Tracker, tracking_to


def planned(
    arguments: Sequence[str], params: dict[str, Any], loader: Any, master: DictConfig
) -> tuple[SweepRequest, list[Job]]:
    """Return a sweep as asked for, and its jobs.

    Raises:
        UserError: with a line for each mistake.
    """
    for key in ("allow_code", "max_jobs"):
        if any(without_plus(name) == key for name in params):
            raise UserError(f"hydra.sweeper.params.{key}: a config file cannot say so, expected it on the command line")
    request = sweep_request(arguments, params, spaces.parser(loader))
    return request, plan(request, cast(JobLoader, loader), master)


def _going_on(jobs: Sequence[Job]) -> Iterator[str]:
    """Yield the command that goes on with a sweep of the command line, which a signal has stopped."""
    if jobs[0].config.tracking.name == "off":
        return
    texts = [shown_override(text) for text in sys.argv[1:] if not text.startswith("resume=")]
    yield f"go on      {shlex.join(['python', '-m', 'runner', *texts, 'resume=true'])}"


class GridSweeper(Sweeper):
    """Runs every combination as a child of one parent run, which it creates, and lets no job hide another."""

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        self._params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives a sweeper, and make the launcher that the config names."""
        self._config = config
        self._context = hydra_context
        self._launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        """Run the jobs that the overrides span.

        Raises:
            UserError: some job's config is wrong; none was started.
            SweepError: some jobs failed; the others are recorded.
        """
        request, jobs = planned(arguments, self._params, self._context.config_loader, self._config)
        if isinstance(self._launcher, BatchedLauncher):
            hydra_values.log_as_asked(self._config)
            with telling_stops(lambda: _going_on(jobs)):
                done = run_sweep(jobs, request.texts, self._launcher.memory_mib, request.resume, request.fail_fast)
            raise_failures(done)
            return returns_of(done)
        launcher = self._config.hydra.runtime.choices.get("hydra/launcher")
        if request.resume:
            raise UserError(f"resume={request.resume}: expected with hydra/launcher=batched, given {launcher}")
        if request.fail_fast:
            raise UserError(f"fail_fast=true: expected with hydra/launcher=batched, given {launcher}")
        return self._launch(jobs, request.texts)

    def _launch(self, jobs: list[Job], texts: Sequence[str]) -> Sequence[JobReturn]:
        """Run the jobs by one of Hydra's own launchers, which composes the config of each anew."""
        tell_idle_seeds(jobs)
        parent = ParentRun(shared_config(jobs), texts, sweep_fingerprint(texts))
        run = uuid.uuid4().hex
        trackers: list[Tracker] = []

        def stopped() -> Iterator[str]:
            yield f"stopped    in a sweep of {len(jobs):,} runs"
            for tracker in trackers:
                yield from stopped_record(tracker.recorded(run), parent.config)

        with telling_stops(stopped), tracking_to(parent.config.tracking) as tracker:
            trackers.append(tracker)
            parent.begin(tracker, run, jobs=[])  # each job records its own config
            status = "KILLED"
            try:
                returns = self._launcher.launch([_child_overrides(job, run) for job in jobs], 0)
                failures = failures_of(jobs, returns)
                status = "FAILED" if failures else "FINISHED"
                diverged = _diverged_of(jobs, returns)
                results = {"jobs": float(len(jobs)), "jobs_failed": float(len(failures))}
                results["jobs_diverged"] = float(len(diverged))
                tags = {"diverged_jobs": str(len(diverged))}
            except BaseException:
                results, tags = {}, {}
                raise
            finally:
                if parent.experiment is not None:
                    tracker.append(End(run, status, now_ms(), results=results, tags=tags))
        if not parent.config.quiet:
            how = f" ({len(diverged):,} diverged)" if diverged else ""
            finished = len(jobs) - len(failures)
            say(f"ended      {len(jobs):,} jobs run: {finished:,} finished{how}, {len(failures):,} failed")
        elif diverged and not parent.config.fail_on_divergence:
            warn(said_diverged([job.name for job in diverged], len(jobs)))
        say_recorded(tracker.recorded(run), parent.config)
        if failures:
            raise SweepError(*failures, f"{len(failures):,} of {len(jobs):,} jobs failed{on_demand()}")
        if unwanted := [job.name for job in diverged if job.config.fail_on_divergence]:
            raise DivergedError(f"{said_diverged(unwanted, len(jobs))}; fail_on_divergence=true")
        return returns


class BatchedLauncher(Launcher):
    """Runs jobs of one kind as one tensor program.

    Under our sweeper it takes planned jobs; under another it plans what that one gives, a batch of jobs at a
    time, and creates a parent run for each.
    """

    def __init__(self, memory_mib: int) -> None:
        if isinstance(memory_mib, bool) or not isinstance(memory_mib, int) or memory_mib < 1:
            raise UserError(f"hydra.launcher.memory_mib={memory_mib}: expected a whole number of at least 1")
        self.memory_mib = memory_mib

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives a launcher."""
        self._config = config
        self._context = hydra_context

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs of these overrides.

        Raises:
            UserError: some job's config is wrong; none was started.
            SweepError: some jobs failed; the others are recorded.
        """
        loader = self._context.config_loader
        shared = set.intersection(*map(set, job_overrides))
        jobs = []
        for index, overrides in enumerate(job_overrides, start=initial_job_idx):
            cfg = loader.load_sweep_config(self._config, list(overrides))
            hydra_values.number(cfg, index)
            varying = tuple(text for text in overrides if text not in shared)
            jobs.append(Job(tuple(overrides), varying, to_config(cfg)))
        hydra_values.log_as_asked(self._config)
        texts = sorted({text for job in jobs for text in job.overrides})
        done = run_sweep(labelled(named(jobs)), texts, self.memory_mib)
        raise_failures(done)
        return returns_of(done)


def _child_overrides(job: Job, parent: str) -> list[str]:
    name = [] if job.is_named or not job.varying else [f"name={quoted(job.name)}"]
    return [*job.overrides, *name, f"parent_run={parent}"]


def quoted(text: str) -> str:
    """Return text as Hydra's grammar quotes it."""
    return QuotedString(text, Quote.single).with_quotes()


def returns_of(done: Sequence[JobDone]) -> list[JobReturn]:
    """Return what Hydra expects of each job."""
    returns = []
    for one in done:
        returned = JobReturn(overrides=list(one.job.overrides), status=JobStatus.COMPLETED)
        returned.return_value = one.loss
        returns.append(returned)
    return returns


def _diverged_of(jobs: Sequence[Job], returns: Sequence[JobReturn]) -> list[Job]:
    """Return the jobs that diverged, which return the worst of losses."""
    ended = [(job, done) for job, done in zip(jobs, returns, strict=True) if done.status is JobStatus.COMPLETED]
    return [job for job, done in ended if done.return_value == job.config.direction.worst]


def failures_of(jobs: list[Job], returns: Sequence[JobReturn]) -> list[str]:
    """Return a line for each job that failed."""
    failures = []
    for job, done in zip(jobs, returns, strict=True):
        if done.status is not JobStatus.COMPLETED:
            reason = " ".join(f"{failure_of(done)}".split())
            failures.append(f"job {job.name} failed: {reason}")
    return failures
