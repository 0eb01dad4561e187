"""The update rules, by the names that configs give them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from runner.optimizers import adam, adaptive, sgd  # noqa: F401  # they enter their rules
from runner.optimizers.rule import RULES, Rule, State
from runner.registry import check_arguments, look_up

OPTIONAL = ("weight_decay", "momentum", "dampening")

__all__ = ["RULES", "Rule", "State", "hyper_parameters", "rule_of"]


def rule_of(settings: Mapping[str, Any]) -> Rule:
    """Return the update rule that the config group names.

    Raises:
        UserError: an unknown name or hyper-parameter.
    """
    rule = look_up(RULES, settings["name"], "optimizer.name")
    given = {key: value for key, value in settings.items() if key != "name"}
    check_arguments(rule.update, {"lr": None} | given, "optimizer")
    return rule


def hyper_parameters(settings: Mapping[str, Any], rows: int, device: torch.device) -> dict[str, Any]:
    """Return the hyper-parameters of the group as update rules take them.

    Numbers become float64 tensors `(rows, 1)`, so that the runs of a batch may differ in them; a list of
    numbers becomes a tuple of such tensors; flags and names, which decide what is computed, stay. What is left
    out of a rule when it is 0 is None then, so that it costs nothing.
    """
    given = {key: value for key, value in settings.items() if key != "name"}
    return {
        key: None if key in OPTIONAL and value == 0 else _per_row(value, rows, device) for key, value in given.items()
    }


def _per_row(value: Any, rows: int, device: torch.device) -> Any:
    if isinstance(value, list):
        return tuple(_per_row(item, rows, device) for item in value)
    if isinstance(value, bool | str) or value is None:
        return value
    return torch.full((rows, 1), value, dtype=torch.float64, device=device)


def learning_rate(lr: float, rows: int, device: torch.device) -> Tensor:
    """Return the learning rate as update rules take it."""
    return torch.full((rows, 1), lr, dtype=torch.float64, device=device)
