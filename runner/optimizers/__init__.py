"""The update rules, by the names that configs give them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from runner.optimizers import adam, adaptive, sgd  # noqa: F401  # they enter their rules
from runner.optimizers.rule import RULES, Rule, State
from runner.registry import check_arguments, look_up
from runner.rows import column

OPTIONAL = ("weight_decay", "momentum", "dampening")

__all__ = ["RULES", "Rule", "State", "hyper_parameters", "rule_of", "structure"]


def rule_of(settings: Mapping[str, Any]) -> Rule:
    """Return the update rule that the config group names.

    Raises:
        UserError: an unknown name or hyper-parameter.
    """
    rule = look_up(RULES, settings["name"], "optimizer.name")
    given = {key: value for key, value in settings.items() if key != "name"}
    check_arguments(rule.update, {"lr": None} | given, "optimizer")
    return rule


def hyper_parameters(settings: Sequence[Mapping[str, Any]], rows: int, device: torch.device) -> dict[str, Any]:
    """Return the hyper-parameters of the runs of a batch, a group each, as update rules take them.

    Numbers become float64 columns `(rows, 1)`; a list of numbers becomes a tuple of such columns, the shorter
    lists filled up with infinity; flags and names, which decide what is computed, are the first run's: the runs
    of a batch agree in them. What is left out of a rule when it is 0 is None then, so that it costs nothing.
    """
    keys = [key for key in settings[0] if key != "name"]
    return {
        key: None
        if key in OPTIONAL and settings[0][key] == 0
        else _per_row([group[key] for group in settings], rows, device)
        for key in keys
    }


def _per_row(values: Sequence[Any], rows: int, device: torch.device) -> Any:
    first = values[0]
    if isinstance(first, list):
        longest = max(map(len, values))
        filled = [[*value, *[math.inf] * (longest - len(value))] for value in values]
        return tuple(_per_row(items, rows, device) for items in zip(*filled, strict=True))
    if isinstance(first, bool | str) or first is None:
        return first
    return column(values, rows, device)


def structure(settings: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Return what of a group the runs of a batch must agree in: all but its numbers."""
    return tuple((key, _structure(value, key in OPTIONAL)) for key, value in sorted(settings.items()))


def _structure(value: Any, is_optional: bool = False) -> Any:
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, list):
        return tuple(_structure(item) for item in value[:1])
    if isinstance(value, dict):
        return structure(value)
    return (float, is_optional and value == 0)
