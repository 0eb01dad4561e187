"""Pruning the trials of a study at rungs."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from runner.search.asked import Asked, combined, final_value
from runner.search.findings import DIVERGED
from runner.search.pruners import Pruner, Scores
from runner.search.study import Study
from runner.sweeps.job import Job
from runner.sweeps.outcome import JobResult

# Attribute of a study: the largest number of steps that its rungs are made for.
STEPS = "steps"
FAILED = ("FAILED", "NOT_RUN")


@dataclass(frozen=True)
class TrialPruning:
    """Prunes the jobs of the trials that a pruner prunes.

    Attributes:
        pruner: the rule.
        study: of the trials, where the values at rungs are kept.
        asked: returns the trials whose jobs are being run.
        refill: returns further jobs, after being told how some have ended.
    """

    pruner: Pruner
    study: Study
    asked: Callable[[], Sequence[Asked]]
    refill: Callable[[Sequence[JobResult]], Sequence[Job]]

    def rungs(self, steps: int) -> Sequence[int]:
        """Return the steps, in order, at which jobs may be pruned: the same for all jobs of the study."""
        return self.pruner.rungs(self._steps(steps))

    def _steps(self, steps: int) -> int:
        study = self.study.study
        if STEPS not in study.user_attrs:
            study.set_user_attr(STEPS, max(steps, _most_steps(self.study)))
        return int(study.user_attrs[STEPS])

    def pruned(
        self, step: int, metrics: Mapping[Job, Mapping[str, float]], ended: Sequence[JobResult]
    ) -> Collection[Job]:
        """Return which of the jobs with these results end at a rung; a trial ends with all its jobs."""
        texts = {job.overrides: values for job, values in metrics.items()}
        results = {one.job.overrides: one for one in ended}
        asked = {one.number: one for one in self.asked() if one.trial is not None}
        known = {trial.number: trial for trial in self.study.study.get_trials(deepcopy=False)}
        waiting: dict[int, float] = {}
        others: dict[int, tuple[float, bool]] = {}
        for number, trial in known.items():
            jobs = asked[number].jobs if number in asked else ()
            if any(job.overrides in texts for job in jobs):
                waiting[number] = self._score(jobs, texts, results)
                self._report(asked[number], step, waiting[number], trial)
            elif (found := self._score_at(trial, step, [results.get(job.overrides) for job in jobs])) is not None:
                others[number] = found
        scores = Scores(
            waiting,
            {number: score for number, (score, has_reached) in others.items() if has_reached},
            {number: score for number, (score, has_reached) in others.items() if not has_reached},
        )
        pruned = self.pruner.pruned(step, scores, self._steps(step))
        ends = {job.overrides for number in pruned for job in asked[number].jobs}
        return [job for job in metrics if job.overrides in ends]

    def more(self, ended: Sequence[JobResult]) -> Sequence[Job]:
        """Return further jobs to run at once, since others have ended."""
        return self.refill(ended)

    def _score(
        self,
        jobs: Sequence[Job],
        metrics: Mapping[tuple[str, ...], Mapping[str, float]],
        results: Mapping[tuple[str, ...], JobResult],
    ) -> float:
        """Return the score so far of a trial; infinity where a job of it has diverged, failed or no result yet."""
        metric, values = self.study.settings.metrics[0], []
        for job in jobs:
            result = results.get(job.overrides)
            if job.overrides in metrics:
                values.append(metrics[job.overrides].get(metric, math.nan))
            elif result is None or result.has_diverged or result.status in FAILED:
                values.append(math.nan)
            else:
                values.append(final_value(result, metric))
        return (
            self.study.settings.sign * combined(values, self.study.settings)
            if all(map(math.isfinite, values))
            else math.inf
        )

    def _report(self, asked: Asked, step: int, score: float, known: FrozenTrial) -> None:
        """Keep a trial's value at a rung in the study, unless an earlier process has."""
        assert asked.trial is not None
        if math.isfinite(score) and step not in known.intermediate_values:
            asked.trial.report(self.study.settings.sign * score, step)

    def _score_at(
        self, trial: FrozenTrial, step: int, results: Sequence[JobResult | None]
    ) -> tuple[float, bool] | None:
        """Return the score of a trial that does not wait at a rung, and whether it has come as far.

        A trial that has ended before the rung counts with its last value as one that has come as far, and one that was
        pruned before with its last value as one that has not. None stands for a trial that does not count: one that has
        diverged or failed, or that another process runs and has not brought as far.

        Args:
            trial: of the study.
            step: of the rung.
            results: of its jobs, where it is not told yet.
        """
        if step in trial.intermediate_values:
            return self.study.settings.sign * trial.intermediate_values[step], True
        ended = [one for one in results if one is not None]
        is_lost = any(one.has_diverged or one.status in FAILED for one in ended)
        if is_lost or DIVERGED in trial.user_attrs or trial.state == TrialState.FAIL:
            return None
        if trial.state == TrialState.PRUNED or any(one.is_pruned for one in ended):
            before = [at for at in trial.intermediate_values if at < step]
            return (self.study.settings.sign * trial.intermediate_values[max(before)], False) if before else None
        if trial.state == TrialState.COMPLETE:
            return self.study.settings.sign * trial.values[0], True
        if ended and len(ended) == len(results):
            values = [final_value(one, self.study.settings.metrics[0]) for one in ended]
            return self.study.settings.sign * combined(values, self.study.settings), True
        return None


def _most_steps(study: Study) -> int:
    """Return the largest number of steps that a study may choose; 0 where it chooses none."""
    space = study.distributions.get("steps")
    if isinstance(space, IntDistribution):
        return space.high
    if isinstance(space, CategoricalDistribution):
        return max((choice for choice in space.choices if isinstance(choice, int)), default=0)
    return 0
