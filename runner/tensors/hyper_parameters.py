"""Hyper-parameters of a batch's runs as tensors."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from runner.tensors.rows import column


def hyper_parameters(
    settings: Sequence[Mapping[str, Any]],
    rows: int,
    device: torch.device,
    optional: Collection[str] = (),
    fixed: Collection[str] = (),
) -> dict[str, Any]:
    """Return the hyper-parameters of the runs of a batch, one config group per run, as tensors.

    Numbers become float64 columns `(rows, 1)`; a list of numbers becomes a tuple of such columns, shorter lists
    padded with infinity; flags and names are those of the first run, because they are the same in all runs of a batch.

    Args:
        settings: the group of each run.
        rows: how many rows the batch has.
        device: where the tensors go.
        optional: the keys whose value becomes None if it is 0.
        fixed: the keys whose value stays as it is, because it is the same in all runs of a batch.
    """
    return {
        key: _tensors([group[key] for group in settings], rows, device, key in optional, key in fixed)
        for key in settings[0]
        if key != "name"
    }


def _tensors(values: Sequence[Any], rows: int, device: torch.device, is_optional: bool, is_fixed: bool) -> Any:
    if is_optional and values[0] == 0:
        return None
    return values[0] if is_fixed else _per_row(values, rows, device)


def _per_row(values: Sequence[Any], rows: int, device: torch.device) -> Any:
    first = values[0]
    if isinstance(first, list):
        longest = max(map(len, values))
        filled = [[*value, *[math.inf] * (longest - len(value))] for value in values]
        return tuple(_per_row(items, rows, device) for items in zip(*filled, strict=True))
    if isinstance(first, bool | str) or first is None:
        return first
    return column(values, rows, device)


def structure(
    settings: Mapping[str, Any], optional: Collection[str] = (), fixed: Collection[str] = ()
) -> tuple[tuple[str, Any], ...]:
    """Return what must be the same in all runs of a batch: everything of a config group but its numbers.

    The numbers of the keys that are `fixed` must be the same too.
    """
    return tuple(
        (key, _hashable(value) if key in fixed else _structure(value, key in optional))
        for key, value in sorted(settings.items())
    )


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _structure(value: Any, is_optional: bool = False) -> Any:
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, list):
        return tuple(_structure(item) for item in value[:1])
    if isinstance(value, dict):
        return structure(value)
    return (float, is_optional and value == 0)
