"""linspace, logspace and geomspace as functions in overrides, in addition to Hydra's choice and range.

The points are computed in decimal from the numbers as typed and rounded once: `linspace(0,1,11)` has 0.3 and
`geomspace(1,256,9)` has 2.0. They are always floats; `int(linspace(10,100,10))` makes them integers.
"""

import inspect
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any, NoReturn

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser

from runner.composition.number_ranges import FUNCTIONS, PRECISE, Numbers, decimal
from runner.config.hydra_private import Functions, original_functions, use_override_functions
from runner.messages.errors import UserError
from runner.messages.ranges import is_finite, is_whole, shown


def linspace(start: Any, stop: Any, n: Any) -> Numbers:
    """Sweep over n evenly spaced numbers, both ends included.

    Raises:
        UserError: an end is not a finite number, or n is not an integer of at least 2.
    """
    _check("linspace", start, stop, n)
    return Numbers(n, _evenly(start, stop, n), start, stop)


def logspace(start: Any, stop: Any, n: Any) -> Numbers:
    """Sweep over n powers of ten with evenly spaced exponents.

    Raises:
        UserError: as for linspace, or a power is larger than a float can be.
    """
    _check("logspace", start, stop, n)
    exponent = _evenly(start, stop, n)
    try:
        first, last = 10.0 ** float(start), 10.0 ** float(stop)
    except OverflowError:
        raise UserError(f"logspace({start},{stop},{n}): expected exponents of ten below 309") from None
    return Numbers(n, lambda place: 10.0 ** exponent(place), first, last)


def geomspace(start: Any, stop: Any, n: Any) -> Numbers:
    """Sweep over n numbers with equal ratios, both ends included.

    Raises:
        UserError: as for linspace, or the ends are not both above or both below 0.
    """
    _check("geomspace", start, stop, n)
    if not (start > 0 < stop or start < 0 > stop):
        raise UserError(f"geomspace({start},{stop},{n}): expected both ends above 0 or both below 0")
    first, last = decimal(start), decimal(stop)
    with localcontext(PRECISE):
        ratio = (last / first) ** (1 / Decimal(n - 1))

    def at(place: int) -> float:
        if place in (0, n - 1):
            return float(start if place == 0 else stop)
        with localcontext(PRECISE):
            return float(first * ratio**place)

    return Numbers(n, at, start, stop)


def zipped(**lists: Any) -> NoReturn:
    """Refuse `zip(...)`, as later versions of Hydra may write it.

    Raises:
        UserError: always, with the spelling to use here.
    """
    given = ",".join(f"{key}={shown(values)}" for key, values in lists.items())
    swept = " ".join(f"{key}={','.join(map(shown, _listed(values)))}" for key, values in lists.items())
    raise UserError(f"zip({given}): keys that move together are written {swept} zip=[{','.join(lists)}]")


def _listed(values: Any) -> list[Any]:
    return values if isinstance(values, list) else [values]


def parser(loader: ConfigLoader | None = None) -> OverridesParser:
    """Return a parser of overrides that may call the functions."""
    return OverridesParser(_functions(), loader)


def register() -> None:
    """Let every parser of overrides that Hydra creates in this process know the functions, for other sweepers."""
    use_override_functions(_functions)


def _functions() -> Functions:
    functions = original_functions()
    for function in (linspace, logspace, geomspace):
        functions.register(function.__name__, function)
    functions.register("zip", zipped)
    for name, function in FUNCTIONS.items():
        functions.definitions[name] = inspect.signature(function)
        functions.functions[name] = function
    return functions


def _check(name: str, start: object, stop: object, n: object) -> None:
    call = f"{name}({','.join(shown(value) for value in (start, stop, n))})"
    if not (is_finite(start) and is_finite(stop)):
        raise UserError(f"{call}: expected finite numbers as both ends")
    if not (is_whole(n) and n >= 2):  # type: ignore[operator]  # is_whole has shown it to be an int
        raise UserError(f"{call}: expected a whole number of points, at least 2")


def _evenly(start: float, stop: float, n: int) -> Callable[[int], float]:
    """Return a function from an index to one of n evenly spaced numbers; both ends are exact."""
    first, last = decimal(start), decimal(stop)
    with localcontext(PRECISE):
        distance = last - first

    def at(place: int) -> float:
        if place in (0, n - 1):
            return float(start if place == 0 else stop)
        with localcontext(PRECISE):
            return float(first + distance * place / (n - 1))

    return at
