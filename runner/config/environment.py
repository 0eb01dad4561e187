"""Resolving the interpolations of configs: limited in number and size, with values of the environment tracked.

OmegaConf itself is not patched: the containers of a config get subclasses of its classes, and the counts belong to
the thread or task that resolves.
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
from runner.config.yaml_files import check_bounds
from runner.messages.redaction import Hidden, hidden, note

# These variables are not secret, except for the password in a URI, which is always hidden.
PUBLIC = {"uri": "MLFLOW_TRACKING_URI", "experiment": "MLFLOW_EXPERIMENT_NAME"}
# An interpolation is resolved again at each reference, so a few lines can make a config huge.
MOST_INTERPOLATIONS = 1_000
MOST_CHARACTERS = 1_000_000
NAMED = re.compile(r"\$\{\s*oc\.env:\s*(\w+)")
C = TypeVar("C", bound=BaseContainer)


@dataclass
class _Reading:
    """How many interpolations have been resolved, and which environment variables they read."""

    interpolations: int = 0
    variables: list[str] = field(default_factory=list)


_current: ContextVar[_Reading | None] = ContextVar("interpolations resolved", default=None)


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Start a new count of the interpolations resolved and the environment variables read."""
    token = _current.set(_Reading())
    try:
        yield
    finally:
        _current.reset(token)


class _Own(ResolvingContainer):
    """A container that resolves its interpolations within bounds, as do the containers in it."""

    def resolve_value(self, *arguments: Any, **named: Any) -> Any:
        """Resolve one text; refuse to after too many, or too long ones."""
        now = _current.get()
        if now is None:  # outside `reading`, by Hydra
            with reading():
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
        """Return the value of a resolver, and track the environment variable that it reads."""
        if name == "key_help":
            return key_help()
        if (
            name == "oc.env"
            and len(arguments) > 1
            and arguments[0] in PUBLIC.values()
            and not os.environ.get(arguments[0])
        ):
            arguments = ("", *arguments[1:])  # an empty variable counts as unset, as in MLflow
        if name == "now" and not OmegaConf.has_resolver(name):  # Hydra registers it at its start
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
            check_bounds(arguments[0], "${oc.create:...}")
        return _owned(super().call_resolver(name, arguments, texts, key, node))

    def resolve_node(self, *arguments: Any, **named: Any) -> Node | None:
        """Resolve one interpolation; a container gets our classes."""
        found: Node | None = _owned(super().resolve_node(*arguments, **named))
        return found

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return set_class(super().__deepcopy__(memo), _CLASSES)  # type: ignore[misc]  # of the class that this is mixed into


class _OwnDict(_Own, DictConfig):
    pass


class _OwnList(_Own, ListConfig):
    pass


_CLASSES: dict[type, type] = {DictConfig: _OwnDict, ListConfig: _OwnList}


def own(config: C) -> C:
    """Give a config and everything in it our classes, and return it."""
    set_classes(config, _CLASSES)
    return config


def note_named(text: str) -> None:
    """Hide the environment variables that a text refers to: Hydra itself resolves those in the choice of an option."""
    for name in NAMED.findall(text):
        if name in os.environ and name not in PUBLIC.values():
            note(os.environ[name], public_words())


def _owned(value: Any) -> Any:
    return own(value) if type(value) in _CLASSES else value


def member(parent: Any, key: Any, raw: Any, is_text: bool = False) -> Any:
    """Return the resolved value under a key; texts from the environment become `Hidden`.

    Args:
        parent: the config, with our classes, or a part of it.
        key: of a mapping, or an index of a list.
        raw: the unresolved value, in plain containers.
        is_text: whether numbers from the environment are hidden too.

    Raises:
        OmegaConfBaseException: an interpolation cannot be resolved.
    """
    now = _current.get()
    assert now is not None, "within `reading`"
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
        return {key: member(node, key, raw[key], is_text) for key in raw}
    if isinstance(raw, list) and OmegaConf.is_list(node):
        return [member(node, index, inner, is_text) for index, inner in enumerate(raw)]
    return node
