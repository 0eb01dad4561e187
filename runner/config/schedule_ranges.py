"""Which values the arguments of a learning-rate schedule take, and how they must fit the run; imports no torch.

Torch's schedulers continue past their end without a warning, each in its own way. Here a schedule that does not fit
the run is refused.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from runner.config.direction import Direction
from runner.messages.ranges import (
    COUNT,
    FLAG,
    NOT_NEGATIVE,
    POSITIVE,
    Constraint,
    Tree,
    at_least,
    is_whole,
    key_problems,
    number,
    one_of,
    shown,
)


def _is_rising(value: object) -> bool:
    if not isinstance(value, list) or not value or not all(map(is_whole, value)):
        return False
    return value[0] >= 1 and all(here < following for here, following in itertools.pairwise(value))


COUNT_FROM_0 = at_least(0, "a whole number")
FRACTION = number("a number from 0 to 1", lambda value: 0 <= value <= 1)
RUN_LENGTH = COUNT.or_null("the run's steps after warm-up")
RISING = Constraint("a list of rising whole numbers from 1 on, as in [500,750]", _is_rising)

WARMUP: dict[str, Constraint] = {
    "warmup_steps": COUNT_FROM_0,
    "warmup_start_factor": number("a number above 0 and at most 1", lambda value: 0 < value <= 1),
}

ARGUMENTS: dict[str, dict[str, Constraint]] = {
    "constant": {},
    "step": {"step_size": COUNT, "gamma": POSITIVE},
    "multistep": {"milestones": RISING, "gamma": POSITIVE},
    "exponential": {"gamma": POSITIVE},
    "polynomial": {"total_iters": RUN_LENGTH, "power": POSITIVE},
    "cosine": {"T_max": RUN_LENGTH, "eta_min": NOT_NEGATIVE},
    "warm_restarts": {"T_0": COUNT, "T_mult": COUNT, "eta_min": NOT_NEGATIVE},
    "one_cycle": {
        "max_lr": POSITIVE.or_null("lr"),
        "total_steps": RUN_LENGTH,
        "pct_start": FRACTION,
        "anneal_strategy": one_of("cos", "linear"),
        "div_factor": POSITIVE,
        "final_div_factor": POSITIVE,
        "three_phase": FLAG,
    },
    "wsd": {
        "num_stable_steps": COUNT_FROM_0.or_null("the run's steps after warm-up that do not decay"),
        "num_decay_steps": COUNT.or_null("a fifth of the run's steps after warm-up, or those that are not stable"),
        "min_lr_ratio": FRACTION,
        "num_cycles": POSITIVE,
        "cooldown_type": one_of("1-sqrt", "cosine", "linear", "1-square"),
    },
    "plateau": {
        "mode": one_of("min", "max").or_null("max where the run maximizes, else min"),
        "factor": number("a number above 0 and below 1", lambda value: 0 < value < 1),
        "patience": COUNT_FROM_0,
        "threshold": NOT_NEGATIVE,
        "threshold_mode": one_of("rel", "abs"),
        "cooldown": COUNT_FROM_0,
        "min_lr": NOT_NEGATIVE,
        "eps": NOT_NEGATIVE,
    },
}


ANY = Constraint("any value", lambda _value: True)
BY_ARGUMENT = {key: rule for rules in ARGUMENTS.values() for key, rule in rules.items()}


def _ranges(settings: Tree) -> dict[str, Constraint]:
    """Return the ranges of a schedule's arguments; where it has none, those of arguments with the same name."""
    arguments = [key for key in settings if key != "name"]
    return ARGUMENTS.get(str(settings.get("name")), {key: BY_ARGUMENT.get(key, ANY) for key in arguments})


@dataclass(frozen=True)
class _Fit:
    """A schedule's arguments, with nulls replaced, and the run that they are for."""

    given: Mapping[str, Any]
    lr: float
    steps: int
    warmup: int

    @property
    def left(self) -> int:
        """The number of steps after warm-up."""
        return self.steps - self.warmup

    @property
    def span(self) -> str:
        """The steps after warm-up, in words."""
        return f"the {self.left} steps after warm-up" if self.warmup else f"the run's {self.steps} steps"

    def __getitem__(self, name: str) -> Any:
        return self.given[name]

    def line(self, name: str, expected: str) -> str:
        return f"schedule.{name}={shown(self.given[name])}: expected {expected}"


Check: TypeAlias = Callable[[_Fit], Iterator[str]]


def schedule_problems(settings: Tree, lr: float, steps: int) -> Iterator[str]:
    """Yield a line for each mistake in a schedule's settings, by themselves or for this run.

    Args:
        settings: the config group, with its name.
        lr: the run's learning rate, known to be above 0.
        steps: the run's length, known to be at least 1.
    """
    arguments = {key: value for key, value in settings.items() if key != "name"}
    mistakes = list(key_problems(arguments, _ranges(settings) | WARMUP, "schedule."))
    yield from mistakes
    if not mistakes:
        yield from _misfits(settings, lr, steps)


