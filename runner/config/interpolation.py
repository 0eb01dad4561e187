"""Resolves interpolations with limits, and marks what comes from environment variables as secret.

A guarded config consists of containers of subclasses of OmegaConf's, so that OmegaConf itself is not changed. The
counts and variables of one resolution belong to the thread or task that runs it.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from omegaconf import DictConfig, ListConfig, Node, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from runner.config.omegaconf_private import BaseContainer, ResolvingContainer, raw_value, set_class, set_classes
from runner.config.schema import key_help
from runner.config.shipped import public_words
from runner.config.yaml_files import check_size
from runner.messages.redaction import Hidden, hidden, note

# Where to record: not secret; passwords in URIs are hidden everywhere.
PUBLIC = {"uri": "MLFLOW_TRACKING_URI", "experiment": "MLFLOW_EXPERIMENT_NAME"}
# Each reference is resolved again, so that a few lines can expand to a huge config.
MOST_INTERPOLATIONS = 1_000
MOST_CHARACTERS = 1_000_000
NAMED = re.compile(r"\$\{\s*oc\.env:\s*(\w+)")
C = TypeVar("C", bound=BaseContainer)


@dataclass
class _Resolution:
    """The number of interpolations resolved in a config so far, and the environment variables read."""

    interpolations: int = 0
    variables: list[str] = field(default_factory=list)


_current: ContextVar[_Resolution | None] = ContextVar("resolution of a config", default=None)


@contextlib.contextmanager
def resolution() -> Iterator[None]:
    """Start new counts of what is resolved in a config and which environment variables it reads."""
    token = _current.set(_Resolution())
    try:
        yield
    finally:
        _current.reset(token)


class _Guarded(ResolvingContainer):
    """A container that resolves interpolations with limits; so do the containers created in it."""

    def resolve_value(self, *arguments: Any, **named: Any) -> Any:
        """Resolve one value.

        Raises:
            InterpolationResolutionError: too many values were resolved, or one is too long.
        """
        now = _current.get()
        if now is None:  # resolved by Hydra itself
            with resolution():
                return self.resolve_value(*arguments, **named)
        now.interpolations += 1
        if now.interpolations <= MOST_INTERPOLATIONS:
            value = super().resolve_value(*arguments, **named)
            text = raw_value(value)
            if not isinstance(text, str) or len(text) <= MOST_CHARACTERS:
                return value
        raise InterpolationResolutionError(
            f"expected at most {MOST_INTERPOLATIONS:,} interpolations, of {MOST_CHARACTERS:,} characters each"
        )

    def call_resolver(self, name: str, arguments: tuple[Any, ...], texts: tuple[str, ...], key: Any, node: Node) -> Any:
        """Return the result of a resolver; environment variables that it reads are marked as secret."""
        if name == "key_help":
            return key_help()
        if (
            name == "oc.env"
            and len(arguments) > 1
            and arguments[0] in PUBLIC.values()
            and not os.environ.get(arguments[0])
        ):
            arguments = ("", *arguments[1:])  # an empty variable counts as unset, as in MLflow
        if name == "now" and not OmegaConf.has_resolver(name):  # Hydra has not registered it in this process
            return self.cached_results(name).setdefault(texts, datetime.now().strftime(*arguments))  # as Hydra's
        now = _current.get()
        if name == "oc.env" and now is not None and arguments:
            read = [
                variable for variable in arguments[:1] if variable in os.environ and variable not in PUBLIC.values()
            ]
            now.variables += read
            for variable in read:
                note(os.environ[variable], public_words())
        if name == "oc.create" and arguments and isinstance(arguments[0], str):
            check_size(arguments[0], "${oc.create:...}")
        return _guarded(super().call_resolver(name, arguments, texts, key, node))

    def resolve_node(self, *arguments: Any, **named: Any) -> Node | None:
        """Resolve one interpolation; a config in the result is guarded."""
        found: Node | None = _guarded(super().resolve_node(*arguments, **named))
        return found

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return set_class(super().__deepcopy__(memo), _CLASSES)  # type: ignore[misc]  # in the class that this is mixed into


class _GuardedDict(_Guarded, DictConfig):
    pass


class _GuardedList(_Guarded, ListConfig):
    pass


_CLASSES: dict[type, type] = {DictConfig: _GuardedDict, ListConfig: _GuardedList}


def guard(config: C) -> C:
    """Guard a config and all that is in it, in place; return it."""
    set_classes(config, _CLASSES)
    return config


def note_variables(text: str) -> None:
    """Mark the environment variables that a text refers to as secret: Hydra resolves those in a choice of options."""
    for name in NAMED.findall(text):
        if name in os.environ and name not in PUBLIC.values():
            note(os.environ[name], public_words())


def _guarded(value: Any) -> Any:
    return guard(value) if type(value) in _CLASSES else value


def resolved(parent: Any, key: Any, raw: Any, is_text: bool = False) -> Any:
    """Return the resolved value of a key, with texts that come from the environment as hidden ones.

    Args:
        parent: a guarded config, or a part of one.
        key: a key of a mapping, or the index in a list.
        raw: the unresolved value, in plain containers.
        is_text: the key takes texts, so that numbers from the environment are hidden as well.

    Raises:
        OmegaConfBaseException: an interpolation cannot be resolved.
    """
    now = _current.get()
    assert now is not None, "within `resolution`"
    now.variables.clear()
    value = parent[key]
    if not (isinstance(raw, str) and "${" in raw):
        return _members(value, raw, is_text)
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
    if not now.variables:
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Hidden(value) if is_text and is_number else hidden(value)


def _members(node: Any, raw: Any, is_text: bool) -> Any:
    if isinstance(raw, Mapping) and OmegaConf.is_dict(node):
        return {key: resolved(node, key, raw[key], is_text) for key in raw}
    if isinstance(raw, list) and OmegaConf.is_list(node):
        return [resolved(node, index, inner, is_text) for index, inner in enumerate(raw)]
    return node
