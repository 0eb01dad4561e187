"""The search space: what each swept override lets Optuna choose, and the override that a choice makes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from runner.composition.number_ranges import Numbers
from runner.config.hydra_private import raw_override_value
from runner.messages.errors import UserError
from runner.messages.overrides import without_plus
from runner.sweeps.axes import Axis
from runner.sweeps.language import SweepRequest, with_value


@dataclass(frozen=True)
class Dimension:
    """A swept key of a search.

    Attributes:
        axis: where it stands among the axes of the request.
        key: as it was written.
        distribution: what Optuna chooses from.
        override: the override that was written.
        choices: the overrides to choose from; empty for a range of numbers.
    """

    axis: int
    key: str
    distribution: BaseDistribution
    override: Override
    choices: tuple[Override, ...]

    def point(self, value: Any) -> tuple[Override, ...]:
        """Return the override for a value that Optuna chose."""
        if not self.choices:
            return (with_value(self.override, self.override.get_key_element(), value),)
        assert isinstance(self.distribution, CategoricalDistribution)
        return (self.choices[self.distribution.choices.index(value)],)


def dimensions_of(request: SweepRequest, written: Sequence[Override]) -> list[Dimension]:
    """Return what a search chooses, in the order of the axes.

    Args:
        request: the sweep; an interval has two points there.
        written: the overrides as they were parsed.

    Raises:
        UserError: with a line for each space that cannot be searched, or nothing is to be chosen.
    """
    found: list[Dimension] = []
    mistakes: list[str] = []
    for place, axis in enumerate(request.axes):
        override = written[axis.positions[0]]
        if len(axis.points) > 1 or isinstance(raw_override_value(override), IntervalSweep):
            try:
                found.append(_dimension(place, axis, override))
            except UserError as error:
                mistakes += error.lines
    if not found and not mistakes:
        mistakes.append("hydra/sweeper=search: nothing to choose, expected a space such as lr=interval(0.01,1)")
    if mistakes:
        raise UserError(*mistakes)
    return found


def _dimension(place: int, axis: Axis, override: Override) -> Dimension:
    key, value = axis.keys[0], raw_override_value(override)
    if isinstance(value, IntervalSweep):
        return Dimension(place, key, _interval(value, override), override, ())
    if isinstance(value, Numbers) and (whole := _whole_numbers(value)) is not None:
        return Dimension(place, key, whole, override, ())
    choices = tuple(point[0] for point in axis.points)
    values = [_choice(choice) for choice in choices]
    if len(set(map(repr, values))) < len(values):
        raise UserError(f"{override.input_line}: expected different values")
    return Dimension(place, key, CategoricalDistribution(values), override, choices)


def _interval(value: IntervalSweep, override: Override) -> BaseDistribution:
    low, high, is_log = value.start, value.end, "log" in value.tags
    text = override.input_line
    assert low is not None
    assert high is not None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{text}: expected two finite numbers, the lower first")
    if is_log and low <= 0:
        raise UserError(f"{text}: expected numbers above 0 for a logarithmic interval")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=is_log)
    return FloatDistribution(low, high, log=is_log)


def _whole_numbers(value: Numbers) -> IntDistribution | None:
    """Return the range of evenly spaced whole numbers; None for other numbers."""
    if value.count < 2:
        return None
    first, second, last = (value.at(place) for place in (0, 1, value.count - 1))
    if not all(isinstance(one, int) for one in (first, second, last)) or value.shuffle:
        return None
    step = int(second - first)
    is_even = step > 0 and first + step * (value.count - 1) == last
    return IntDistribution(int(first), int(last), step=step) if is_even else None


def _choice(override: Override) -> Any:
    """Return what stands for a choice in a study: a number, flag, text or null, else the value as written."""
    value = override.value()
    if value is None or isinstance(value, bool | int | float):
        return value
    return without_plus(override.input_line or "").partition("=")[2]
