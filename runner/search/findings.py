"""What a search has found: its history, its best trial, the importance of what it chooses, its trials by state."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from runner.report import search as names
from runner.report.search import BEST, BETWEEN, IMPORTANCE, VALUE
from runner.search.settings import SearchSettings
from runner.sweeps.plan import Point

# A tag of a run: the number of its trial.
TRIAL = "runner.trial"
# Attribute of a trial of which a job has diverged.
DIVERGED = "diverged"
# Complete trials from which importances are computed, and how many of the best are compared with all.
FEWEST, TOP = 20, 5
TOP_SHARE = 0.1
SHOWN_OF_FRONT = 20


@dataclass(frozen=True)
class Importances:
    """How much each key matters for a trial to be among the best.

    Attributes:
        shares: by key, the largest first, with the sum 1; empty where there are none.
        reason: why there are none.
    """

    shares: Mapping[str, float]
    reason: str = ""

    def __str__(self) -> str:
        return ", ".join(f"{key} {share:.3g}" for key, share in self.shares.items()) or f"none: {self.reason}"


def counts(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """Return the number of trials by state; unfinished ones run elsewhere, or were left by a process that ended."""
    states = [trial.state for trial in trials]
    return {
        "complete": states.count(TrialState.COMPLETE),
        "pruned": states.count(TrialState.PRUNED),
        "failed": states.count(TrialState.FAIL),
        "unfinished": states.count(TrialState.RUNNING),
    }


def sentence(trials: Sequence[FrozenTrial]) -> str:
    """Return how many trials there are, by state."""
    found = counts(trials)
    shown = [f"{many:,} {state}" for state, many in found.items() if many or state in ("complete", "failed")]
    total, lost = sum(found.values()), diverged(trials)
    also = f"; {lost:,} of them diverged" if lost else ""
    return f"{total:,} trial{'s' if total != 1 else ''}: {', '.join(shown)}{also}"


def diverged(trials: Sequence[FrozenTrial]) -> int:
    """Return the number of trials of which a job has diverged."""
    return sum(DIVERGED in trial.user_attrs for trial in trials)


def history(trials: Sequence[FrozenTrial], settings: SearchSettings) -> Iterator[Point]:
    """Yield the values of complete trials, and with one metric the best value up to then, in the order of their ends.

    Each time that it is called for a study, a trial has the same point.
    """
    complete = [one for one in trials if one.state == TrialState.COMPLETE and one.datetime_complete is not None]
    best = math.nan
    better = min if settings.directions[0] == "minimize" else max
    for trial in sorted(complete, key=lambda one: (one.datetime_complete, one.number)):
        if len(settings.metrics) > 1:
            values = {f"{VALUE}/{key}": value for key, value in zip(settings.metrics, trial.values, strict=True)}
        else:
            best = trial.values[0] if math.isnan(best) else better(best, trial.values[0])
            values = {VALUE: trial.values[0], BEST: best}
        yield Point(trial.number, _ended_ms(trial), values)


def _ended_ms(trial: FrozenTrial) -> int:
    assert trial.datetime_complete is not None
    return int(trial.datetime_complete.timestamp() * 1000)


def importances(study: optuna.Study) -> Importances:
    """Return importances by PED-ANOVA, which needs no further package; of several metrics, for the Pareto front."""
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    keys = {key for trial in complete for key in trial.params}
    if len(complete) < FEWEST:
        return Importances({}, f"{len(complete):,} complete trials, expected at least {FEWEST}")
    if len(keys) < 2:
        return Importances({}, "the search chooses one key only")
    from optuna.importance import PedAnovaImportanceEvaluator  # which imports scikit-learn

    evaluator = PedAnovaImportanceEvaluator(target_quantile=max(TOP_SHARE, TOP / len(complete)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = evaluator.evaluate(study)
    total = sum(found.values())
    if not 0 < total < math.inf:
        return Importances({}, "the values of the trials do not differ enough")
    return Importances({key: value / total for key, value in found.items()})


def importance_point(trials: Sequence[FrozenTrial], found: Importances) -> Iterator[Point]:
    """Yield the importances as metrics; their step is the number of trials that are complete."""
    if found.shares:
        ended = [_ended_ms(trial) for trial in trials if trial.state == TrialState.COMPLETE]
        yield Point(len(ended), max(ended), {f"{IMPORTANCE}{key}": share for key, share in found.shares.items()})


def best_trials(study: optuna.Study, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the best trial; of several metrics the Pareto front; empty where no trial is complete."""
    if not any(trial.state == TrialState.COMPLETE for trial in trials):
        return []
    return sorted(study.best_trials, key=lambda one: one.number) if len(study.directions) > 1 else [study.best_trial]


def described(trial: FrozenTrial, settings: SearchSettings) -> tuple[str, str]:
    """Return what a trial chose, and its values."""
    values = zip(settings.metrics, trial.values, strict=True)
    chosen = " ".join(f"{key}={digits(value)}" for key, value in trial.params.items())
    return chosen, " ".join(f"{key} {value:.6g}" for key, value in values)


def digits(value: Any) -> str:
    """Return a value with few digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def tags_of(
    trials: Sequence[FrozenTrial], best: Sequence[FrozenTrial], settings: SearchSettings, place: str, found: Importances
) -> dict[str, str]:
    """Return the tags of the parent run."""
    numbers = counts(trials)
    states = {f"{names.STATES}{state}": f"{many}" for state, many in numbers.items()}
    tags = states | {
        "diverged_trials": f"{diverged(trials)}",
        "trials": f"{sum(numbers.values())}",
        names.STUDY: place,
        names.SAMPLER: str(settings.sampler["name"]),
        names.METRIC: BETWEEN.join(settings.metrics),
        names.DIRECTION: BETWEEN.join(settings.directions),
        names.REMARK: str(found),
    }
    if len(settings.metrics) > 1:
        return tags | {"search.pareto_front": _numbers(best)}
    for trial in best:
        tags |= {names.BEST_TRIAL: f"{trial.number}", names.BEST_VALUE: repr(trial.values[0])}
        tags |= {f"best.{key}": str(value) for key, value in trial.params.items()}
    return tags


def sentences(
    trials: Sequence[FrozenTrial], best: Sequence[FrozenTrial], settings: SearchSettings, found: Importances
) -> list[str]:
    """Return what the description of the parent run says of the search."""
    lines = [f"Search: {sentence(trials)}."]
    if best and len(settings.metrics) > 1:
        lines.append(f"Pareto front: trials {_numbers(best)}.")
    elif best:
        chosen, values = described(best[0], settings)
        lines.append(f"Best trial {best[0].number}: {chosen}, {values}.")
    return [*lines, f"Importances (PED-ANOVA): {found}."]


def _numbers(trials: Sequence[FrozenTrial]) -> str:
    more = len(trials) - SHOWN_OF_FRONT
    shown = ", ".join(str(trial.number) for trial in trials[:SHOWN_OF_FRONT])
    return f"{shown} and {more:,} more" if more > 0 else shown
