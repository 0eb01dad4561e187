"""The plan of a search: a batch of trials is asked for, run as the jobs of a sweep, and told."""

import math
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig
from optuna.trial import FrozenTrial, TrialState

from runner.composition import override_functions
from runner.messages.errors import SweepError, UserError, one_line
from runner.messages.redaction import shown_override, shown_text
from runner.report.search import OVERRIDES
from runner.search import findings
from runner.search.asked import Asked, combined, final_value
from runner.search.findings import DIVERGED, TRIAL
from runner.search.pruning import FAILED as FAILURES
from runner.search.pruning import TrialPruning
from runner.search.settings import FAILED, WORST, SearchSettings
from runner.search.space import Dimension, dimensions_of
from runner.search.study import Study, open_study
from runner.sweeps.fingerprint import sweep_fingerprint
from runner.sweeps.job import Job
from runner.sweeps.language import SweepRequest, parsed_overrides, sweep_request, written_overrides
from runner.sweeps.outcome import JobResult, best_of
from runner.sweeps.plan import Findings, Plan, Point
from runner.sweeps.planning import Planner, check_params

NOT_IN_SEARCH = ("zip", "where")
NAME_LENGTH = 12
# Attribute of a trial: why a job of it failed.
REASON = "reason"


class SearchPlan(Plan):
    """A plan whose jobs are trials of a study, one job for each seed of a trial."""

    def __init__(
        self,
        planner: Planner,
        dimensions: Sequence[Dimension],
        study: Study,
        resumes: bool,
        overrides: Sequence[str] = (),
    ) -> None:
        """Make the plan.

        Args:
            planner: makes the jobs.
            dimensions: what is chosen.
            study: chooses it.
            resumes: whether to begin with the trials of an earlier process.
            overrides: those of Hydra's own config that make the search.
        """
        self._planner = planner
        self._dimensions = dimensions
        self._study = study
        self.study = study.place
        self._settings = study.settings
        self._resumes = resumes
        self._overrides = overrides
        self._asked: list[Asked] = []
        self._run: str | None = None
        self._recorded: set[int] = set()
        self._jobs = 0
        pruner = study.settings.pruner
        if pruner is not None:
            self.pruning = TrialPruning(pruner, study, lambda: self._asked, self._refill)
        self._deadline = math.inf if study.settings.timeout is None else time.monotonic() + study.settings.timeout

    def ask(self) -> Sequence[Job]:
        """Return the jobs of the next trials; empty when the study has as many as it is to get."""
        if self._resumes:
            self._asked, self._resumes = self._earlier(), False
            if self._asked:
                return _jobs_of(self._asked)
        self._asked = self._next(self._settings.batch_size)
        return _jobs_of(self._asked)

    def _next(self, most: int) -> list[Asked]:
        """Return new trials, at most so many and no more than the study is to get."""
        trials = [] if time.monotonic() >= self._deadline else self._study.ask(most, self._run)
        return [self._with_jobs(trial, trial.number, trial.params) for trial in trials]

    def _refill(self, ended: Sequence[JobResult]) -> Sequence[Job]:
        """Tell the study which trials have ended, and return the jobs of as many new ones, where this is asked for."""
        if not self._settings.refill:
            return []
        self._tell_ended(ended)
        new = self._next(self._settings.batch_size - len(self._asked))
        self._asked += new
        return _jobs_of(new)

    def start(self, run: str, jobs: Sequence[Job]) -> Sequence[Job]:
        """Take the runner's id of the parent run; leave out complete trials of other parent runs, which have them."""
        self._run = run
        for asked in self._asked:
            if asked.trial is not None:
                self._study.own(asked.trial, run)
        others = {trial.number for trial in self._study.complete if self._study.run_of(trial) != run}
        self._asked = [asked for asked in self._asked if asked.trial is not None or asked.number not in others]
        left = {str(asked.number) for asked in self._asked}
        return [job for job in jobs if job.tags[TRIAL] in left]

    def later(self) -> Iterator[Sequence[Job]]:
        """Yield nothing: later trials depend on the results of the earlier ones."""
        yield from ()

    def tell(self, results: Sequence[JobResult]) -> None:
        """Tell the study the results of the trials that were asked for last; those that a signal stopped are left."""
        self._tell_ended(results)
        self._asked = []

    def _tell_ended(self, results: Sequence[JobResult]) -> None:
        """Tell the study the trials of which all jobs have ended."""
        by_job = {one.job.overrides: one for one in results}
        left, ended = [], []
        for asked in self._asked:
            found = [by_job[job.overrides] for job in asked.jobs if job.overrides in by_job]
            if len(found) < len(asked.jobs):
                left.append(asked)
            elif asked.trial is not None:
                ended.append((asked.trial, found))
        # Diverged trials come last: they count as the worst value, which may be of these.
        for trial, found in sorted(ended, key=lambda one: any(result.has_diverged for result in one[1])):
            self._tell(trial, found)
        self._asked = left

    def _tell(self, trial: optuna.Trial, results: Sequence[JobResult]) -> None:
        has_diverged = any(one.has_diverged for one in results)
        if has_diverged:
            trial.set_user_attr(DIVERGED, value=True)
        # Samplers rank each complete trial above all pruned ones, so no diverged trial may be complete beside these.
        is_worst = has_diverged and self._settings.pruner is not None and self._settings.diverged == WORST
        if is_worst or any(one.is_pruned for one in results):
            self._study.study.tell(trial, state=TrialState.PRUNED)
            return
        has_failed = any(one.status in FAILURES for one in results)
        values = None if has_failed else self._values(results)
        if has_failed:
            trial.set_user_attr(REASON, next((one.reason for one in results if one.reason), "not run"))
        if values is None:
            self._study.study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.study.tell(trial, values)

    def _values(self, results: Sequence[JobResult]) -> list[float] | None:
        """Return a value for each metric; None for a trial that counts as failed."""
        found = []
        for place, metric in enumerate(self._settings.metrics):
            values = [final_value(one, metric) for one in results]
            if any(one.has_diverged for one in results) or not all(map(math.isfinite, values)):
                seen = [*self._study.values(place), *filter(math.isfinite, values)]
                if self._settings.diverged == FAILED or not seen:
                    return None
                values = [max(seen) if self._settings.directions[place] == "minimize" else min(seen)]
            found.append(combined(values, self._settings))
        return found

    def _earlier(self) -> list[Asked]:
        """Return the trials of an earlier process: those that it left, and those that are complete."""
        complete = [self._with_jobs(None, trial.number, trial.params) for trial in self._study.complete]
        left = self._study.take_over()
        # A process that was killed while it asked for a batch has left a part of one.
        batch, size = self._study.begun_batch
        if left and 0 < size < self._settings.batch_size and not self._settings.refill:
            left += self._study.ask(self._settings.batch_size - size, self._run, batch)
        return complete + [self._with_jobs(trial, trial.number, trial.params) for trial in left]

    def _with_jobs(self, trial: optuna.Trial | None, number: int, params: Mapping[str, Any]) -> Asked:
        chosen = {dimension.axis: dimension.point(params[dimension.key]) for dimension in self._dimensions}
        axes = self._planner.request.axes
        combination = [chosen.get(place, axis.points[0]) for place, axis in enumerate(axes)]
        jobs = tuple(self._job(number, combination, repeat) for repeat in range(self._planner.request.repeats))
        return Asked(trial, number, jobs)

    def _job(self, trial: int, combination: Sequence[tuple[Override, ...]], repeat: int) -> Job:
        job = self._planner.job(combination, repeat, number=self._jobs)
        assert job is not None  # a search has no condition
        self._jobs += 1
        return replace(job, labels=tuple(map(_label, job.varying)), tags={TRIAL: str(trial)})

    def best(self, results: Sequence[JobResult]) -> JobResult | None:
        """Return the best job of the best trial; with several metrics, the job with the best last loss."""
        if len(self._settings.metrics) > 1:
            return best_of(results)
        by_trial: dict[int, list[JobResult]] = {}
        for one in results:
            by_trial.setdefault(int(one.job.tags[TRIAL]), []).append(one)
        values = {number: self._own_value(found) for number, found in by_trial.items()}
        finite = [(self._settings.sign * value, number) for number, value in values.items() if math.isfinite(value)]
        return best_of(by_trial[min(finite)[1]]) if finite else None

    def _own_value(self, results: Sequence[JobResult]) -> float:
        """Return the value of a trial by one metric from its results; NaN for one that diverged, failed or stopped."""
        values = [one.metrics.get(self._settings.metrics[0], math.nan) for one in results]
        is_whole = len(results) == self._planner.request.repeats
        if not is_whole or any(one.has_diverged or one.is_pruned or one.status in FAILURES for one in results):
            return math.nan
        return combined(values, self._settings)

    def points(self) -> Sequence[Point]:
        """Return the values of the trials that are complete and were not returned before."""
        found = [one for one in findings.history(self._trials, self._settings) if one.step not in self._recorded]
        self._recorded.update(one.step for one in found)
        return found

    def close(self) -> None:
        """Leave the trials that were interrupted: this process, which may be a notebook's, does not run them now."""
        for asked in self._asked:
            if asked.trial is not None:
                self._study.leave(asked.trial)
        self._asked = []

    def findings(self, results: Sequence[JobResult]) -> Findings:
        """Return what the search found; where the study cannot be read, the reason."""
        try:
            return self._findings(results)
        except Exception as error:  # of the study's storage: the runs are recorded all the same
            return Findings(self.best(results), tags={"search.error": shown_text(one_line(error))})

    def _findings(self, results: Sequence[JobResult]) -> Findings:
        study, settings, trials = self._study.study, self._settings, self._trials
        best, shares = findings.best_trials(study, trials), findings.importances(study)
        job = self.best(results)
        if (
            job is not None
            and len(settings.metrics) == 1
            and [job.job.tags[TRIAL]] != [str(one.number) for one in best]
        ):
            job = None  # another process has run the best trial
        points = [*self.points(), *findings.importance_point(trials, shares)]
        tags = findings.tags_of(trials, best, settings, self._study.place, shares)
        tags[OVERRIDES] = shlex.join(map(shown_override, self._overrides))
        if job is None and best:
            tags["best.run"] = "in another sweep of the study"
        sentences = findings.sentences(trials, best, settings, shares)
        return Findings(job, points, tags, sentences, self._overrides)

    @property
    def _trials(self) -> list[FrozenTrial]:
        return self._study.study.get_trials(deepcopy=False)

    def check_failures(self) -> None:
        """Check that not too many trials have failed.

        Raises:
            SweepError: more have.
        """
        trials = self._trials
        failed = sum(REASON in trial.user_attrs for trial in trials)
        if trials and failed / len(trials) > self._settings.max_failure_rate:
            raise SweepError(
                f"{failed:,} of {len(trials):,} trials failed, "
                f"more than hydra.sweeper.max_failure_rate={self._settings.max_failure_rate:g}"
            )

    def summary(self) -> Iterator[str]:
        """Yield the lines that say how the search ended."""
        trials = self._trials
        own = sum(self._study.run_of(trial) == self._run for trial in trials)
        yield f"search     {findings.sentence(trials)}; study {self._study.place}"
        if own < sum(findings.counts(trials).values()):
            yield f"here       {own:,} of these trials were run in this sweep, the others in those of other processes"
        best = findings.best_trials(self._study.study, trials)
        if len(self._settings.metrics) > 1 and best:
            yield f"front      {len(best):,} trials that no other is better than in all metrics, such as:"
        for trial in best[:1]:
            chosen, values = findings.described(trial, self._settings)
            yield f"{'best ' if len(self._settings.metrics) == 1 else ''}trial {trial.number}  {chosen}  {values}"
        if (shares := findings.importances(self._study.study)).shares:
            yield f"importance {shares}"


def _label(text: str) -> str:
    """Return an override with few digits."""
    key, _, value = text.partition("=")
    try:
        return f"{key}={float(value):.6g}"
    except ValueError:
        return text


def _jobs_of(asked: Sequence[Asked]) -> list[Job]:
    return [job for one in asked for job in one.jobs]


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
    own = [text for text in master.hydra.overrides.hydra if not text.startswith("hydra.mode=")]
    return request, SearchPlan(planner, dimensions, study, resumes, own)


def _check(planner: Planner, dimensions: Sequence[Dimension]) -> None:
    """Check the jobs at the ends of each range and with each choice, before a study is made.

    Raises:
        UserError: the config of one is wrong.
    """
    first = [axis.points[0] for axis in planner.request.axes]
    for dimension in dimensions:
        for point in planner.request.axes[dimension.axis].points:
            planner.job([*first[: dimension.axis], point, *first[dimension.axis + 1 :]], 0, number=0)
