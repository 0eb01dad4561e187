"""What the YAML file of an objective declares: dimension, default start, bounds and minimum points."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from runner.config.groups import ObjectiveConfig
from runner.formulas.parser import number
from runner.messages.errors import UserError
from runner.messages.ranges import is_finite, shown

Point = tuple[float, ...]


@dataclass(frozen=True)
class Declaration:
    """What an objective declares.

    Attributes:
        dimension: of the weight.
        start: the default start, `dimension` numbers.
        bounds: low and high for each coordinate; empty if not declared.
        minimum_at: the known minimum points, each of `dimension` numbers; empty if unknown.
        minimum: the loss there; None if unknown.
    """

    dimension: int
    start: Point
    bounds: tuple[tuple[float, float], ...]
    minimum_at: tuple[Point, ...]
    minimum: float | None

    @classmethod
    def of(cls, config: ObjectiveConfig, dimension: int, parameters: Mapping[str, Any]) -> Self:
        """Return what the group declares, for the dimension.

        A number may be a formula of the dimension `n`, the coordinate `i` from 1 on, and the objective's parameters.
        A single number applies to all coordinates, and a shorter list is repeated.

        Raises:
            UserError: a value is not a number, or a list does not fit the dimension.
        """
        names = {name: float(value) for name, value in parameters.items() if is_finite(value)} | {"n": float(dimension)}
        minimum, bounds, minimum_at = (config.declared.get(key) for key in ("minimum", "bounds", "minimum_at"))
        return cls(
            dimension=dimension,
            start=point(_cut(config.declared.get("start", 0.0), dimension), dimension, "objective.start", names),
            bounds=() if bounds is None else _bounds(bounds, dimension, names),
            minimum_at=() if minimum_at is None else _points(minimum_at, dimension, names),
            minimum=None if minimum is None else number(minimum, "objective.minimum", names),
        )


def _cut(pattern: Any, dimension: int) -> Any:
    """Return a default start shortened to the dimension."""
    return pattern[:dimension] if isinstance(pattern, list) else pattern


def point(declared: Any, dimension: int, path: str, names: Mapping[str, float] = {}) -> Point:  # only read
    """Return `dimension` numbers: a number is broadcast, a list repeated from its start."""
    pattern = declared if isinstance(declared, list) else [declared]
    if not 0 < len(pattern) <= dimension:
        raise UserError(f"{path}={shown(declared)}: expected 1 to {dimension} numbers, given {len(pattern)}")
    return tuple(
        number(pattern[index % len(pattern)], path, {**names, "i": float(index + 1)}) for index in range(dimension)
    )


def _points(declared: Any, dimension: int, names: Mapping[str, float]) -> tuple[Point, ...]:
    points = declared if _holds_lists(declared) else [declared]
    return tuple(point(item, dimension, "objective.minimum_at", names) for item in points)


def _holds_lists(declared: Any) -> bool:
    return isinstance(declared, list) and any(isinstance(item, list) for item in declared)


def _bounds(declared: Any, dimension: int, names: Mapping[str, float]) -> tuple[tuple[float, float], ...]:
    pairs = declared if _holds_lists(declared) else [declared]
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs) or len(pairs) > dimension:
        raise UserError(f"objective.bounds={shown(declared)}: expected [low, high], or such a pair for each coordinate")
    found = []
    for index in range(dimension):
        low, high = (number(end, "objective.bounds", names) for end in pairs[index % len(pairs)])
        if not low < high:
            raise UserError(f"objective.bounds={shown(declared)}: expected low below high, given {low:g} and {high:g}")
        found.append((low, high))
    return tuple(found)
