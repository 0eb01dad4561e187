"""The origin of a run: its config as params and YAML, its versions and its git commit."""

import getpass
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from runner import __version__
from runner.config.schema import TYPED, Config, keys_of
from runner.messages.ranges import shown
from runner.messages.redaction import shown_tree
from runner.tracking.checkout import Look
from runner.tracking.processes import process_tags

# MLflow shows the text of this tag as the description of a run.
DESCRIPTION = "mlflow.note.content"
# MLflow shows this tag as the version of a run.
MLFLOW_COMMIT = "mlflow.source.git.commit"
# Keys that do not change what a repeated run computes.
NOT_OF_THE_RUN = ("tracking", "name", "tags")
NOT_PARAMS = ("name", "parent_run", "log_every")
ROOTS = (*(key for key in keys_of(Config) if key not in NOT_PARAMS), "log_every")
# The dumper written in C, if available, is ten times as fast.
Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_looks: dict[Path, Look] = {}


def look() -> Look:
    """Start checking the git checkout of the working directory, so that the answer is ready when it is needed."""
    folder = Path.cwd()
    begun = _looks.get(folder)
    if begun is None or begun.is_read:
        begun = _looks[folder] = Look.at(folder)
    return begun


def git_tags() -> dict[str, str]:
    """Return the commit of the working directory, under MLflow's name too, and whether it has uncommitted changes."""
    tags = (_looks.get(Path.cwd()) or look()).tags()
    return tags | ({MLFLOW_COMMIT: tags["git.commit"]} if "git.commit" in tags else {})


def tags_of(config: Config) -> dict[str, str]:
    """Return the tags of a run: those of its config, its versions, its process and its commit."""
    own = {key: str(value) for key, value in shown_tree(config.tags).items()}
    return own | {
        "mlflow.user": _user(),
        "mlflow.source.name": "runner",
        "mlflow.source.type": "LOCAL",
        "version.python": platform.python_version(),
        "version.runner": __version__,
        **process_tags(),
        **git_tags(),
    }


def described(config: Config, sentence: str) -> dict[str, str]:
    """Return the tag with the description of a run: a sentence, followed by the user's own description."""
    own = shown_tree(config.tags).get(DESCRIPTION)
    return {DESCRIPTION: sentence if own is None else f"{sentence}\n\n{own}"}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        return str(os.getuid())


def params_of(config: Config, roots: Iterable[str] = ROOTS) -> dict[str, str]:
    """Return the leaves of the config, or of some of its root keys, under their dotted keys; a list is a leaf.

    The keys that say nothing about what is computed are left out: the name, which MLflow has, the parent, how the jobs
    of a sweep are recorded, and `log_every` unless it is set.
    """
    tree = {root: _part(config, root) for root in roots if root != "log_every" or config.log_every is not None}
    return dict(_leaves(shown_tree(tree), "")) if tree else {}


def _part(config: Config, root: str) -> Any:
    value = getattr(config, root)
    tree = value.tree if root in TYPED else value
    return {key: inner for key, inner in tree.items() if key != "children"} if root == "tracking" else tree


def config_yaml(config: Config) -> str:
    """Return the config as YAML, secrets hidden."""
    text: str = yaml.dump(shown_tree(config.tree), Dumper=Dumper, sort_keys=False)
    return text


def hidden_keys(tree: Mapping[str, Any]) -> list[str]:
    """Return, for a config or a part of it, the dotted keys of the secrets without which a run cannot be repeated."""
    needed = {key: value for key, value in tree.items() if key not in NOT_OF_THE_RUN}
    return list(_hidden(needed, shown_tree(needed), ""))


def _hidden(value: Any, shown: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict) and isinstance(shown, dict):
        for key, inner in value.items():
            yield from _hidden(inner, shown[key], f"{path}.{key}" if path else str(key))
    elif shown != value:
        yield path


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value if isinstance(value, str) else shown(value, limit=None)
