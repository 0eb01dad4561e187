"""Rules for pruning: at which steps trials are compared, and which of them end there; imports no Optuna.

All trials that wait at a rung are compared at once, with each other and with those that came as far before.
"""

import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.messages.errors import UserError
from runner.messages.ranges import COUNT, Constraint, at_least, key_problems, number

PATH = "hydra.sweeper.pruner."
# Where no `interval_steps` and no `min_resource` are given.
INTERVALS = 10
HALVINGS = 2


@dataclass(frozen=True)
class Scores:
    """The values of trials by number, at a rung; the lowest is the best. Trials that diverged before are left out.

    Attributes:
        waiting: of the trials that wait at the rung; infinity where one of several seeds has diverged.
        reached: of others that came as far, or had ended with that value before.
        earlier: the last values of others, which were pruned before.
    """

    waiting: Mapping[int, float]
    reached: Mapping[int, float]
    earlier: Mapping[int, float]


class Pruner(ABC):
    """Decides which trials end early."""

    @abstractmethod
    def rungs(self, steps: int) -> Sequence[int]:
        """Return the steps, in order, after which trials of at most so many steps are compared."""

    @abstractmethod
    def pruned(self, step: int, scores: Scores, steps: int) -> set[int]:
        """Return which of the waiting trials end at a rung; the arguments are the rung, and those of `rungs`."""


