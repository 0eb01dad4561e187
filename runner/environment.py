"""What a config takes from the environment, found out while it is resolved: such texts are used and never shown."""

import os
from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf
from omegaconf.resolvers import oc

from runner.hiding import Hidden, hidden

# Where to record: shown, but for the password in it, which every URI is shown without.
PUBLIC = ("MLFLOW_TRACKING_URI",)
_read: list[str] = []


def _env(key: str, *default: Any) -> str | None:
    if key in os.environ and key not in PUBLIC:
        _read.append(key)
    return oc.env(key, *default)


def watch() -> None:
    """Let `${oc.env:...}` note what it reads, however an interpolation comes to it."""
    OmegaConf.register_new_resolver("oc.env", _env, replace=True)


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
