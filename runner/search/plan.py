"""The plan of a search: a batch of trials is asked for, run as the jobs of a sweep, and told."""

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig
from optuna.trial import TrialState

from runner.composition import override_functions
from runner.messages.errors import SweepError, UserError
from runner.search.settings import FAILED, SearchSettings
from runner.search.space import Dimension, dimensions_of
from runner.search.study import Study, open_study
from runner.sweeps.fingerprint import sweep_fingerprint
from runner.sweeps.job import Job
from runner.sweeps.language import SweepRequest, parsed_overrides, sweep_request, written_overrides
from runner.sweeps.outcome import JobResult
from runner.sweeps.planning import Planner, check_params

NOT_IN_SEARCH = ("zip", "where")
NAME_LENGTH = 12
# Attribute of a trial: why a job of it failed.
REASON = "reason"


@dataclass(frozen=True)
class Asked:
    """A trial whose jobs are being run.

    Attributes:
        trial: of Optuna; None for a trial that is complete, whose jobs are only counted again.
        jobs: one for each seed.
    """

    trial: optuna.Trial | None
    jobs: tuple[Job, ...]


class SearchPlan:
    """A plan whose jobs are trials of a study, one job for each seed of a trial."""

    def __init__(self, planner: Planner, dimensions: Sequence[Dimension], study: Study, resumes: bool) -> None:
        """Make the plan.

        Args:
            planner: makes the jobs.
            dimensions: what is chosen.
            study: chooses it.
            resumes: whether to begin with the trials of an earlier process.
        """
        self._planner = planner
        self._dimensions = dimensions
        self._study = study
        self._settings = study.settings
        self._resumes = resumes
        self._asked: list[Asked] = []
        self._jobs = 0
        self._deadline = math.inf if study.settings.timeout is None else time.monotonic() + study.settings.timeout

    def ask(self) -> Sequence[Job]:
        """Return the jobs of the next trials; empty when the study has as many as it is to get."""
        if self._resumes:
            self._asked, self._resumes = self._earlier(), False
            if self._asked:
                return self._jobs_asked
        missing = self._study.missing
        if missing <= 0 or time.monotonic() >= self._deadline:
            return []
        trials = self._study.ask(min(missing, self._settings.batch_size))
        self._asked = [self._with_jobs(trial, trial.params) for trial in trials]
        return self._jobs_asked

    def later(self) -> Iterator[Sequence[Job]]:
        """Yield nothing: later trials depend on the results of the earlier ones."""
        yield from ()

    def tell(self, results: Sequence[JobResult]) -> None:
        """Tell the study the results of the trials that were asked for last; those that a signal stopped are left."""
        by_job = {one.job.overrides: one for one in results}
        for asked in self._asked:
            found = [by_job[job.overrides] for job in asked.jobs if job.overrides in by_job]
            if asked.trial is not None and len(found) == len(asked.jobs):
                self._tell(asked.trial, found)
        self._asked = []

    def _tell(self, trial: optuna.Trial, results: Sequence[JobResult]) -> None:
        has_failed = any(one.status in ("FAILED", "NOT_RUN") for one in results)
        values = None if has_failed else self._values(results)
        if has_failed:
            trial.set_user_attr(REASON, next((one.reason for one in results if one.reason), "not run"))
        if values is None:
            self._study.study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.study.tell(trial, values)

    def _values(self, results: Sequence[JobResult]) -> list[float] | None:
        """Return a value for each metric; None for a trial that counts as failed."""
        combine = statistics.mean if self._settings.repeats_value == "mean" else statistics.median
        found = []
        for place, metric in enumerate(self._settings.metrics):
            values = [_value(one, metric) for one in results]
            if any(one.has_diverged for one in results) or not all(map(math.isfinite, values)):
                seen = [trial.values[place] for trial in self._study.complete] + [*filter(math.isfinite, values)]
                if self._settings.diverged == FAILED or not seen:
                    return None
                values = [max(seen) if self._settings.directions[place] == "minimize" else min(seen)]
            found.append(float(combine(values)))
        return found

    @property
    def _jobs_asked(self) -> list[Job]:
        return [job for asked in self._asked for job in asked.jobs]

    def _earlier(self) -> list[Asked]:
        """Return the trials of an earlier process: those that it left, and those that are complete."""
        complete = [self._with_jobs(None, trial.params) for trial in self._study.complete]
        return complete + [self._with_jobs(self._study.take_over(one), one.params) for one in self._study.left()]

    def _with_jobs(self, trial: optuna.Trial | None, params: Mapping[str, Any]) -> Asked:
        chosen = {dimension.axis: dimension.point(params[dimension.key]) for dimension in self._dimensions}
        axes = self._planner.request.axes
        combination = [chosen.get(place, axis.points[0]) for place, axis in enumerate(axes)]
        return Asked(trial, tuple(self._job(combination, repeat) for repeat in range(self._planner.request.repeats)))

    def _job(self, combination: Sequence[tuple[Override, ...]], repeat: int) -> Job:
        job = self._planner.job(combination, repeat, number=self._jobs)
        assert job is not None  # a search has no condition
        self._jobs += 1
        return replace(job, labels=tuple(map(_label, job.varying)))

    def check_failures(self) -> None:
        """Check that not too many trials have failed.

        Raises:
            SweepError: more have.
        """
        trials = self._study.study.get_trials(deepcopy=False)
        failed = sum(REASON in trial.user_attrs for trial in trials)
        if trials and failed / len(trials) > self._settings.max_failure_rate:
            raise SweepError(
                f"{failed:,} of {len(trials):,} trials failed, "
                f"more than hydra.sweeper.max_failure_rate={self._settings.max_failure_rate:g}"
            )

    def summary(self) -> Iterator[str]:
        """Yield the lines that say how the search ended."""
        trials = self._study.study.get_trials(deepcopy=False)
        states = {state: sum(trial.state == state for trial in trials) for state in TrialState}
        yield (
            f"search     {len(trials):,} trials: {states[TrialState.COMPLETE]:,} complete, "
            f"{states[TrialState.FAIL]:,} failed; study {self._study.place}"
        )
        if not states[TrialState.COMPLETE]:
            return
        for trial in (
            self._study.study.best_trials[:1] if len(self._settings.metrics) > 1 else [self._study.study.best_trial]
        ):
            values = zip(self._settings.metrics, trial.values, strict=True)
            chosen = " ".join(f"{key}={_digits(value)}" for key, value in trial.params.items())
            yield f"best trial {trial.number}  {chosen}  " + " ".join(f"{key} {value:.6g}" for key, value in values)


