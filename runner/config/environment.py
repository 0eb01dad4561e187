"""How our configs resolve what they interpolate: within bounds, and with what comes from the environment noted.

Nothing of OmegaConf is replaced for that: the containers of a config of ours are of classes of our own, and what is
counted and noted while one is resolved belongs to the thread or task that does so.
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
from runner.config.shipped import words_of_ours
from runner.config.yaml_files import check_bounds
from runner.messages.redaction import Hidden, hidden, note

# Where to record: shown, but for the password in it, which every URI is shown without.
PUBLIC = {"uri": "MLFLOW_TRACKING_URI", "experiment": "MLFLOW_EXPERIMENT_NAME"}
# Each is resolved anew wherever it is referred to, so that a few lines that do so can make a config huge.
MOST_INTERPOLATIONS = 1_000
MOST_CHARACTERS = 1_000_000
NAMED = re.compile(r"\$\{\s*oc\.env:\s*(\w+)")
C = TypeVar("C", bound=BaseContainer)


@dataclass
class _Reading:
    """What has been resolved of a config: how many interpolations, and which variables of the environment."""

    interpolations: int = 0
    variables: list[str] = field(default_factory=list)


_current: ContextVar[_Reading | None] = ContextVar("what is read of a config", default=None)


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Count anew how much is resolved of a config, and note anew what it takes from the environment."""
    token = _current.set(_Reading())
    try:
        yield
    finally:
        _current.reset(token)


class _Own(ResolvingContainer):
    """A container of a config of ours: it, and what is made in it, resolves interpolations as we do."""

    def resolve_value(self, *arguments: Any, **named: Any) -> Any:
        """Resolve one text, unless too many or too long ones have been."""
        now = _current.get()
        if now is None:  # Hydra resolves something by itself
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
        """Return what a resolver gives, and note what it takes from the environment."""
        if name == "key_help":
            return key_help()
        if (
            name == "oc.env"
            and len(arguments) > 1
            and arguments[0] in PUBLIC.values()
            and not os.environ.get(arguments[0])
        ):
            arguments = ("", *arguments[1:])  # empty is unset, as for MLflow
        if name == "now" and not OmegaConf.has_resolver(name):  # Hydra has never been started here
            return self.cached_results(name).setdefault(texts, datetime.now().strftime(*arguments))  # as Hydra's
        now = _current.get()
        if name == "oc.env" and now is not None and arguments:
            read = [
                variable for variable in arguments[:1] if variable in os.environ and variable not in PUBLIC.values()
            ]
            now.variables += read
            for variable in read:
                note(os.environ[variable], words_of_ours())
        if name == "oc.create" and arguments and isinstance(arguments[0], str):
            check_bounds(arguments[0], "${oc.create:...}")
        return _owned(super().call_resolver(name, arguments, texts, key, node))

    def resolve_node(self, *arguments: Any, **named: Any) -> Node | None:
        """Resolve one interpolation, to a config of ours where it is one."""
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
    """Make a config, and all that is in it, one of ours, which resolves as we do; return it."""
    set_classes(config, _CLASSES)
    return config


def note_named(text: str) -> None:
    """Note what a text would take from the environment: of a choice of options Hydra resolves it by itself."""
    for name in NAMED.findall(text):
        if name in os.environ and name not in PUBLIC.values():
            note(os.environ[name], words_of_ours())


def _owned(value: Any) -> Any:
    return own(value) if type(value) in _CLASSES else value


def member(parent: Any, key: Any, raw: Any, is_text: bool = False) -> Any:
    """Return what a config holds under a key, resolved, with the texts that come from the environment as hidden ones.

    Args:
        parent: the config, one of ours, or a part of it.
        key: of a mapping, or the place in a list.
        raw: what stands there, unresolved, in plain containers.
        is_text: numbers are texts here, too.

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
