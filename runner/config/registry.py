"""Looking up a name of a config in a registry, and its parameters in the function's signature."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from runner.messages.errors import UserError, nearest
from runner.messages.ranges import shown, unknown_key

Entry = TypeVar("Entry")


def look_up(table: Mapping[str, Entry], name: str, path: str) -> Entry:
    """Return the entry of that name.

    Raises:
        UserError: there is none; the message names the entries.
    """
    if name not in table:
        raise UserError(f"{path}={shown(name)}: expected one of {', '.join(table)}{nearest(name, table)}")
    return table[name]


def check_arguments(function: Callable[..., Any], given: Mapping[str, Any], path: str) -> None:
    """Check that `given` are the keyword-only arguments of `function`, with none missing and none unknown.

    Raises:
        UserError: with a line for each that is unknown or missing.
    """
    takes = {p.name: p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}
    known = [f"{path}.{name}" for name in takes]
    unknown = [unknown_key(f"{path}.{key}", value, known) for key, value in given.items() if key not in takes]
    missing = [f"{path}.{key}: missing" for key, p in takes.items() if key not in given and p.default is p.empty]
    if unknown or missing:
        raise UserError(*unknown, *missing)