def _label(text: str) -> str:
    """Return an override with few digits."""
    key, _, value = text.partition("=")
    try:
        return f"{key}={float(value):.6g}"
    except ValueError:
        return text


def _digits(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _value(result: JobResult, metric: str) -> float:
    """Return a final result.

    Raises:
        UserError: there is no such result.
    """
    if metric not in result.metrics:
        if result.metrics and not result.has_diverged:
            raise UserError(f"hydra.sweeper.metric={metric}: expected one of {', '.join(result.metrics)}")
        return math.nan
    return result.metrics[metric]


def plan_search(
    arguments: Sequence[str], params: Mapping[str, Any], settings: SearchSettings, loader: Any, master: DictConfig
) -> tuple[SweepRequest, SearchPlan]:
    """Return the sweep that overrides and `hydra.sweeper.params` ask for, and the plan of its search.

    Raises:
        UserError: with a line for each mistake; the storage cannot be used.
    """
    check_params(params)
    parser = override_functions.parser(loader)
    written = written_overrides(arguments, params)
    parsed = parsed_overrides(written, parser)
    wrong = [one.input_line for one in parsed if one.key_or_group in NOT_IN_SEARCH]
    if wrong:
        raise UserError(*(f"{text}: expected with hydra/sweeper=grid" for text in wrong))
    request = sweep_request(arguments, params, parser, is_search=True)
    dimensions = dimensions_of(request, parsed)
    resumes = request.resume is not False
    planner = Planner(request, loader, master)
    _check(planner, dimensions)
    name = f"search-{sweep_fingerprint(request.texts)[:NAME_LENGTH]}"
    uri = (master.get("tracking") or {}).get("uri")
    distributions = {dimension.key: dimension.distribution for dimension in dimensions}
    study = open_study(settings, distributions, name, uri, resumes)
    return request, SearchPlan(planner, dimensions, study, resumes)


def _check(planner: Planner, dimensions: Sequence[Dimension]) -> None:
    """Check the jobs at the ends of each range and with each choice, before a study is made.

    Raises:
        UserError: the config of one is wrong.
    """
    first = [axis.points[0] for axis in planner.request.axes]
    for dimension in dimensions:
        for point in planner.request.axes[dimension.axis].points:
            planner.job([*first[: dimension.axis], point, *first[dimension.axis + 1 :]], 0, number=0)
