"""The axes of a grid: overrides that vary, those that replace earlier ones, and those that `zip` joins."""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import Override, OverrideType

from runner.messages.errors import UserError, nearest
from runner.messages.overrides import without_plus
from runner.messages.ranges import shown


@dataclass(frozen=True)
class Axis:
    """Overrides that are set together: each point gives every key a value.

    Attributes:
        positions: the position of each key among all overrides, which are set in this order.
    """

    keys: tuple[str, ...]
    points: tuple[tuple[Override, ...], ...]
    positions: tuple[int, ...] = (0,)

    def overlaps(self, other: "Axis") -> bool:
        """Return whether a key of one is a key of the other, or lies within it."""
        return any(overlap(key, given) for key in self.keys for given in other.keys)

    @functools.cached_property
    def sets_mappings(self) -> bool:
        """Whether a value is a mapping, which is merged into the config."""
        return any(isinstance(override.value(), dict) for point in self.points for override in point)


def overlap(key: str, other: str) -> bool:
    """Return whether a key is another, or lies within it."""
    return key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.")


def add_axis(axes: list[Axis], axis: Axis) -> None:
    """Add an axis, or replace an earlier one that it overrides completely."""
    for index in reversed(range(len(axes))):
        if _replaces(axis, axes[index]):
            axes[index] = axis
            return
        if axis.overlaps(axes[index]):
            break
    axes.append(axis)


def _replaces(axis: Axis, earlier: Axis) -> bool:
    """Return whether a later axis sets the same key as an earlier one, and merges nothing."""
    if axis.keys != earlier.keys or axis.sets_mappings or earlier.sets_mappings:
        return False
    (later, *_), (before, *_) = axis.points[0], earlier.points[0]
    if later.type == OverrideType.CHANGE:
        return before.type == OverrideType.CHANGE
    return later.type == OverrideType.FORCE_ADD and before.type in (OverrideType.CHANGE, OverrideType.FORCE_ADD)


def zipped(override: Override | None, axes: list[Axis]) -> list[Axis]:
    """Return the axes, with those that `zip` names joined at the position of the first of them.

    Raises:
        UserError: they cannot be joined.
    """
    if override is None:
        return axes
    groups = override.value()
    if not isinstance(groups, list) or not groups:
        raise UserError(f"zip={shown(groups)}: expected lists of swept keys, as in zip=[[lr,steps]]")
    if not isinstance(groups[0], list):
        groups = [groups]
    joined = list(axes)
    for keys in groups:
        chosen = _to_zip(keys, joined)
        points = zip(*(axis.points for axis in chosen), strict=True)
        positions = tuple(itertools.chain(*(axis.positions for axis in chosen)))
        names = tuple(itertools.chain(*(axis.keys for axis in chosen)))
        first = Axis(names, tuple(tuple(itertools.chain(*point)) for point in points), positions)
        others = set(map(id, chosen[1:]))
        joined = [first if axis is chosen[0] else axis for axis in joined if id(axis) not in others]
    return joined


def _to_zip(keys: Any, axes: Sequence[Axis]) -> list[Axis]:
    """Return the axes of the keys that are to be joined.

    Raises:
        UserError: they cannot be joined.
    """
    swept = [axis for axis in axes if len(axis.points) > 1]
    names = [key for axis in swept for key in axis.keys]
    if isinstance(keys, list):
        keys = [without_plus(str(key)) for key in keys]
    if not isinstance(keys, list) or len(keys) < 2 or len(set(keys)) < len(keys):
        raise UserError(f"zip=[{shown(keys)}]: expected at least two different keys")
    for key in keys:
        if key not in names:
            raise UserError(f"zip=[{shown(keys)}]: '{key}' is not swept{nearest(key, names)}")
        if names.count(key) > 1:
            raise UserError(f"zip=[{shown(keys)}]: '{key}' is swept {names.count(key)} times, expected once")
    chosen = [next(axis for axis in swept if key in axis.keys) for key in keys]
    lengths = [len(axis.points) for axis in chosen]
    if len(set(lengths)) > 1:
        counts = ", ".join(f"{key} has {length}" for key, length in zip(keys, lengths, strict=True))
        raise UserError(f"zip=[{shown(keys)}]: expected as many values for each, {counts}")
    return chosen
