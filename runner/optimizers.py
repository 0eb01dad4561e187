"""Update rules: pure functions on `(runs, dim)` weights, hyper-parameters of shape `(runs, 1)`.

To add one, write its init and update, enter them in RULES and give it a file in conf/optimizer/.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from runner.registry import check_arguments, look_up

State = tuple[Tensor, ...]


@dataclass(frozen=True)
class Rule:
    """An update rule: `init(weight) -> state`; `update(weight, gradient, state, *, lr, ...) -> (weight, state)`."""

    init: Callable[[Tensor], State]
    update: Callable[..., tuple[Tensor, State]]


def no_state(weight: Tensor) -> State:
    """Return the state of a rule that keeps none."""
    return ()


def gd(weight: Tensor, gradient: Tensor, state: State, *, lr: Tensor) -> tuple[Tensor, State]:
    """Return `weight - lr * gradient`: gradient descent, the seed's rule."""
    return weight - lr * gradient, state


RULES: dict[str, Rule] = {
    "gd": Rule(no_state, gd),
}


def rule_of(settings: Mapping[str, Any]) -> Rule:
    """Return the update rule that the config group names.

    Raises:
        UserError: an unknown name or hyper-parameter.
    """
    rule = look_up(RULES, settings["name"], "optimizer.name")
    check_arguments(rule.update, {"lr": None} | hyper_parameters_in(settings), "optimizer")
    return rule


def hyper_parameters_in(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyper-parameters that the config group holds."""
    return {key: value for key, value in settings.items() if key != "name"}

