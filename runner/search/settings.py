"""The settings of a search, as `hydra.sweeper` gives them; imports no Optuna."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.messages.errors import UserError
from runner.messages.ranges import (
    COUNT,
    FLAG,
    POSITIVE,
    Constraint,
    at_least,
    key_problems,
    number,
    one_of,
    unknown_key,
)
from runner.search.pruners import Pruner, pruner_of

SAMPLERS = ("random", "qmc", "tpe", "cmaes", "gp", "grid")
PATH = "hydra.sweeper."
DIRECTIONS = ("minimize", "maximize")
WORST, FAILED = "worst", "failed"
MEANS = ("mean", "median")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _are_all(value: object, allowed: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(allowed, value))


TEXT = Constraint("a text", _is_text)
# It may become the name of a file.
NAME = Constraint(
    "letters, digits, - and _", lambda value: isinstance(value, str) and re.fullmatch(r"[\w-]+", value) is not None
)
METRICS = Constraint(
    "the name of a final result, or a list of them", lambda value: _is_text(value) or _are_all(value, _is_text)
)
WAYS = Constraint(
    "minimize or maximize, or a list of them",
    lambda value: value in DIRECTIONS or _are_all(value, DIRECTIONS.__contains__),
)
CONSTRAINTS = {
    "sampler": Constraint("a sampler, as in hydra/sweeper/sampler=tpe", lambda value: isinstance(value, dict)),
    "pruner": Constraint("a pruner, as in hydra/sweeper/pruner=median", lambda value: isinstance(value, dict)),
    "refill": FLAG,
    "direction": WAYS,
    "n_trials": COUNT,
    "batch_size": COUNT,
    "timeout": POSITIVE.or_null("no limit"),
    "metric": METRICS,
    "repeats_value": one_of(*MEANS),
    "diverged": one_of(WORST, FAILED),
    "max_failure_rate": number("a share from 0 to 1", lambda value: 0 <= value <= 1),
    "storage": TEXT.or_null("a journal in outputs/search"),
    "study_name": NAME.or_null("one made of the overrides"),
    "seed": at_least(0, "a whole number"),
}


@dataclass(frozen=True)
class SearchSettings:
    """How to search.

    Attributes:
        sampler: the name of the sampler, and its own arguments.
        directions: minimize or maximize, one for each metric.
        n_trials: how many trials the study gets.
        batch_size: how many trials are asked for, run and told at once.
        timeout: after how many seconds no more trials are asked for; None for no limit.
        metrics: the final results that are searched by.
        repeats_value: how the results of a trial's seeds become one: their mean or median.
        diverged: whether a diverged trial counts as the worst value so far, or as failed.
        max_failure_rate: the share of failed trials up to which the search does not fail.
        storage: the database of the study; None for a journal file.
        study_name: the study; None for a name made of the overrides.
        seed: of the sampler.
        pruner: decides which trials end early; None for no pruning.
        refill: whether new trials begin as soon as others of a batch have ended.
    """

    sampler: Mapping[str, Any]
    pruner: Pruner | None
    refill: bool
    directions: tuple[str, ...]
    n_trials: int
    batch_size: int
    timeout: float | None
    metrics: tuple[str, ...]
    repeats_value: str
    diverged: str
    max_failure_rate: float
    storage: str | None
    study_name: str | None
    seed: int

    @property
    def sign(self) -> int:
        """What the first metric is multiplied by, so that the lowest is the best: 1 or -1."""
        return 1 if self.directions[0] == "minimize" else -1

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "SearchSettings":
        """Return the settings of a plain tree.

        Raises:
            UserError: with a line for each that is unknown, missing or out of its range.
        """
        paths = [f"{PATH}{key}" for key in CONSTRAINTS]
        problems = [unknown_key(f"{PATH}{key}", given[key], paths) for key in given if key not in CONSTRAINTS]
        problems += key_problems(given, CONSTRAINTS, PATH, tuple(CONSTRAINTS))
        sampler = given.get("sampler")
        if isinstance(sampler, dict) and sampler.get("name") not in SAMPLERS:
            problems.append(f"hydra.sweeper.sampler.name={sampler.get('name')}: expected one of {', '.join(SAMPLERS)}")
        if problems:
            raise UserError(*problems)
        metrics, directions = _as_tuple(given["metric"]), _as_tuple(given["direction"])
        if len(directions) == 1:
            directions *= len(metrics)
        if len(directions) != len(metrics):
            raise UserError(
                f"hydra.sweeper.direction={list(directions)}: expected one direction, or one for each of "
                f"{len(metrics)} metrics"
            )
        pruner = pruner_of(given["pruner"], given["seed"])
        if pruner is not None and len(metrics) > 1:
            raise UserError(
                f"hydra/sweeper/pruner={given['pruner']['name']}: expected one metric, given {len(metrics)}"
            )
        values = {key: value for key, value in given.items() if key not in ("metric", "direction", "pruner")}
        return cls(**values, metrics=metrics, directions=directions, pruner=pruner)


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else (value,)
