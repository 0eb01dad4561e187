"""Which values a key takes, in words and as a test, and the lines that tell a wrong one."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from runner.messages.errors import nearest
from runner.messages.redaction import shown_tree, without_noted

Tree: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """Which values a key takes, in words and as a test.

    Attributes:
        names: the names among the values, of which the nearest to a wrong one is told.
        at_most: the largest whole number, told where a larger one is given.
    """

    allowed: str
    accepts: Callable[[object], bool]
    names: tuple[str, ...] = ()
    at_most: int | None = None

    def or_null(self, meaning: str) -> "Rule":
        """Return the rule that also takes null, with what null means."""
        return Rule(
            f"{self.allowed}, or null for {meaning}",
            lambda value: value is None or self.accepts(value),
            self.names,
            self.at_most,
        )


def is_whole(value: object) -> bool:
    """Tell whether `value` is an integer, which a bool is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_finite(value: object) -> bool:
    """Tell whether `value` is a finite number, which a bool is not."""
    if is_whole(value):
        return abs(value) < 1e308  # type: ignore[arg-type]  # is_whole has shown it to be an int
    return isinstance(value, float) and math.isfinite(value)


def is_text(value: object) -> bool:
    """Tell whether `value` is text that shows something."""
    return isinstance(value, str) and value.strip() != ""


def is_point(value: object) -> bool:
    """Tell whether `value` is a finite number or a list of them that is not empty."""
    if isinstance(value, list):
        return len(value) > 0 and all(map(is_finite, value))
    return is_finite(value)


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float | bool)


def one_of(*names: str) -> Rule:
    """Return the rule that takes these names."""
    return Rule(" or ".join([", ".join(names[:-1]), names[-1]]), names.__contains__, names)


def at_least(smallest: int, what: str, at_most: int = 2**63 - 1) -> Rule:
    """Return the rule that takes integers from `smallest` on, `what` in words, up to a limit that few ever meet."""
    return Rule(
        f"{what} of at least {smallest}",
        lambda value: is_whole(value) and smallest <= value <= at_most,  # type: ignore[operator]
        at_most=at_most,
    )


def is_name(value: object) -> bool:
    """Tell whether `value` can name something in a formula."""
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", value) is not None


def wrong_value(path: str, value: object, rule: Rule) -> str:
    """Return the line for a value that its key does not take."""
    is_too_large = rule.at_most is not None and is_whole(value) and value > rule.at_most  # type: ignore[operator]
    limit = f"; at most {rule.at_most:,}" if is_too_large else ""
    return f"{path}={shown(shown_tree(value, path))}: expected {rule.allowed}{limit}{nearest(str(value), rule.names)}"


def unknown_key(path: str, value: object, known: Sequence[str]) -> str:
    """Return the line for a key that nothing reads."""
    nothing = f"{path.rpartition('.')[0]} has no keys"
    allowed = f"expected one of {', '.join(known)}{nearest(path, known)}" if known else nothing
    return f"{path}={shown(shown_tree(value, path))}: unknown key, {allowed}"


def shown(value: object, limit: int | None = 120) -> str:
    """Return a value as one would type it in an override, cut when it is longer than `limit`."""
    if value is None or isinstance(value, bool):
        text = "null" if value is None else str(value).lower()
    elif isinstance(value, list):
        text = f"[{','.join(shown(inner, limit) for inner in value)}]"
    elif isinstance(value, dict):
        text = f"{{{','.join(f'{key}:{shown(inner, limit)}' for key, inner in value.items())}}}"
    else:
        text = "''" if value == "" else str(value)
    text = " ".join(text.split()) if text.strip() else repr(value)
    text = text if limit is None else without_noted(text)  # which could not be found in a part of it
    return text if limit is None or len(text) <= limit else f"{text[: limit - 3]}..."


COUNT = at_least(1, "a whole number")
POSITIVE = Rule("a finite number above 0", lambda value: is_finite(value) and value > 0)  # type: ignore[operator]
# Names such as nan and inf are read as numbers, too.
TEXT = Rule("text that is not empty", lambda value: is_text(value) or is_finite(value) or isinstance(value, float))
POINT = Rule("a finite number or a list of them", is_point)
NOT_NEGATIVE = Rule("a finite number of at least 0", lambda value: is_finite(value) and value >= 0)  # type: ignore[operator]
FLAG = Rule("true or false", lambda value: isinstance(value, bool))
