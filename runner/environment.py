"""What a config takes from the environment, and how much, found out while it is resolved: used, and never shown."""

import os
from collections.abc import Mapping
from typing import Any

from omegaconf import Node, OmegaConf
from omegaconf.basecontainer import BaseContainer
from omegaconf.errors import InterpolationResolutionError
from omegaconf.resolvers import oc

from runner.hiding import Hidden, hidden

# Where to record: shown, but for the password in it, which every URI is shown without.
PUBLIC = ("MLFLOW_TRACKING_URI",)
# Each is resolved anew wherever it is referred to, so that a few lines that do so can make a config huge.
MOST_INTERPOLATIONS = 1_000
MOST_CHARACTERS = 1_000_000
_read: list[str] = []
_resolved: list[int] = []


def _env(key: str, *default: Any) -> str | None:
    if key in os.environ and key not in PUBLIC:
        _read.append(key)
    return oc.env(key, *default)


_omegaconfs_own = BaseContainer.resolve_parse_tree


def watch(is_watched: bool = True) -> bool:
    """Let `${oc.env:...}` note what it reads, and interpolations not grow without bounds; or no more.

    Return whether it was so before.
    """
    was_watched = BaseContainer.resolve_parse_tree is _bounded
    OmegaConf.register_new_resolver("oc.env", _env if is_watched else oc.env, replace=True)
    BaseContainer.resolve_parse_tree = _bounded if is_watched else _omegaconfs_own  # type: ignore[method-assign, assignment]
    return was_watched


def begin() -> None:
    """Count anew how much is resolved of a config."""
    _resolved.clear()


def _bounded(container: BaseContainer, *arguments: Any, **named: Any) -> Any:
    _resolved.append(1)
    if len(_resolved) <= MOST_INTERPOLATIONS:
        value = _omegaconfs_own(container, *arguments, **named)
        text = value._value() if isinstance(value, Node) else value
        if not isinstance(text, str) or len(text) <= MOST_CHARACTERS:
            return value
    raise InterpolationResolutionError(
        f"expected at most {MOST_INTERPOLATIONS:,} interpolations, of {MOST_CHARACTERS:,} characters each"
    )


def member(parent: Any, key: Any, raw: Any, is_text: bool = False) -> Any:
    """Return what a config holds under a key, resolved, with the texts that come from the environment as hidden ones.

    Args:
        parent: the config, or a part of it.
        key: of a mapping, or the place in a list.
        raw: what stands there, unresolved, in plain containers.
        is_text: numbers are texts here, too.

    Raises:
        OmegaConfBaseException: an interpolation cannot be resolved.
    """
    _read.clear()
    value = parent[key]
    if not (isinstance(raw, str) and "${" in raw):
        return _members(value, raw, is_text)
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
    if not _read:
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Hidden(value) if is_text and is_number else hidden(value)


def _members(node: Any, raw: Any, is_text: bool) -> Any:
    if isinstance(raw, Mapping) and OmegaConf.is_dict(node):
        return {key: member(node, key, raw[key], is_text) for key in raw}
    if isinstance(raw, list) and OmegaConf.is_list(node):
        return [member(node, index, inner, is_text) for index, inner in enumerate(raw)]
    return node
