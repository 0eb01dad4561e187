"""Which values a key takes, in words and as a test, and the messages for wrong ones."""

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from runner.messages.errors import nearest
from runner.messages.redaction import shown_tree, without_noted

Tree: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Constraint:
    """Which values a key takes, in words and as a test.

    Attributes:
        names: the names among the values; the message for a wrong one suggests the nearest.
        synonyms: names that other programs have for some of them.
        at_most: the largest whole number, which the message names where a larger one is given.
    """

    allowed: str
    accepts: Callable[[object], bool]
    names: tuple[str, ...] = ()
    at_most: int | None = None
    synonyms: Mapping[str, str] = field(default_factory=dict)

    def or_null(self, meaning: str) -> "Constraint":
        """Return the constraint that also takes null, with what null means."""
        allowed = f"{self.allowed}, or null for {meaning}"
        return replace(self, allowed=allowed, accepts=lambda value: value is None or self.accepts(value))

    def hint(self, value: object) -> str:
        """Return `; did you mean 'x'?` for the allowed name closest to a wrong value, or nothing."""
        name, colon, rest = str(value).partition(":")
        meant = self.synonyms.get(name.lower())
        return nearest(str(value), self.names) if meant is None else f"; did you mean '{meant}{colon}{rest}'?"


def is_whole(value: object) -> bool:
    """Return whether `value` is an integer, which a bool is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_finite(value: object) -> bool:
    """Return whether `value` is a finite number, which a bool is not."""
    if is_whole(value):
        return abs(value) < 1e308  # type: ignore[arg-type]  # an int, by is_whole
    return isinstance(value, float) and math.isfinite(value)


def is_text(value: object) -> bool:
    """Return whether `value` is text with a visible character."""
    return isinstance(value, str) and value.strip() != ""


def is_point(value: object) -> bool:
    """Return whether `value` is a finite number or a list of them that is not empty."""
    if isinstance(value, list):
        return len(value) > 0 and all(map(is_finite, value))
    return is_finite(value)


def is_scalar(value: object) -> bool:
    """Return whether `value` is text, a number or a flag."""
    return isinstance(value, str | int | float | bool)


def one_of(*names: str) -> Constraint:
    """Return the constraint that takes these names."""
    return Constraint(" or ".join([", ".join(names[:-1]), names[-1]]), names.__contains__, names)


def at_least(smallest: int, what: str, at_most: int = 2**63 - 1) -> Constraint:
    """Return the constraint that takes integers of at least `smallest`, up to a limit; `what` names them in words."""
    return Constraint(
        f"{what} of at least {smallest}",
        lambda value: is_whole(value) and smallest <= value <= at_most,  # type: ignore[operator]
        at_most=at_most,
    )


def number(allowed: str, accepts: Callable[[float], bool]) -> Constraint:
    """Return the constraint that takes the finite numbers that `accepts` takes, `allowed` in words."""
    return Constraint(allowed, lambda value: is_finite(value) and accepts(value))  # type: ignore[arg-type]


def is_name(value: object) -> bool:
    """Return whether `value` can name something in a formula."""
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", value) is not None


def wrong_value(path: str, value: object, constraint: Constraint) -> str:
    """Return the message for a value that its key does not take."""
    most = constraint.at_most
    is_too_large = most is not None and is_whole(value) and value > most  # type: ignore[operator]
    expected = f"{constraint.allowed}; at most {most:,}" if is_too_large else constraint.allowed
    return f"{path}={shown(shown_tree(value, path))}: expected {expected}{constraint.hint(value)}"


def unknown_key(path: str, value: object, known: Sequence[str]) -> str:
    """Return the message for an unknown key."""
    nothing = f"{path.rpartition('.')[0]} has no keys"
    allowed = f"expected one of {', '.join(known)}{nearest(path, known)}" if known else nothing
    return f"{path}={shown(shown_tree(value, path))}: unknown key, {allowed}"


def key_problems(
    given: Tree, constraints: Mapping[str, Constraint], prefix: str = "", required: Collection[str] | None = None
) -> Iterator[str]:
    """Yield a line for each key of `given` that is unknown, missing or out of its range.

    Args:
        given: the values by key.
        constraints: which values each key takes.
        prefix: put before the keys in the lines, as in `stop.`.
        required: the keys that may not be missing where other keys are allowed; None where `constraints` holds
            all the keys that there are, each of them required.
    """
    if required is None:
        known = [f"{prefix}{name}" for name in constraints]
        for key, value in given.items():
            if key not in constraints:
                yield unknown_key(f"{prefix}{shown(key)}", value, known)
    for key, constraint in constraints.items():
        if key not in given:
            if required is None or key in required:
                yield f"{prefix}{key}: missing, expected {constraint.allowed}"
        elif not constraint.accepts(given[key]):
            yield wrong_value(f"{prefix}{key}", given[key], constraint)


def shown(value: object, limit: int | None = 120) -> str:
    """Return a value as it is typed in an override, shortened to `limit` characters."""
    if value is None or isinstance(value, bool):
        text = "null" if value is None else str(value).lower()
    elif isinstance(value, list):
        text = f"[{','.join(shown(inner, limit) for inner in value)}]"
    elif isinstance(value, dict):
        text = f"{{{','.join(f'{key}:{shown(inner, limit)}' for key, inner in value.items())}}}"
    else:
        text = "''" if value == "" else str(value)
    text = " ".join(text.split()) if text.strip() else repr(value)
    text = (
        text if limit is None else without_noted(text)
    )  # before shortening, since a part of a value would not be found
    return text if limit is None or len(text) <= limit else f"{text[: limit - 3]}..."


COUNT = at_least(1, "a whole number")
POSITIVE = number("a finite number above 0", lambda value: value > 0)
# Names such as nan and inf are read as numbers.
TEXT = Constraint(
    "text that is not empty", lambda value: is_text(value) or is_finite(value) or isinstance(value, float)
)
POINT = Constraint("a finite number or a list of them", is_point)
NOT_NEGATIVE = number("a finite number of at least 0", lambda value: value >= 0)
FLAG = Constraint("true or false", lambda value: isinstance(value, bool))
