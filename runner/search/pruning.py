"""Pruning the trials of a study at rungs."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from runner.search.asked import Asked, combined, final_value
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
        waiting: dict[int, float] = {}
        reached: dict[int, float] = {}
        jobs: dict[int, tuple[Job, ...]] = {}
        texts = {job.overrides: values for job, values in metrics.items()}
        results = {one.job.overrides: one for one in ended}
        known = {trial.number: trial for trial in self.study.study.get_trials(deepcopy=False)}
        for asked in self.asked():
            if asked.trial is None:
                continue
            number = asked.number
            score = self._score(asked.jobs, texts, results)
            if any(job.overrides in texts for job in asked.jobs):
                waiting[number], jobs[number] = score, asked.jobs
                self._report(asked, step, score, known[number])
            elif math.isfinite(score):
                reached[number] = score
        running = {asked.number for asked in self.asked() if asked.trial is not None}
        others = [trial for number, trial in known.items() if number not in running]
        scores = Scores(waiting, reached | dict(self._reached(others, step)), dict(self._earlier(others, step)))
        pruned = self.pruner.pruned(step, scores, self._steps(step))
        ends = {job.overrides for number in pruned for job in jobs[number]}
        return [job for job in metrics if job.overrides in ends]

    def more(self, ended: Sequence[JobResult]) -> Sequence[Job]:
        """Return further jobs to run at once, since others have ended."""
        return self.refill(ended)

    @property
    def _sign(self) -> float:
        return 1.0 if self.study.settings.directions[0] == "minimize" else -1.0

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
        return self._sign * combined(values, self.study.settings) if all(map(math.isfinite, values)) else math.inf

    def _report(self, asked: Asked, step: int, score: float, known: FrozenTrial) -> None:
        """Keep a trial's value at a rung in the study, unless an earlier process has."""
        assert asked.trial is not None
        if math.isfinite(score) and step not in known.intermediate_values:
            asked.trial.report(self._sign * score, step)

    def _reached(self, trials: Sequence[FrozenTrial], step: int) -> Iterator[tuple[int, float]]:
        """Yield the scores of trials that came to a rung, or had ended with their last value before."""
        for trial in trials:
            if step in trial.intermediate_values:
                yield trial.number, self._sign * trial.intermediate_values[step]
            elif trial.state == TrialState.COMPLETE:
                yield trial.number, self._sign * trial.values[0]

    def _earlier(self, trials: Sequence[FrozenTrial], step: int) -> Iterator[tuple[int, float]]:
        """Yield the last scores of trials that were pruned before a rung."""
        for trial in trials:
            if trial.state == TrialState.PRUNED and trial.last_step is not None and trial.last_step < step:
                yield trial.number, self._sign * trial.intermediate_values[trial.last_step]


def _most_steps(study: Study) -> int:
    """Return the largest number of steps that a study may choose; 0 where it chooses none."""
    space = study.distributions.get("steps")
    if isinstance(space, IntDistribution):
        return space.high
    if isinstance(space, CategoricalDistribution):
        return max((choice for choice in space.choices if isinstance(choice, int)), default=0)
    return 0
