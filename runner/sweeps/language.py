"""The overrides of a sweep: which keys vary, over which values, and how they are combined.

This is the language of Hydra's basic sweeper, with more: ranges of numbers (`linspace`, `logspace`), `zip` for keys
that vary together, `repeats` for several seeds, and `where` to select combinations.
"""

import ast
import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    IntervalSweep,
    Override,
    Quote,
    QuotedString,
    Transformer,
)
from hydra.errors import HydraException

from runner.composition.hydra_errors import SWEEP_KEYS, explain
from runner.composition.number_ranges import MOST_JOBS, Numbers, counted, nested
from runner.config.hydra_private import override_with, raw_override_value
from runner.formulas.parser import parse
from runner.messages.errors import UserError
from runner.messages.ranges import is_whole, shown
from runner.sweeps.axes import Axis, add_axis, zipped
from runner.sweeps.condition import Condition

OWN_KEYS = tuple(key.removesuffix("=") for key in SWEEP_KEYS)


@dataclass(frozen=True)
class SweepRequest:
    """A sweep as its overrides describe it.

    Attributes:
        axes: the overrides, in the order given; the last axis varies fastest, an axis with one point does not vary.
        where: selects combinations; None for all.
        repeats: the number of seeds that each combination runs with.
        resume: false, true, or the id of the parent run to continue.
        texts: the overrides as they were written.
        fail_fast: whether the first failure ends the sweep.
    """

    axes: tuple[Axis, ...]
    where: Condition | None
    repeats: int
    resume: str | bool
    texts: tuple[str, ...]
    fail_fast: bool = False

    @property
    def count(self) -> int:
        """The number of jobs, without regard to `where`."""
        return math.prod(len(axis.points) for axis in self.axes) * self.repeats

    def combinations(self) -> Iterator[tuple[tuple[Override, ...], ...]]:
        """Yield every combination of points, one of each axis."""
        return itertools.product(*(axis.points for axis in self.axes))

    def combination(self, number: int) -> tuple[tuple[Override, ...], ...]:
        """Return a combination by its number, in the order of `combinations`."""
        points: list[tuple[Override, ...]] = []
        for axis in reversed(self.axes):
            number, index = divmod(number, len(axis.points))
            points.append(axis.points[index])
        return tuple(reversed(points))

    @functools.cached_property
    def _order(self) -> list[int]:
        positions = [position for axis in self.axes for position in axis.positions]
        return sorted(range(len(positions)), key=positions.__getitem__)

    def in_order(self, combination: Sequence[tuple[Override, ...]]) -> list[Override]:
        """Return the overrides of a combination in the order in which they were given."""
        overrides = list(itertools.chain.from_iterable(combination))
        return [overrides[index] for index in self._order]


def sweep_request(
    arguments: Sequence[str], params: Mapping[str, Any], parser: OverridesParser, is_search: bool = False
) -> SweepRequest:
    """Return the sweep that `hydra.sweeper.params` of the config and overrides describe; overrides take precedence.

    In a search, an interval has its two ends as points, and the number of combinations has no limit.

    Raises:
        UserError: with a line for each mistake.
    """
    written = written_overrides(arguments, params)
    parsed = parsed_overrides(written, parser)
    own = {override.key_or_group: override for override in parsed if override.get_key_element() in OWN_KEYS}
    axes: list[Axis] = []
    mistakes: list[str] = []
    limit = _limit(own.get("max_jobs"))
    for position, (text, override) in enumerate(zip(written, parsed, strict=True)):
        found = list(_mistakes_in(text, override, limit, is_search))
        mistakes += found
        if not found and override.get_key_element() not in OWN_KEYS:
            add_axis(axes, Axis((_key(override),), tuple((one,) for one in _each_value(override)), (position,)))
    if mistakes:
        raise UserError(*mistakes)
    repeats, resume = _repeats(own.get("repeats"), axes), _resume(own.get("resume"))
    axes = zipped(own.get("zip"), axes)
    if not is_search:
        _check_count(axes, repeats, limit)
    texts = tuple(text for text in written if not text.startswith(("resume=", "fail_fast=", "max_jobs=")))
    return SweepRequest(
        tuple(axes), _condition(own.get("where")), repeats, resume, texts, _fail_fast(own.get("fail_fast"))
    )