def resolved(settings: Tree, lr: float, steps: int, direction: Direction = Direction.DOWN) -> dict[str, Any]:
    """Return the settings with each null replaced by what it means for a run of that rate, length and direction."""
    left = steps - settings["warmup_steps"]
    if settings["name"] == "wsd":
        settings = {**settings, **_phases(settings["num_stable_steps"], settings["num_decay_steps"], left)}
    meant = {"T_max": left, "total_iters": left, "total_steps": left, "max_lr": lr, "mode": direction.value}
    return {key: meant.get(key) if value is None else value for key, value in settings.items()}


def _phases(stable: int | None, decay: int | None, left: int) -> dict[str, int]:
    """Return the lengths of the stable and the decaying phase of `wsd`; null is what the other leaves of the run."""
    if decay is None:
        decay = -(-left // 5) if stable is None else max(1, left - stable)
    return {"num_stable_steps": max(0, left - decay) if stable is None else stable, "num_decay_steps": decay}


def _misfits(settings: Tree, lr: float, steps: int) -> Iterator[str]:
    warmup = settings["warmup_steps"]
    if warmup >= steps:
        yield f"schedule.warmup_steps={warmup}: expected fewer than the run's {steps} steps"
        return
    check = CHECKS.get(settings["name"])
    if check is not None:
        yield from check(_Fit(resolved(settings, lr, steps), lr, steps, warmup))


def _step(fit: _Fit) -> Iterator[str]:
    if fit["step_size"] >= fit.left:
        yield fit.line("step_size", f"fewer than {fit.span}, or the rate never changes")


def _multistep(fit: _Fit) -> Iterator[str]:
    if fit["milestones"][-1] >= fit.left:
        yield fit.line("milestones", f"all below {fit.span}, or the rate does not change there")


def _polynomial(fit: _Fit) -> Iterator[str]:
    if fit["total_iters"] < fit.left - 1:
        yield fit.line("total_iters", f"at least {fit.left - 1} for {fit.span}, or the rate stays at 0")


def _cosine(fit: _Fit) -> Iterator[str]:
    if fit["T_max"] < fit.left:
        yield fit.line("T_max", f"at least {fit.span}, beyond T_max the rate rises again")
    yield from _annealed(fit)


def _annealed(fit: _Fit) -> Iterator[str]:
    if fit["eta_min"] >= fit.lr:
        yield fit.line("eta_min", f"a number below lr={shown(fit.lr)}")


def _one_cycle(fit: _Fit) -> Iterator[str]:
    if fit["total_steps"] < fit.left:
        yield fit.line("total_steps", f"at least {fit.span}, the cycle ends there")
    if fit["pct_start"] * fit["total_steps"] == 1:
        yield fit.line(
            "pct_start", f"a number from 0 to 1 other than 1/{fit['total_steps']}, with which the rise has no steps"
        )


def _wsd(fit: _Fit) -> Iterator[str]:
    stable, decay = fit["num_stable_steps"], fit["num_decay_steps"]
    if stable >= fit.left:
        yield fit.line("num_stable_steps", f"fewer than {fit.span}, or the rate never falls")
    elif stable + decay < fit.left - 1 and fit["min_lr_ratio"] == 0:
        least = fit.left - 1 - stable
        yield fit.line(
            "num_decay_steps", f"at least {least} for {fit.span}, or the rate stays at 0 without min_lr_ratio"
        )


def _plateau(fit: _Fit) -> Iterator[str]:
    if fit["threshold_mode"] == "rel" and fit["threshold"] >= 1:
        yield fit.line("threshold", "a number below 1 with threshold_mode=rel")
    if fit["patience"] > fit.left - 3:
        yield fit.line("patience", f"fewer than {fit.span} less 2, or the rate never changes")
    first_cut = fit.lr - max(fit.lr * fit["factor"], fit["min_lr"])
    if fit["min_lr"] >= fit.lr:
        yield fit.line("min_lr", f"a number below lr={shown(fit.lr)}")
    elif first_cut <= fit["eps"]:
        yield fit.line("eps", f"a number below {first_cut:g}, the first cut of lr={shown(fit.lr)}, or it is never made")


CHECKS: dict[str, Check] = {
    "step": _step,
    "multistep": _multistep,
    "polynomial": _polynomial,
    "cosine": _cosine,
    "warm_restarts": _annealed,
    "one_cycle": _one_cycle,
    "wsd": _wsd,
    "plateau": _plateau,
}
