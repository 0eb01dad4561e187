"""The grid sweeper: every combination of the swept values, validated before the first job starts."""

import itertools
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from runner.composition import to_config
from runner.config import Config
from runner.console import say, say_recorded
from runner.errors import SweepError, UserError
from runner.job import no_garbage_collection
from runner.tracking import provenance
from runner.tracking.journal import Begin, End, now_ms
from runner.tracking.tracker import Tracker, tracking_to

MISTAKES_IN_FULL = 5
Made = TypeVar("Made")


@dataclass(frozen=True)
class Job:
    """One combination: its overrides, and what of them varies within the sweep."""

    overrides: tuple[str, ...]
    varying: tuple[str, ...]

    @property
    def name(self) -> str:
        """What tells the job from the others of its sweep."""
        return " ".join(self.varying)


class GridSweeper(Sweeper):
    """Runs every combination as a child of one parent run, and reports every failure at the end.

    Hydra's basic sweeper stops reporting at the first failure; this one lets no job hide another.
    """

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
        if any(key.lstrip("+") == "allow_code" for key in self._params):
            raise UserError("hydra.sweeper.params.allow_code: a config file cannot say so, expected allow_code=true")
        swept = [f"{key}={value}" for key, value in self._params.items()] + arguments
        jobs = jobs_of(OverridesParser.create(self._context.config_loader).parse_overrides(swept))
        configs = all_or_mistakes(jobs, lambda job: to_config(self._load(job)))
        first = configs[0]
        parent = ParentRun(first, swept, uuid.uuid4().hex)
        provenance.look()
        with tracking_to(first.tracking) as tracker:
            with no_garbage_collection():
                from runner.batches import member_of
            configs_of = dict(zip(jobs, configs, strict=True))
            all_or_mistakes(jobs, lambda job: member_of(configs_of[job]))
            parent.begin(tracker)
            try:
                returns = self._launcher.launch([self._child_overrides(job, parent.run) for job in jobs], 0)
            except BaseException:
                parent.end(tracker, "KILLED", {})
                raise
            failures = failures_of(jobs, returns)
            parent.end(tracker, "FAILED" if failures else "FINISHED", counts(len(jobs), len(failures)))
        parent.say(tracker, len(jobs), len(failures))
        if failures:
            raise SweepError(*failures)
        return returns

    def _load(self, job: Job) -> DictConfig:
        return self._context.config_loader.load_sweep_config(self._config, list(job.overrides))

    def _child_overrides(self, job: Job, parent: str) -> list[str]:
        names_itself = any(override.startswith("name=") for override in job.varying)
        name = [] if names_itself or not job.varying else [f"name={quoted(job.name)}"]
        return [*job.overrides, *name, f"parent_run={parent}"]


def jobs_of(overrides: list[Override]) -> list[Job]:
    """Return every combination of the swept values, the last override varying fastest."""
    varies = [override.is_sweep_override() for override in overrides]
    return [
        Job(combination, tuple(itertools.compress(combination, varies)))
        for combination in itertools.product(*map(_values_of, overrides))
    ]


def _values_of(override: Override) -> list[str]:
    if override.is_sweep_override():
        return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
    return [str(override.input_line)]


def all_or_mistakes(jobs: list[Job], make: Callable[[Job], Made]) -> list[Made]:
    """Return what `make` makes of each job.

    Raises:
        UserError: with the mistakes of all jobs, a few in full and the rest counted.
    """
    made, mistakes = [], []
    for job in jobs:
        try:
            made.append(make(job))
        except UserError as error:
            mistakes.append(f"{'; '.join(error.lines)} (job {job.name})")
    if mistakes:
        more = len(mistakes) - MISTAKES_IN_FULL
        rest = [f"and {more} more of {len(jobs)} jobs"] if more > 0 else []
        raise UserError(*mistakes[:MISTAKES_IN_FULL], *rest)
    return made


def quoted(text: str) -> str:
    """Return text as Hydra's grammar quotes it."""
    return QuotedString(text, Quote.single).with_quotes()


def failures_of(jobs: list[Job], returns: Sequence[JobReturn]) -> list[str]:
    """Return a line for each job that failed."""
    failures = []
    for job, done in zip(jobs, returns, strict=True):
        if done.status is not JobStatus.COMPLETED:
            reason = " ".join(f"{done._return_value}".split())
            failures.append(f"job {job.name} failed: {reason}")
    return failures


def counts(jobs: int, failed: int) -> dict[str, float]:
    """Return the numbers of jobs by outcome, as metrics of the parent run."""
    return {"jobs": jobs, "jobs_finished": jobs - failed, "jobs_failed": failed}


@dataclass(frozen=True)
class ParentRun:
    """The run in MLflow that the jobs of a sweep are children of."""

    config: Config
    swept: list[str]
    run: str

    def begin(self, tracker: Tracker) -> None:
        """Append that the sweep begins, with its overrides as params."""
        if self.config.tracking.experiment is not None:
            params = dict(override.lstrip("+~").partition("=")[::2] for override in self.swept)
            name = self.config.name or " ".join(self.swept)
            tags = provenance.tags_of(self.config) | {"runner.kind": "sweep"}
            tracker.append(Begin(self.run, name, self.config.tracking.experiment, now_ms(), params=params, tags=tags))

    def end(self, tracker: Tracker, status: str, results: dict[str, float]) -> None:
        """Append how the sweep ended."""
        tracker.append(End(self.run, status, now_ms(), results=results))

    def say(self, tracker: Tracker, jobs: int, failed: int) -> None:
        """Print how many jobs ended how, and where they are recorded."""
        if not self.config.quiet:
            say(f"sweep      {jobs} jobs: {jobs - failed} finished, {failed} failed")
        say_recorded(tracker.recorded(self.run), self.config)
