"""What a sweep is asked to vary: overrides with many values, and how they combine.

Beside all that Hydra's basic sweeper reads there are the spaces of numbers of `spacing.py`, `zip` for keys that move
together, `repeats` for seeds, and `where` for the combinations that are wanted.
"""

import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    Override,
    OverrideType,
    Quote,
    QuotedString,
    Transformer,
)
from hydra.errors import HydraException

from runner.composition.hydra_errors import SWEEP_KEYS, explain
from runner.composition.number_ranges import MOST_JOBS, Numbers, counted, nested
from runner.config.hydra_private import override_with, raw_override_value
from runner.formulas.parser import Formula, parse
from runner.messages.errors import UserError, nearest
from runner.messages.overrides import without_plus
from runner.messages.ranges import is_whole, shown

OWN_KEYS = tuple(key.removesuffix("=") for key in SWEEP_KEYS)


@dataclass(frozen=True)
class Axis:
    """Overrides that are set together: each point gives every key a value.

    Attributes:
        places: where each key was given among all overrides, which is the order in which they are set.
    """

    keys: tuple[str, ...]
    points: tuple[tuple[Override, ...], ...]
    places: tuple[int, ...] = (0,)

    def overlaps(self, other: "Axis") -> bool:
        """Return whether a key of one is a key of the other, or lies within it."""
        return any(overlap(key, given) for key in self.keys for given in other.keys)

    @functools.cached_property
    def sets_mappings(self) -> bool:
        """Whether a value is a mapping, which is merged into what is there."""
        return any(isinstance(override.value(), dict) for point in self.points for override in point)


@dataclass(frozen=True)
class Condition:
    """Which combinations are wanted: a formula whose variables are keys of the config."""

    formula: Formula

    def holds(self, tree: Mapping[str, Any]) -> bool:
        """Return whether a job of this resolved config is wanted.

        Raises:
            UserError: a key that the config has not, whose value is no number and not compared with a text, or the
                condition has no value.
        """
        values = {key: self._value(tree, key) for key in self.formula.variables}
        try:
            return bool(self.formula.evaluate(values))
        except (ArithmeticError, ValueError, TypeError) as error:  # TypeError: a complex number is compared
            raise UserError(f"where={self.formula.text}: has no value ({error})") from None

    def _value(self, tree: Mapping[str, Any], key: str) -> Any:
        value: Any = tree
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                known = value if isinstance(value, Mapping) else ()
                raise UserError(f"where={self.formula.text}: no key '{key}'{nearest(part, map(str, known))}")
            value = value[part]
        if key in self.formula.texts:
            return value.get("name") if isinstance(value, Mapping) else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"where={self.formula.text}: expected numbers, {key} is {shown(value)}")
        return value


@dataclass(frozen=True)
class SweepRequest:
    """A sweep as it was asked for.

    Attributes:
        axes: what is set, in the order given; the last varies fastest. One of a single point does not vary.
        where: which combinations are wanted; None for all.
        repeats: how many seeds each combination runs with.
        resume: false, true, or the id of the parent run to continue.
        texts: the sweep as it was written.
        fail_fast: whether the first failure ends it.
    """

    axes: tuple[Axis, ...]
    where: Condition | None
    repeats: int
    resume: str | bool
    texts: tuple[str, ...]
    fail_fast: bool = False

    def combinations(self) -> Iterator[tuple[tuple[Override, ...], ...]]:
        """Yield every combination of points, one of each axis."""
        return itertools.product(*(axis.points for axis in self.axes))

    @functools.cached_property
    def _order(self) -> list[int]:
        places = [place for axis in self.axes for place in axis.places]
        return sorted(range(len(places)), key=places.__getitem__)

    def in_order(self, combination: Sequence[tuple[Override, ...]]) -> list[Override]:
        """Return the overrides of a combination in the order in which they were given, as a run sets them."""
        overrides = list(itertools.chain.from_iterable(combination))
        return [overrides[place] for place in self._order]


