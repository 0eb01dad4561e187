"""Where a run comes from: its config as params and YAML, the versions and the commit it ran with."""

import getpass
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from runner import __version__
from runner.config.schema import Config
from runner.messages.ranges import shown
from runner.messages.redaction import shown_tree
from runner.tracking.checkout import Look
from runner.tracking.processes import process_tags

# The tag whose text MLflow shows as a run's description.
DESCRIPTION = "mlflow.note.content"
# The tag that MLflow shows as a run's version.
MLFLOW_COMMIT = "mlflow.source.git.commit"
# Keys that a repeated run may have otherwise.
NOT_OF_THE_RUN = ("tracking", "name", "tags")
# The one written in C, where there is one, is ten times as fast.
Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_looks: dict[Path, Look] = {}


def look() -> Look:
    """Begin to look at the checkout of the working directory, so that the answer is there when it is wanted."""
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
    """Return the tags of a run: the config's own, then the versions and the commit."""
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
    """Return the tag that MLflow shows as a run's description: a sentence of ours before the user's own."""
    own = shown_tree(config.tags).get(DESCRIPTION)
    return {DESCRIPTION: sentence if own is None else f"{sentence}\n\n{own}"}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's, that has no name
        return str(os.getuid())


def params_of(config: Config) -> dict[str, str]:
    """Return every leaf of the config under its dotted name; a list is a leaf.

    `log_every` is the number that the run uses, where the config leaves it open.
    """
    return dict(_leaves(shown_tree(config.tree | {"log_every": config.recorded_every}), ""))


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
