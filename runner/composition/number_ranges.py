"""Ranges of numbers for sweeps, which are counted without making the numbers.

Hydra's own ranges add binary floats, so that `range(0.1,0.4,0.1)` has a fourth number. They sort and cast only the
ends, so that `sort(range(1.3,0,-0.5))` and `int(range(0.5,3,0.5))` lose numbers.
"""

import builtins
import copy
from collections.abc import Callable, Iterator
from decimal import ROUND_CEILING, Context, Decimal, localcontext
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, RangeSweep, Sweep

from runner.config.hydra_private import grammar_functions
from runner.messages.errors import UserError
from runner.messages.ranges import is_finite, is_whole, shown

# Far more digits than a float has, so that rounding between the steps has no effect.
PRECISE = Context(prec=60, Emax=10**6, Emin=-(10**6))
# Unless the command line says otherwise.
MOST_JOBS = 1_000_000


class Numbers(RangeSweep):
    """A range for Hydra: `count` rising or falling numbers; `at` returns the one at an index."""

    def __init__(self, count: int, at: Callable[[int], float], first: float, last: float) -> None:
        super().__init__(start=first, stop=last)
        self.count = count
        self.at = at

    def range(self) -> "_Iterable":  # type: ignore[override]  # Hydra iterates over what this returns
        """Return an iterable over the numbers."""
        return _Iterable(self)

    def sorted(self, reverse: bool) -> "Numbers":
        """Return the numbers in rising order, or in falling order."""
        found = copy.copy(self)
        found.shuffle = False
        if self.count > 1 and (self.at(0) > self.at(self.count - 1)) != reverse:
            found.at = lambda place: self.at(self.count - 1 - place)
        return found

    def cast(self, function: Callable[[float], float]) -> "Numbers":
        """Return the numbers, each cast."""
        found = copy.copy(self)
        found.at = lambda place: function(self.at(place))
        return found


class _Iterable:
    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def __iter__(self) -> Iterator[float]:
        return map(self._numbers.at, range(self._numbers.count))


def decimal(number: float) -> Decimal:
    """Return the decimal number that was typed."""
    return Decimal(repr(number))


def ranged(start: Any, stop: Any = None, step: Any = 1) -> Numbers:
    """Sweep over `start + i * step` up to `stop`, which is excluded; one argument is the stop, with start 0.

    Raises:
        UserError: an argument is not a finite number, or the step is 0.
    """
    first, end = (0, start) if stop is None else (start, stop)
    if not all(map(is_finite, (first, end, step))) or step == 0:
        given = ",".join(shown(value) for value in (start, stop, step) if value is not None)
        raise UserError(f"range({given}): expected finite numbers, and a step that is not 0")
    if all(map(is_whole, (first, end, step))):
        return Numbers(max(0, -((first - end) // step)), lambda place: first + step * place, first, end)
    with localcontext(PRECISE):
        begin, distance = decimal(first), decimal(step)
        steps = ((decimal(end) - begin) / distance).to_integral_value(ROUND_CEILING)

    def at(place: int) -> float:
        with localcontext(PRECISE):
            return float(begin + distance * place)

    return Numbers(max(0, int(steps)), at, first, end)


def sort(*args: Any, sweep: Any = None, list: Any = None, reverse: bool = False) -> Any:  # noqa: A002  # Hydra's names
    """Sort values as Hydra does, and ranges by all their numbers."""
    given = sweep if sweep is not None else args[0] if len(args) == 1 else None
    if isinstance(given, Numbers):
        return given.sorted(reverse)
    found = grammar_functions.sort(*args, sweep=sweep, list=list, reverse=reverse)
    if isinstance(found, ChoiceSweep):
        found.shuffle = False
    return found


def choice(*args: Any) -> ChoiceSweep:
    """Sweep over values, which may be null, unlike in Hydra's function."""
    return grammar_functions.choice(*args)


def shuffle(*args: Any, sweep: Any = None, list: Any = None) -> Any:  # noqa: A002
    """Shuffle values, which may be null; a single value stays as it is, where Hydra's function makes it a list."""
    if len(args) == 1 and not isinstance(args[0], Sweep | builtins.list):
        return args[0]
    return grammar_functions.shuffle(*args, sweep=sweep, list=list)


def _casting(hydras: Callable[..., Any], whole: bool) -> Callable[..., Any]:
    """Return one of Hydra's casts, which casts each number of a range and keeps their order."""

    def cast(*args: Any, value: Any = None) -> Any:
        given = value if value is not None else args[0] if len(args) == 1 else None
        if isinstance(given, Numbers) and whole:
            return given.cast(hydras)
        if isinstance(given, Numbers):
            if given.count > MOST_JOBS:
                raise UserError(f"{counted(given.count)} texts: expected at most {MOST_JOBS:,}")
            return ChoiceSweep(list=[hydras(number) for number in given.range()], shuffle=given.shuffle)
        try:
            found = hydras(*args, value=value)
        except AssertionError:
            raise ValueError("expected numbers, texts, true or false") from None
        if isinstance(given, ChoiceSweep):
            found.shuffle = given.shuffle
        return found

    return cast


# These replace Hydra's functions of the same names.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "range": ranged,
    "choice": choice,
    "sort": sort,
    "shuffle": shuffle,
    "int": _casting(grammar_functions.cast_int, whole=True),
    "float": _casting(grammar_functions.cast_float, whole=True),
    "str": _casting(grammar_functions.cast_str, whole=False),
    "bool": _casting(grammar_functions.cast_bool, whole=False),
}


def count_of(override: Override) -> int:
    """Return how many values an override has; 1 where the override alone does not say."""
    value = override.value()
    if isinstance(value, Numbers):
        return value.count
    return len(value.list) if isinstance(value, ChoiceSweep) else 1


def nested(text: str, override: Override) -> str | None:
    """Return the line for an override that nests a sweep where only a value can be."""
    if not _nests(override.value(), outermost=True):
        return None
    return f"{text}: expected a space such as linspace(0,1,5) by itself, not in a list or among other values"


def _nests(value: Any, outermost: bool = False) -> bool:
    if isinstance(value, ChoiceSweep):
        return not outermost or any(map(_nests, value.list))
    if isinstance(value, Sweep | Glob):
        return not outermost
    if isinstance(value, dict):
        return any(map(_nests, value.values()))
    return isinstance(value, list) and any(map(_nests, value))


def counted(number: int) -> str:
    """Return a count as text; very large ones are rounded."""
    return f"{number:,}" if number < 10**15 else f"about 1e{int(number.bit_length() * 0.30103)}"