def sweep_request(arguments: Sequence[str], params: Mapping[str, Any], parser: OverridesParser) -> SweepRequest:
    """Return the sweep that overrides and the config's `hydra.sweeper.params` ask for; the former win.

    Raises:
        UserError: with a line for each mistake.
    """
    written = [f"{key}={_written(value)}" for key, value in params.items()] + list(arguments)
    parsed = _parsed(written, parser)
    own = {override.key_or_group: override for override in parsed if override.get_key_element() in OWN_KEYS}
    axes: list[Axis] = []
    mistakes: list[str] = []
    limit = _limit(own.get("max_jobs"))
    for place, (text, override) in enumerate(zip(written, parsed, strict=True)):
        wrong = list(_misread(text, override, limit))
        mistakes += wrong
        if not wrong and override.get_key_element() not in OWN_KEYS:
            _give(axes, Axis((_key(override),), tuple((one,) for one in _single(override)), (place,)))
    if mistakes:
        raise UserError(*mistakes)
    repeats, resume = _repeats(own.get("repeats"), axes), _resume(own.get("resume"))
    axes = _zipped(own.get("zip"), axes)
    _check_count(axes, repeats, limit)
    texts = tuple(text for text in written if not text.startswith(("resume=", "fail_fast=", "max_jobs=")))
    return SweepRequest(
        tuple(axes), _condition(own.get("where")), repeats, resume, texts, _fail_fast(own.get("fail_fast"))
    )


def _parsed(written: Sequence[str], parser: OverridesParser) -> list[Override]:
    """Return the overrides of these texts.

    Raises:
        UserError: with a line for each that is none.
    """
    parsed: list[Override] = []
    mistakes: list[str] = []
    for text in written:
        try:
            parsed += parser.parse_overrides([text])
        except HydraException as error:
            mistakes.append(explain(error, text, is_sweep=True))
    if mistakes:
        raise UserError(*mistakes)
    return parsed


def _key(override: Override) -> str:
    return override.key_or_group + (f"@{override.package}" if override.package is not None else "")


def overlap(key: str, other: str) -> bool:
    """Return whether a key is another, or lies within it."""
    return key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.")


def _give(axes: list[Axis], axis: Axis) -> None:
    """Add an axis, or put it in the stead of an earlier one of which it leaves nothing."""
    for index in reversed(range(len(axes))):
        if _replaces(axis, axes[index]):
            axes[index] = axis
            return
        if axis.overlaps(axes[index]):
            break
    axes.append(axis)


def _replaces(axis: Axis, earlier: Axis) -> bool:
    """Return whether a run of both would be one of the later alone: it sets the same key, and merges nothing."""
    if axis.keys != earlier.keys or axis.sets_mappings or earlier.sets_mappings:
        return False
    (later, *_), (before, *_) = axis.points[0], earlier.points[0]
    if later.type == OverrideType.CHANGE:
        return before.type == OverrideType.CHANGE
    return later.type == OverrideType.FORCE_ADD and before.type in (OverrideType.CHANGE, OverrideType.FORCE_ADD)


def _written(value: Any) -> str:
    if isinstance(value, str):
        return value
    return shown(list(value) if isinstance(value, Sequence) else value, limit=None)


def _misread(text: str, override: Override, limit: int) -> Iterator[str]:
    value = raw_override_value(override)
    if override.is_sweep_override() and not override.is_discrete_sweep():
        yield f"{text}: expected values, a range or linspace(a,b,n); an interval is for a search"
    elif (line := nested(text, override)) is not None:
        yield line
    elif override.key_or_group in OWN_KEYS and override.is_sweep_override():
        yield f"{text}: expected one value"
    elif isinstance(value, Numbers) and value.count > limit:
        yield f"{text}: {counted(value.count)} jobs, {_at_most(limit)}"