@dataclass(frozen=True)
class Percentile(Pruner):
    """Keeps the best `percentile` of 100 trials; one that was pruned before counts with its last value.

    With 50 it is the median stopping rule of Golovin et al., "Google Vizier" (2017), for trials that run side by side.

    Attributes:
        n_startup_trials: none is pruned before so many trials have a value.
        n_warmup_steps: none is pruned before so many steps.
        interval_steps: from one rung to the next; None for a tenth of all steps.
    """

    percentile: float
    n_startup_trials: int
    n_warmup_steps: int
    interval_steps: int | None

    def rungs(self, steps: int) -> Sequence[int]:
        """Return every `interval_steps`-th step after the warm-up."""
        interval = self.interval_steps or max(1, steps // INTERVALS)
        return range(max(self.n_warmup_steps, interval), steps, interval)

    def pruned(self, step: int, scores: Scores, steps: int) -> set[int]:
        """Return the waiting trials that are not among the best."""
        parts = (scores.waiting, scores.reached, scores.earlier)
        values = sorted(value for part in parts for value in part.values())
        if len(values) < max(2, self.n_startup_trials):
            return set()
        limit = values[math.floor(self.percentile / 100 * (len(values) - 1))]
        return {trial for trial, value in scores.waiting.items() if value > limit}


@dataclass(frozen=True)
class SuccessiveHalving(Pruner):
    """Lets the best 1 / `reduction_factor` of the trials that reach a rung go on (Jamieson and Talwalkar, 2016).

    Attributes:
        min_resource: the first rung of a `min_early_stopping_rate` of 0; None for so many steps that there are 2 rungs.
        reduction_factor: the ratio of a rung and the one before.
        min_early_stopping_rate: how many rungs are left out at the beginning.
    """

    min_resource: int | None
    reduction_factor: int
    min_early_stopping_rate: int = 0

    def rungs(self, steps: int) -> Sequence[int]:
        """Return the rungs that are used, each at most `steps / reduction_factor`."""
        return self.all_rungs(steps)[self.min_early_stopping_rate :]

    def all_rungs(self, steps: int) -> list[int]:
        """Return the rungs, with those that are left out."""
        rung = self.min_resource or max(1, steps // self.reduction_factor**HALVINGS)
        found = []
        while rung * self.reduction_factor <= steps:
            found.append(rung)
            rung *= self.reduction_factor
        return found

    def pruned(self, step: int, scores: Scores, steps: int) -> set[int]:
        """Return the waiting trials that are not among the best of all that came as far."""
        values = sorted([*scores.waiting.values(), *scores.reached.values()])
        limit = values[max(1, len(values) // self.reduction_factor) - 1]
        return {trial for trial, value in scores.waiting.items() if value > limit}


@dataclass(frozen=True)
class Hyperband(Pruner):
    """Successive halving in brackets, which differ in their first rung (Li et al., 2018).

    A trial's bracket follows from its number and the seed; how many trials a bracket gets, from the paper.

    Attributes:
        min_resource: the first rung of the bracket that prunes the most; `reduction_factor` as in successive halving.
        seed: of the search.
    """

    min_resource: int | None
    reduction_factor: int
    seed: int = 0

    @property
    def _halving(self) -> SuccessiveHalving:
        return SuccessiveHalving(self.min_resource, self.reduction_factor)

    def rungs(self, steps: int) -> Sequence[int]:
        """Return the rungs of all brackets."""
        return self._halving.rungs(steps)

    def pruned(self, step: int, scores: Scores, steps: int) -> set[int]:
        """Return the waiting trials that are not among the best of their bracket."""
        rungs = self._halving.all_rungs(steps)
        level, brackets = rungs.index(step), len(rungs) + 1
        found: set[int] = set()
        for bracket in range(level + 1):

            def of_bracket(values: Mapping[int, float], bracket: int = bracket) -> dict[int, float]:
                return {trial: value for trial, value in values.items() if self.bracket(trial, brackets) == bracket}

            its = Scores(of_bracket(scores.waiting), of_bracket(scores.reached), {})
            if its.waiting:
                found |= self._halving.pruned(step, its, steps)
        return found

    def bracket(self, trial: int, brackets: int) -> int:
        """Return how many rungs a trial leaves out, of so many brackets."""
        halvings = range(brackets - 1, -1, -1)
        sizes = [math.ceil(brackets * self.reduction_factor**s / (s + 1)) for s in halvings]
        place = zlib.crc32(f"{self.seed}/{trial}".encode()) % sum(sizes)
        for bracket, size in enumerate(sizes):
            if place < size:
                return bracket
            place -= size
        raise AssertionError("a trial is in one of the brackets")


RESOURCE = COUNT.or_null("so many steps that there are 2 rungs")
FACTOR = at_least(2, "a whole number")
FROM_ZERO = at_least(0, "a whole number")
EVERY = {
    "n_startup_trials": FROM_ZERO,
    "n_warmup_steps": FROM_ZERO,
    "interval_steps": COUNT.or_null("a tenth of the steps"),
}
PRUNERS: dict[str, tuple[Callable[..., Pruner], dict[str, Constraint]]] = {
    "median": (lambda _seed, **given: Percentile(50.0, **given), EVERY),
    "percentile": (
        lambda _seed, **given: Percentile(**given),
        {"percentile": number("a number from 0 to 100", lambda value: 0 <= value <= 100), **EVERY},
    ),
    "successive_halving": (
        lambda _seed, **given: SuccessiveHalving(**given),
        {"min_resource": RESOURCE, "reduction_factor": FACTOR, "min_early_stopping_rate": FROM_ZERO},
    ),
    "hyperband": (
        lambda seed, **given: Hyperband(**given, seed=seed),
        {"min_resource": RESOURCE, "reduction_factor": FACTOR},
    ),
}
NAMES = ("none", *PRUNERS)


def pruner_of(given: Mapping[str, Any], seed: int) -> Pruner | None:
    """Return the pruner that settings describe; None for the name `none`.

    Raises:
        UserError: with a line for each setting that is unknown, missing or out of its range.
    """
    settings = {key: value for key, value in given.items() if key != "name"}
    name = given.get("name")
    if name not in NAMES:
        raise UserError(f"{PATH}name={name}: expected one of {', '.join(NAMES)}")
    make, constraints = PRUNERS.get(str(name), (None, {}))
    problems = [*key_problems(settings, constraints, PATH)]
    if problems:
        raise UserError(*problems)
    return None if make is None else make(seed, **settings)
