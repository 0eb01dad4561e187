"""Checks of a resolved config against the schema and the YAML files of the chosen options."""

import functools
import re
from collections.abc import Iterator
from typing import Any

from runner.config.checking import problems
from runner.config.declared import not_given, unlike_declared
from runner.config.shipped import config_folder
from runner.messages.errors import nearest
from runner.messages.ranges import shown
from runner.messages.redaction import Hidden

# Of the primary config: what `steps` is where it is not given.
DEFAULT_STEPS = 1000


@functools.cache
def shipped_options(group: str) -> tuple[str, ...]:
    """Return the options of a group that come with the runner: the names that a file of the group may hold."""
    return tuple(sorted(file.stem for file in (config_folder() / group).glob("*.yaml")))


def mistakes_in(tree: dict[str, Any], declared: dict[str, Any]) -> list[str]:
    """Return a line for each mistake in a resolved config.

    Args:
        tree: the config.
        declared: by group, the keys of the file of the chosen option.
    """
    found = [line for group in declared for line in _unknown_name(group, tree[group])]
    if "experiment" in tree:
        given = shown(tree["experiment"])
        found.append(f"experiment={given}: expected '# @package _global_' as the first line of the experiment's file")
    for lines in (
        problems(tree),
        _steps_and_epochs(tree),
        (line for group, keys in declared.items() for line in unlike_declared(tree[group], keys, group)),
        (line for group, keys in declared.items() for line in not_given(tree[group], keys, group)),
    ):
        reported = set(map(_key_of, found))
        found += [line for line in lines if _key_of(line) not in reported]
    return [f"{line}{_hint_to_decode(tree, _key_of(line))}" for line in found]


def _steps_and_epochs(tree: dict[str, Any]) -> Iterator[str]:
    steps, objective = tree.get("steps"), tree.get("objective")
    epochs = objective.get("epochs") if isinstance(objective, dict) else None
    if epochs is not None and steps != DEFAULT_STEPS:
        yield f"objective.epochs={shown(epochs)}: expected null, since steps={shown(steps)} is given"


def _hint_to_decode(tree: dict[str, Any], path: str) -> str:
    """Return how to read a number from the environment, where the value at a path comes from there as text."""
    value: Any = tree
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if not isinstance(value, Hidden):
        return ""
    return f"; the environment gives text, '{path}=\"${{oc.decode:${{oc.env:NAME}}}}\"' reads it as a number"


def _unknown_name(group: str, settings: Any) -> Iterator[str]:
    name, options = settings.get("name") if isinstance(settings, dict) else None, shipped_options(group)
    if isinstance(name, str) and name not in options:
        yield f"{group}.name={shown(name)}: expected one of {', '.join(options)}{nearest(name, options)}"


def _key_of(line: str) -> str:
    return re.split("[=:]", line, maxsplit=1)[0]
