"""Settings given in Python, `run(lr=0.05)` or `run({"lr": 0.05})`, converted to overrides of the command line."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from runner.composition.override_functions import parser
from runner.config.schema import GROUPS
from runner.messages.errors import UserError
from runner.messages.ranges import shown

EXPECTED = "expected a list of texts, such as ['lr=0.05', 'steps=200'], or a mapping, such as {'lr': 0.05}"
PLAIN_KEY = re.compile(r"[+~]{0,2}[A-Za-z_]\w*(?:[./@:][\w/@:]+)*")


def as_overrides(given: Iterable[str] | Mapping[str, Any], settings: Mapping[str, Any], may_vary: bool) -> list[str]:
    """Return a list or mapping of settings, and further settings by name, as overrides.

    Args:
        given: overrides, or values by key; keys may be dotted, and mappings nested.
        settings: further values by key.
        may_vary: whether a text or a tuple may give several values, as in a sweep.

    Raises:
        UserError: it is neither a list nor a mapping, or a value has a type that no config can have.
    """
    if isinstance(given, Mapping):
        texts = list(_of_mapping(given, may_vary))
    elif isinstance(given, str) or not isinstance(given, Iterable):
        raise UserError(f"overrides={given!r}: {EXPECTED}")
    else:
        texts = list(given)
        if not all(isinstance(text, str) for text in texts):
            raise UserError(f"overrides={given!r}: {EXPECTED}")
    return [*texts, *_of_mapping(settings, may_vary)]


def _of_mapping(mapping: Mapping[Any, Any], may_vary: bool, above: str = "") -> Iterator[str]:
    for name, value in mapping.items():
        key = f"{above}{name}"
        if not isinstance(name, str) or not PLAIN_KEY.fullmatch(name):
            raise UserError(f"{key}={value!r}: expected a key of the config, such as lr or optimizer.momentum")
        if not isinstance(value, Mapping) or not value:
            yield _override(key, value, may_vary)
        elif not all(isinstance(inner, str) and PLAIN_KEY.fullmatch(inner) for inner in value):
            yield f"{key}={_text(key, value)}"
        else:
            rest = dict(value)
            if key in GROUPS and "name" in rest:  # chooses an option of the group
                yield _override(key, rest.pop("name"), may_vary)
            yield from _of_mapping(rest, may_vary, f"{key}.")


def _override(key: str, value: Any, may_vary: bool) -> str:
    if isinstance(value, tuple) and may_vary:
        return f"{key}={','.join(_text(key, item) for item in value)}"
    if not isinstance(value, str):
        return f"{key}={_text(key, value)}"
    text = f"{key}={value}"  # as on the command line
    try:
        is_one = not parser().parse_override(text).is_sweep_override()
    except (HydraException, UserError):
        return f"{key}={_text(key, value)}"
    return text if is_one or may_vary else f"{key}={_text(key, value)}"


def _text(key: str, value: Any) -> str:
    """Return a value in Hydra's grammar."""
    if hasattr(value, "tolist"):  # NumPy or torch
        value = value.tolist()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if value is None or isinstance(value, bool | int | float):
        return shown(value)
    if isinstance(value, str):
        return QuotedString(value, Quote.single).with_quotes()
    if isinstance(value, list | tuple):
        return f"[{','.join(_text(key, item) for item in value)}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{_text(key, str(name))}:{_text(key, inner)}' for name, inner in value.items())}}}"
    raise UserError(f"{key}={value!r}: expected a number, a text, true, false, None, or a list or mapping of these")