def _single(override: Override) -> list[Override]:
    """Return the override for each of its values, as Hydra's parser returns `key=value` for one."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        is_drawn = "shuffle(" in (override.input_line or "")  # in another order each time that it is read
        return [_of_one(override, key, raw_override_value(override))] if is_drawn else [override]
    values = list(override.sweep_iterator(transformer=Transformer.identity))
    if not values:
        raise UserError(f"{override.input_line}: expected at least one value")
    return [_of_one(override, key, value) for value in values]


def _of_one(override: Override, key: str, value: Any) -> Override:
    written = override_with(override, _quoted(value)).get_value_element_as_str()
    if isinstance(value, str) and "${" not in value:
        written = written.replace(r"\:", ":")  # Hydra escapes more than its parser needs
    return replace(override_with(override, value), input_line=f"{key}={written}")


def _quoted(value: Any) -> Any:
    """Return a value with quotes around its texts that need them, which functions take off."""
    if isinstance(value, list):
        return [_quoted(item) for item in value]
    if isinstance(value, dict):
        return {key: _quoted(item) for key, item in value.items()}
    return QuotedString(value, Quote.single) if isinstance(value, str) and _needs_quotes(value) else value


def _needs_quotes(text: str) -> bool:
    """Return whether Hydra's grammar would read a text that a function has made as something else."""
    if any(quote in text for quote in "'\"") or text.lower() in ("", "null", "true", "false"):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


def _repeats(override: Override | None, axes: Sequence[Axis]) -> int:
    if override is None:
        return 1
    count = override.value()
    if not is_whole(count) or count < 1:  # type: ignore[operator]  # a whole number by now
        raise UserError(f"repeats={shown(count)}: expected a whole number of at least 1")
    if any("seed" in axis.keys and len(axis.points) > 1 for axis in axes):
        raise UserError(f"repeats={count}: expected without a swept seed, which it would set")
    return int(str(count))


def _limit(override: Override | None) -> int:
    value = MOST_JOBS if override is None else override.value()
    if not is_whole(value) or value < 1:  # type: ignore[operator]  # a whole number by now
        raise UserError(f"max_jobs={shown(value)}: expected a whole number of at least 1")
    return int(str(value))


def _at_most(limit: int) -> str:
    return f"expected at most {limit:,}, or max_jobs=... for more"


def _check_count(axes: Sequence[Axis], repeats: int, limit: int) -> None:
    """Check how many jobs there will be, before any of them is made.

    Raises:
        UserError: too many.
    """
    factors = {" and ".join(axis.keys): len(axis.points) for axis in axes if len(axis.points) > 1}
    if repeats > 1:
        factors["repeats"] = repeats
    total = math.prod(factors.values())
    if total > limit:
        product = " x ".join(f"{key} {count:,}" for key, count in factors.items())
        raise UserError(f"{product}: {counted(total)} jobs, {_at_most(limit)}")


def _resume(override: Override | None) -> str | bool:
    value = False if override is None else override.value()
    if isinstance(value, bool) or (isinstance(value, str) and value):
        return value
    raise UserError(f"resume={shown(value)}: expected true, false or the id of a sweep's parent run")


def _fail_fast(override: Override | None) -> bool:
    value = False if override is None else override.value()
    if isinstance(value, bool):
        return value
    raise UserError(f"fail_fast={shown(value)}: expected true or false")


def _zipped(override: Override | None, axes: list[Axis]) -> list[Axis]:
    """Join the axes of keys that move together, at the place of the first of them."""
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
        places = tuple(itertools.chain(*(axis.places for axis in chosen)))
        names = tuple(itertools.chain(*(axis.keys for axis in chosen)))
        first = Axis(names, tuple(tuple(itertools.chain(*point)) for point in points), places)
        others = set(map(id, chosen[1:]))
        joined = [first if axis is chosen[0] else axis for axis in joined if id(axis) not in others]
    return joined


def _to_zip(keys: Any, axes: Sequence[Axis]) -> list[Axis]:
    """Return the axes of keys that are to move together.

    Raises:
        UserError: they cannot.
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


def _condition(override: Override | None) -> Condition | None:
    if override is None:
        return None
    return Condition(parse(str(override.value()), path="where", conditions=True))
