"""Settings given from Python, `run(lr=0.05)` or `run({"lr": 0.05})`, as the overrides that the command line takes."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from runner.composition.spaces import parser
from runner.config.schema import GROUPS
from runner.messages.errors import UserError
from runner.messages.ranges import shown

EXPECTED = "expected a list of texts, such as ['lr=0.05', 'steps=200'], or a mapping, such as {'lr': 0.05}"
PLAIN_KEY = re.compile(r"[+~]{0,2}[A-Za-z_]\w*(?:[./@:][\w/@:]+)*")


def as_overrides(given: Iterable[str] | Mapping[str, Any], settings: Mapping[str, Any], may_vary: bool) -> list[str]:
    """Return overrides for what was given as a list of them or as a mapping, and for the settings named beside it.

    Args:
        given: overrides, or values by key, in mappings within each other or under dotted keys.
        settings: further values by key.
        may_vary: a text may stand for several values, as in a sweep, and a tuple does.

    Raises:
        UserError: it is neither, or some value can stand in no config.
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
            if key in GROUPS and "name" in rest:  # chooses an option, with its file
                yield _override(key, rest.pop("name"), may_vary)
            yield from _of_mapping(rest, may_vary, f"{key}.")


def _override(key: str, value: Any, may_vary: bool) -> str:
    if isinstance(value, tuple) and may_vary:
        return f"{key}={','.join(_text(key, item) for item in value)}"
    if not isinstance(value, str):
        return f"{key}={_text(key, value)}"
    text = f"{key}={value}"  # as it would be typed
    try:
        is_one = not parser().parse_override(text).is_sweep_override()
    except (HydraException, UserError):
        return f"{key}={_text(key, value)}"
    return text if is_one or may_vary else f"{key}={_text(key, value)}"


def _text(key: str, value: Any) -> str:
    """Return a value as Hydra's grammar has it."""
    if hasattr(value, "tolist"):  # of numpy or torch
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
