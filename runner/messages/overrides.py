"""Overrides as they are typed: `key=value`, after `+`, `++` or `~`, the key with `@package` where one is given."""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class OverrideText:
    """The parts of an override.

    Attributes:
        sign: `+`, `++` or `~`, or nothing.
        key: with its package.
        value: as typed; None where there is no `=`.
    """

    sign: str
    key: str
    value: str | None

    @property
    def root(self) -> str:
        """The root key that it sets, or the group that it chooses an option of."""
        return re.split(r"[.@]", self.key, maxsplit=1)[0]


def split_override(text: str) -> OverrideText:
    """Return the parts of an override."""
    unsigned = text.lstrip("+~")
    key, equals, value = unsigned.partition("=")
    return OverrideText(text[: len(text) - len(unsigned)], key, value if equals else None)


def key_of(text: str) -> str:
    """Return the key of an override, with its package."""
    return split_override(text).key


def without_plus(text: str) -> str:
    """Return an override or key without the plus signs before it."""
    return text.lstrip("+")


def allows_code(arguments: Iterable[str]) -> bool:
    """Return whether the command line lets config files name code to run; nothing else can."""
    return any(without_plus(text) in ("allow_code=true", "allow_code=True") for text in arguments)