def parsed_overrides(written: Sequence[str], parser: OverridesParser) -> list[Override]:
    """Return the overrides of these texts.

    Raises:
        UserError: with a line for each text that is not an override.
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


def written_overrides(arguments: Sequence[str], params: Mapping[str, Any]) -> list[str]:
    """Return the overrides of `hydra.sweeper.params`, followed by those given."""
    return [f"{key}={_written(value)}" for key, value in params.items()] + list(arguments)


def _key(override: Override) -> str:
    return override.key_or_group + (f"@{override.package}" if override.package is not None else "")


def _written(value: Any) -> str:
    if isinstance(value, str):
        return value
    return shown(list(value) if isinstance(value, Sequence) else value, limit=None)


def _mistakes_in(text: str, override: Override, limit: int, is_search: bool) -> Iterator[str]:
    value = raw_override_value(override)
    if override.is_sweep_override() and not override.is_discrete_sweep() and not is_search:
        yield f"{text}: expected values, range(a,b) or linspace(a,b,n), a grid cannot use an interval"
    elif (line := nested(text, override)) is not None:
        yield line
    elif override.key_or_group in OWN_KEYS and override.is_sweep_override():
        yield f"{text}: expected one value"
    elif isinstance(value, Numbers) and value.count > limit:
        yield f"{text}: {counted(value.count)} jobs, {_at_most(limit)}"


def _each_value(override: Override) -> list[Override]:
    """Return one override for each value, equal to what Hydra's parser returns for `key=value`."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        is_shuffled = "shuffle(" in (override.input_line or "")  # in a new order each time that the text is parsed
        return [with_value(override, key, raw_override_value(override))] if is_shuffled else [override]
    raw = raw_override_value(override)
    if isinstance(raw, IntervalSweep):
        return [with_value(override, key, end) for end in (raw.start, raw.end)]
    values = list(override.sweep_iterator(transformer=Transformer.identity))
    if not values:
        raise UserError(f"{override.input_line}: expected at least one value")
    return [with_value(override, key, value) for value in values]


def with_value(override: Override, key: str, value: Any) -> Override:
    """Return an override of a key with another value, as if it had been written so."""
    written = override_with(override, _quoted(value)).get_value_element_as_str()
    if isinstance(value, str) and "${" not in value:
        written = written.replace(r"\:", ":")  # Hydra escapes colons, which its parser does not need
    return replace(override_with(override, value), input_line=f"{key}={written}")


def _quoted(value: Any) -> Any:
    """Return a value with quotes around the texts that need them; Hydra's functions remove quotes."""
    if isinstance(value, list):
        return [_quoted(item) for item in value]
    if isinstance(value, dict):
        return {key: _quoted(item) for key, item in value.items()}
    return QuotedString(value, Quote.single) if isinstance(value, str) and _needs_quotes(value) else value


def _needs_quotes(text: str) -> bool:
    """Return whether Hydra's parser would read a text as a value of another type."""
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
        raise UserError(f"repeats={count}: expected without a swept seed, repeats set the seed")
    return int(str(count))


def _limit(override: Override | None) -> int:
    value = MOST_JOBS if override is None else override.value()
    if not is_whole(value) or value < 1:  # type: ignore[operator]  # a whole number by now
        raise UserError(f"max_jobs={shown(value)}: expected a whole number of at least 1")
    return int(str(value))


def _at_most(limit: int) -> str:
    return f"expected at most {limit:,}, or max_jobs=... for more"


def _check_count(axes: Sequence[Axis], repeats: int, limit: int) -> None:
    """Check the number of jobs before any of them is planned.

    Raises:
        UserError: there are too many.
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


def _condition(override: Override | None) -> Condition | None:
    if override is None:
        return None
    text = str(override.value())
    condition = parse(text, path="where", conditions=True)
    if not isinstance(ast.parse(f"({text}\n)", mode="eval").body, ast.Compare | ast.BoolOp | ast.UnaryOp):
        raise UserError(f"where={text}: expected a condition, as in lr*steps <= 10")
    return Condition(condition)
